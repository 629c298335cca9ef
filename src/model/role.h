/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Roles of people, and the rights that they give. Pure.
 */
#pragma once

#include <stdbool.h>

/* clang-format off */
/*    role                word             meaning; each has what those above it have */
#define ROLE_TABLE(X)                                                          \
    X(ROLE_NONE,          "none",          "sees nothing of the VM")            \
    X(ROLE_VIEWER,        "viewer",        "sees it, and changes nothing")      \
    X(ROLE_OPERATOR,      "operator",      "snapshots, starts and stops it")    \
    X(ROLE_ADMINISTRATOR, "administrator", "users, storage, import, the doctor's fixes, changing and removing VMs")
/*    right               word             what a request needs */
#define RIGHT_TABLE(X)                                                              \
    X(RIGHT_PUBLIC,       "public",        "nothing: also without a sign-in")        \
    X(RIGHT_SIGNED_IN,    "signed-in",     "a sign-in: it tells nothing of VMs, or only of those that the user may see") \
    X(RIGHT_READ,         "read",          "viewer")                                 \
    X(RIGHT_OPERATE,      "operate",       "operator")                               \
    X(RIGHT_ADMINISTER,   "administer",    "administrator")                          \
    X(RIGHT_OWN,          "own",           "being the user whom the path names, or administrator")
/* clang-format on */

#define X(role, word, meaning) role,
typedef enum { ROLE_TABLE(X) ROLE_LAST } Role;
#undef X
#define X(right, word, meaning) right,
typedef enum { RIGHT_TABLE(X) RIGHT_LAST } Right;
#undef X

const char *role_word(Role role);
bool role_from_word(const char *word, Role *ret_role); /* NULL is no word */
const char *right_word(Right right);
/* Has who is signed in with this role the right? */
bool role_has(Role role, Right right);
