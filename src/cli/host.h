/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is shown of VMs is what their host has told; one that does not answer is named.
 */
#pragma once

#include "cli/cli.h"

/* One line for each host that does not answer, and why. An error is no news: nothing is said. */
void host_say_silent(Cli *cli);
/* The same if that is so of this VM. */
void host_say_silent_of(Cli *cli, const json_t *vm);
