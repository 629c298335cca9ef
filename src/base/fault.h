/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Fault points: places where a test can make the program stop or die.
 *
 * Promise: costs one compare when nothing is armed.
 *
 * In one process, fault_arm(n) fires once, at the n-th point passed, whichever
 * that is: a test that loops n = 0, 1, 2, ... until fault_fired() stays false
 * has stopped the code at every point it has.
 *
 * For real daemons the environment variable LIVEMERGE_FAULTS holds
 * "NAME=ACTION@N[,NAME=ACTION@N...]", ACTION one of die (SIGKILL to itself), stop
 * (SIGSTOP: a test changes something and sends SIGCONT) and error, N counting from
 * 1: the N-th time the point is passed. A point that is not named does nothing. Read once, by
 * fault_init(). LIVEMERGE_FAULT_TRACE=FILE appends the name of each point that is passed, a line each.
 *
 * Threads: any.
 */
#pragma once

#include "base/error.h"

void fault_init(void);
void fault_arm(int countdown);
bool fault_fired(void);
/* Returns true to go on; false with ERR_STOPPED set when the point fires. */
bool fault_point(const char *name, GError **error);
