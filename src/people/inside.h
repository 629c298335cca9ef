/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Inside of people/: what is kept in memory.
 */
#pragma once

#include "people/limit.h"
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
/* With writing held: from the memory (the store has lost them already) */
void tokens_forget(People *people, const char *name);

typedef struct {
    char *name;
    unsigned life;
    int64_t until_us;
} Remembered;
void remembered_free(Remembered *remembered);
