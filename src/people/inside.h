/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Inside of people/: what is kept in memory.
 */
#pragma once

#include "people/limit.h"
#include "people/pam.h"
#include "people/password.h"
#include "people/people.h"

typedef struct {
    PersonRow *row;
    Role role;
    GHashTable *vms; /* VM id → Role; never changed, only replaced */
    unsigned life;   /* grows with each password */
} Member;

typedef struct {
    TokenRow *row;
    TokenKind kind;
    int64_t saved; /* the time of last use that the store knows */
} Token;

struct People {
    Store *store;
    GMutex writing;      /* one change at a time: the store, then the memory. Taken before lock */
    GMutex lock;         /* of what follows; never held while the store is written */
    GHashTable *members; /* name → Member */
    GHashTable *tokens;  /* hash → Token */
    GHashTable *basic;   /* keyed hash of credentials → Remembered (sign_in.c) */
    unsigned char key[32];
    unsigned lives;
    Passwords *passwords;
    Pam *pam; /* who knows the passwords; NULL = we do */
    Limit *peers, *names;
};

/* "alice@internal" → "alice"; NULL = another profile, or no name at all */
char *people_plain_name(const char *text);
/* With lock held. */
Who *people_who(const Member *member);
/* 256 random bits; false = the kernel gave none */
bool people_random(unsigned char bytes[32], GError **error);

bool tokens_load(People *people, GError **error);
void token_free(Token *token);
const char *token_kind_word(TokenKind kind);
/* If it is not used until then. */
int64_t token_ends(const Token *token);
/* From the store, then from the memory. With writing held. */
bool token_drop(People *people, const char *hash, GError **error);
/* With writing held: from the memory (the store has lost them already). keep: the hash of one that
 * stays; NULL = none */
void tokens_forget(People *people, const char *name, const char *keep);

/* A copy of the user's row, to be changed; ERR_NOT_FOUND */
PersonRow *people_row(People *people, const char *name, GError **error);
/* Stores the row (taken) and then has it in memory. new_life: what was found with the old one is
 * void. With writing held. */
bool people_save(People *people, PersonRow *row, bool new_life, GError **error);
/* Are they ours to set? */
bool people_has_passwords(const People *people, GError **error);
/* Ends the tokens of the user but keep (NULL = all), and stores the hash (taken). life: of the
 * password that it replaces, ERR_BUSY if that is another by now; 0 = whatever it is */
bool people_put_hash(People *people, const char *name, char *hash, unsigned life, const char *keep,
                     GError **error);

typedef struct {
    char *name;
    unsigned life;
    int64_t until_us;
} Remembered;
void remembered_free(Remembered *remembered);
