/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The simulator's stage piece by piece, for who tries many histories (history.c): the body stops by
 * fiber_break(), and then the world can be saved, put back (sim/state.h), and go on by other luck.
 */
#pragma once

#include "stage.h"

/* stage_run() without running. */
void stage_begin(unsigned disks, uint64_t seed, void (*body)(void *), void *data);
/* Until the body has ended (false) or has set *stops (true), which lies outside of what is saved.
 */
bool stage_go_on(const bool *stops);
/* From here on chance is another, and in which of its windows libvirtd can be killed. */
void stage_choose(uint64_t chance);
/* What the simulator's world is like, without times: worlds of the same kind go on alike. */
uint64_t stage_kind(void);
/* The same without what files hold: cheap enough to be asked all the time. */
uint64_t stage_kind_now(void);
