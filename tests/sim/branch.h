/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A unit of work (explore.h) on its way: before which points the world is saved, which schedules
 * branch off there, and what is said of one that goes wrong.
 */
#pragma once

#include "explore.h"

#define SLICES 16   /* units of one flow, each with another part of its points */
#define BRANCHES 32 /* of a unit by chance */
#define VARIANTS 4  /* from the same point */

typedef enum { NEAR, SINGLE, PAIRS, SWARM } Kind;

typedef struct {
    Kind kind;
    Schedule base;
    unsigned slice;
    uint64_t at[BRANCHES / VARIANTS]; /* points at which schedules branch off, but for SINGLE */
    unsigned kinds;                   /* bits: what may happen */
    uint64_t chance;                  /* of the unit */
    Schedule given;                   /* of NEAR: its neighbours branch off */
    unsigned near;
} Unit;

extern const Explore *explore_how;
extern Unit unit;
uint64_t explore_mix(uint64_t number);
uint64_t explore_draw(uint64_t below); /* of the unit's chance */
bool explore_is_over(void);

void branch_prepare(void);
void branch_worker(unsigned slot); /* this process is that one */
void branch_run_unit(void);        /* all of it: the world is not put back at its end */
