/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Schedules that once went wrong. Points shift a little whenever the product changes, so all faults
 * of one are moved together, to both sides, up to KNOWN_SHIFT points.
 */
#include "world.h"

/* clang-format off */
static const struct {
    const char *flow;
    uint64_t seed;
    Fault faults[4];
    unsigned lies;
    bool strict;
    const char *what; /* went wrong */
    uint64_t salt;
} table[] = {
    { "agent-commit", 3, { { FAULT_LIBVIRTD, 46 } }, LIE_FORGETS, false,
      "libvirt lists merged volumes for ever: they could not be deleted" },
    { "create", 9, { { FAULT_POWER, 118 } }, LIE_DEFINITION, false,
      "a snapshot was done although the host had lost the switch" },
    { "agent-create", 1, { { FAULT_POWER, 42 } }, LIE_DEFINITION, false, "the same, in the agent" },
    { "delete-internal",
      149927609130067,
      { { FAULT_AGENT, 162 }, { FAULT_POWER, 238 } },
      0,
      true,
      "a name that an earlier try had removed came back" },
    { "delete-off",
      177539252003143,
      { { FAULT_POWER, 200 }, { FAULT_AGENT, 399 } },
      LIE_HEADER | LIE_DEFINITION | LIE_REFUSES | LIE_LOST_EVENTS,
      false,
      "a definition that names a deleted file was not mended while an operation waited for it" },
    { "agent-cold", 1, { { FAULT_FULL, 64 } }, 0, false,
      "a cold switch that a full storage did not record was tried again without a pause" },
    { "delete-graft", 1, { { FAULT_FULL, 16 } }, 0, false,
      "a full storage was taken for one that cannot share blocks" },
    { "delete-off", 1, { { FAULT_STORAGE, 147 } }, 0, false,
      "a disk that could not be read had another id each time, and each look was news" },
    { "delete-newest",
      100672897425911,
      { { FAULT_AGENT, 65 } },
      LIE_OFTEN | LIE_WRONG_ERROR | LIE_NO_JOB,
      false,
      "a job whose start had been answered by an error was left behind" },
    { "agent-two-disks",
      98021960858129,
      { { FAULT_AGENT, 67 }, { FAULT_AGENT, 348 } },
      LIE_VERY_LATE | LIE_WRONG_ERROR | LIE_NO_JOB,
      false,
      "the same" },
    { "delete-all",
      100592611052862,
      { { FAULT_POWER, 257 }, { FAULT_ALL, 263 }, { FAULT_POWER, 264 } },
      2560,
      true,
      "a definition that the power took back was stale beside another disk's merge: files stayed" },
    { "agent-two-disks",
      12681245407850,
      { { FAULT_SHUTDOWN, 76 }, { FAULT_AGENT, 205 }, { FAULT_LIBVIRTD, 223 } },
      17264,
      false,
      "a VM that could not be looked at yet was said not to be there: its volumes stayed",
      47365 },
    { "delete-off",
      169035803275478,
      { { FAULT_AGENT, 153 }, { FAULT_POWER, 165 } },
      0,
      true,
      "a merge was done when its manifest was there, but not durable",
      809727 },
    { "agent-create-off",
      54866681146753,
      { { FAULT_NETWORK, 40 }, { FAULT_CLOCK, 45 }, { FAULT_POWER, 60 } },
      LIE_VERY_LATE | LIE_OFTEN | LIE_DEFINITION,
      false,
      "the clock was set back before a manifest was written: an old definition was believed",
      785563 },
};
/* clang-format on */

/* 0, 1, -1, 2, -2 ... */
static int64_t
shift_of(uint64_t i)
{
    return i % 2 == 1 ? (int64_t)(i / 2 + 1) : -(int64_t)(i / 2);
}

void
schedule_shift(Schedule *p, uint64_t i)
{
    for (unsigned k = 0; k < p->n_faults; k++) {
        int64_t at = (int64_t)p->faults[k].at + shift_of(i);
        p->faults[k].at = at > 0 ? (uint64_t)at : 1;
    }
}

bool
known_schedule(uint64_t row, Schedule *p)
{
    if (row >= G_N_ELEMENTS(table))
        return false;
    *p = (Schedule){ .flow = flow_find(table[row].flow),
                     .seed = table[row].seed,
                     .lies = table[row].lies,
                     .salt = table[row].salt,
                     .strict = table[row].strict };
    while (p->n_faults < G_N_ELEMENTS(table[row].faults) &&
           table[row].faults[p->n_faults].kind != FAULT_NONE) {
        p->faults[p->n_faults] = table[row].faults[p->n_faults];
        p->n_faults++;
    }
    return true;
}
