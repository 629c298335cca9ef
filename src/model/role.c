/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model/role.h"

#include <glib.h>

const char *
role_word(Role role)
{
#define X(role_, word, meaning) [role_] = (word),
    static const char *const words[] = { ROLE_TABLE(X) };
#undef X
    return words[role];
}

bool
role_from_word(const char *word, Role *ret_role)
{
    for (Role role = ROLE_NONE; role < ROLE_LAST; role++)
        if (g_strcmp0(word, role_word(role)) == 0) {
            *ret_role = role;
            return true;
        }
    return false;
}

const char *
right_word(Right right)
{
#define X(right_, word, meaning) [right_] = (word),
    static const char *const words[] = { RIGHT_TABLE(X) };
#undef X
    return words[right];
}

bool
role_has(Role role, Right right)
{
    static const Role needed[] = { [RIGHT_PUBLIC] = ROLE_NONE,
                                   [RIGHT_SIGNED_IN] = ROLE_NONE,
                                   [RIGHT_READ] = ROLE_VIEWER,
                                   [RIGHT_OPERATE] = ROLE_OPERATOR,
                                   [RIGHT_ADMINISTER] = ROLE_ADMINISTRATOR,
                                   [RIGHT_OWN] = ROLE_ADMINISTRATOR };

    return right >= 0 && right < RIGHT_LAST && role >= needed[right];
}
