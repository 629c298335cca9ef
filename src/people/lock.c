/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Locking a user out, and letting him in again.
 */
#include "base/clock.h"
#include "people/inside.h"

bool
people_set_locked(People *people, const Who *who, const char *name, bool locked, bool *ret_changed,
                  GError **error)
{
    WITH_LOCK(&people->writing);
    g_autoptr(PersonRow) row = people_row(people, name, error);

    *ret_changed = false;
    if (row == NULL || (row->locked != 0) == locked)
        return row != NULL;
    if (locked && people_is(who, row->name))
        return error_set(error, ERR_REFUSED,
                         "locked: that is yourself; another administrator can lock you out, or "
                         "root on the manager's machine");
    row->locked = locked ? clock_wall_ms() : 0;
    /* if this stops in between, the tokens are gone and the user may still sign in */
    if (locked && !store_tokens_remove(people->store, row->name, NULL, error))
        return false;
    if (locked)
        tokens_forget(people, row->name, NULL);
    *ret_changed = people_save(people, g_steal_pointer(&row), locked, error);
    return *ret_changed;
}
