/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Asking for passwords: on the terminal without showing them, else a line of standard input.
 */
#pragma once

#include "cli/cli.h"

/* The caller frees it. ERR_CANCELLED: Ctrl-C, or the input ended. */
char *ask_password(Cli *cli, const char *prompt, GError **error);
/* A new one: on a terminal it is asked for twice. */
char *ask_new_password(Cli *cli, const char *user, GError **error);
