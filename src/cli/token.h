/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What "livemerge login" keeps: for each address a token, whose it is, and the authority to trust,
 * in $XDG_CONFIG_HOME/livemerge/tokens.json (0600). Passwords are kept nowhere. $LIVEMERGE_TOKEN is
 * taken instead, for any address.
 *
 * Errors: ERR_REFUSED for a file that others may read or write. Threads: one.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

typedef struct {
    char *token; /* NULL = none for this address */
    char *user;
    char *ca; /* a file; NULL = the system's */
} TokenEntry;
void token_entry_clear(TokenEntry *entry);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(TokenEntry, token_entry_clear)

/* Without what stands behind host and port; the caller frees it. */
char *token_address(const char *text);
bool token_load(const char *address, TokenEntry *ret_entry, GError **error);
bool token_save(const char *address, const TokenEntry *entry, GError **error);
/* Nothing is there: fine. */
bool token_forget(const char *address, GError **error);
