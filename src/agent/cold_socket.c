/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The sockets of storage daemons, which are named after their operations.
 */
#include "agent/merge.h"

static char *
name_of(const char *op_id)
{
    return g_strdup_printf("cold-%.8s.sock", op_id);
}

char *
cold_socket_path(const Agent *agent, const char *op_id)
{
    g_autofree char *name = name_of(op_id);

    return g_build_filename(agent->run_dir, name, NULL);
}

bool
cold_is_socket(const char *name)
{
    return g_pattern_match_simple("cold-????????.sock", name);
}

bool
cold_is_socket_of(const char *name, const char *op_id)
{
    g_autofree char *own = name_of(op_id);

    return g_str_equal(name, own);
}
