/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What could stand here? For the shells' completion: livemerge __complete WORD... CURRENT prints
 * one candidate a line. Promise: never longer than a second, never a message, always exit 0.
 */
#pragma once

#include "cli/cli.h"

/* words: what follows the program's name up to the cursor; the last one is being typed (may be
 * empty). */
void complete_words(const CliIo *io, int n_words, const char *const *words);
