/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is known of libvirt 9.0 and QEMU 7.2 that our protocol rests on, or guards against: each
 * fact is a body that shows it on the real ones.
 */
#pragma once

#include "ops.h"
#include "stage_real.h"

typedef struct {
    Ops ops;
    unsigned round;  /* of a fact that is shown by chance: from 0 */
    unsigned rounds; /* at most */
    bool shown;      /* no further rounds */
    char *wrong;     /* the first thing that was not as said */
} Run;

typedef struct {
    const char *name;
    const char *rule; /* ours, that rests on it */
    unsigned disks, rounds;
    void (*body)(Run *run);
} Fact;

/* The answer to this line is this one ("ok|busy", "*"); after the first that is not, nothing more
 * is done or asked. */
bool must(Run *run, const char *line, const char *answer);
bool is_so(Run *run, bool so, const char *what);
/* The name of the file that QEMU itself has as the leaf of vda; the caller frees. */
char *qemu_leaf(void);
/* At the moment when QEMU has this leaf; libvirt is then about to note it. */
void kill_libvirtd_when(const char *leaf);
/* Begins this line, and waits for a part of the time that it took when it was not disturbed
 * (longer from round to round); in round 0 all of it. */
void begin_and_wait(Run *run, const char *line);

/* Each ends with a NULL name. */
extern const Fact hazard_facts[], job_facts[], image_facts[];
