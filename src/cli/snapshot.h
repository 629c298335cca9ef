/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the verbs about snapshots share.
 */
#pragma once

#include "cli/cli.h"

/* The VM that the first argument means, and its snapshots. */
bool snapshot_load(Cli *cli, json_t **ret_vm, json_t **ret_snapshots, GError **error);
