/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The contract of src/hypervisor/hypervisor.h, as libvirt and QEMU keep it: tables of lines
 * (ops.h) and their answers, which must hold on the simulator and on the real ones alike.
 */
#pragma once

#include "ops.h"

typedef struct {
    const char *line;
    const char *answer; /* several: "ok|busy"; "*": any */
} Step;

typedef struct {
    const char *name;
    const char *rule; /* of the product, that rests on it */
    unsigned disks;   /* 0 means 1 */
    /* "moment" lasts up to so long: from nothing in this many tries (of the real one; the
     * simulator tries more) */
    unsigned longest_us, tries;
    const Step *steps;
} Case;
#define STEPS(...) ((const Step[]){ __VA_ARGS__, { NULL, NULL } })

/* Each ends with a NULL name. */
extern const Case chain_cases[], job_cases[], death_cases[], power_cases[];
