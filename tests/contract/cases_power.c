/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Starting and stopping a VM, saving its memory; defining and undefining.
 */
#include "contract.h"

#define OFF "off def=a2"
#define STAYS "paused live=a2>a1>a0 def=a2"

/* clang-format off */
const Case power_cases[] = {
    { "power/off", "power.c: off is off, and cannot be done again", .steps = STEPS(
        { "write a 1", "ok" },
        { "flush a", "ok" },
        { "power off", "ok" },
        { "off", "off" },
        { "look a", OFF },
        { "content a2", "same" },
        { "power off", "hypervisor" },
        { "power shutdown", "hypervisor" },
        { "power save", "hypervisor" },
        { "power on paused", "ok" },
        { "look a", STAYS }) },
    { "power/on-twice", "power.c: a start of a VM that runs is done", .steps = STEPS(
        { "power on", "ok" },
        { "look a", STAYS }) },
    { "power/asked", "power.c: who is asked and does not answer stays as it is", .steps = STEPS(
        { "power shutdown", "hypervisor" }, /* it is paused */
        { "power reboot", "ok" },
        { "power reset", "ok" },
        { "look a", STAYS }) },
    { "power/off-in-a-job", "recovery: as if QEMU had been killed", .steps = STEPS(
        { "active a a0", "ok" },
        { "ready a", "yes" },
        { "write a 3", "ok" },
        { "flush a", "ok" },
        { "power off", "ok" },
        { "off", "off" },
        { "look a", OFF },
        { "content a2", "same" }) },
    { "power/save", "power.c: saved memory is used by one start, and gone then", .steps = STEPS(
        { "write a 2", "ok" },
        { "power save", "ok" },
        { "look a", "saved def=a2" },
        { "content a2", "same" },
        { "power on paused", "ok" },
        { "look a", STAYS },
        { "power off", "ok" },
        { "off", "off" },
        { "look a", OFF }) },
    { "power/save-running", "power.c: it goes on as it was", .steps = STEPS(
        { "resume", "ok" },
        { "power save", "ok" },
        { "look a", "saved def=a2" },
        { "power on", "ok" },
        { "look a", "up live=a2>a1>a0 def=a2" }) },
    { "power/save-paused", "power.c: so does one that was paused, whoever starts it", .steps = STEPS(
        { "power save", "ok" },
        { "power on", "ok" },
        { "look a", STAYS }) },
    { "power/forget", "power.c: memory can be thrown away, once", .steps = STEPS(
        { "power save", "ok" },
        { "power forget", "ok" },
        { "look a", OFF },
        { "power forget", "hypervisor" },
        { "power on paused", "ok" },
        { "look a", STAYS }) },
    { "power/save-in-a-job", "power.c: a job of a disk is in the way, and goes on", .steps = STEPS(
        { "active a a0", "ok" },
        { "ready a", "yes" },
        { "power save", "busy" },
        { "look a", STAYS " mirror=active-commit:a0:yes" },
        { "cancel a", "ok" },
        { "look a", STAYS }) },
    { "power/saved-leaf", "verbs.h: why nothing may change the leaf of a suspended VM: it goes on with that of its memory", .steps = STEPS(
        { "overlay a3 a2", "ok" },
        { "power save", "ok" },
        { "redefine a3", "ok" },
        { "look a", "saved def=a3" },
        { "power on paused", "ok" },
        { "look a", "paused live=a2>a1>a0 def=a3" }) },
    { "memory", "snapshot.c, power.c: memory beside a snapshot, from which a VM that is off goes on, on whichever leaf it is given; its definition stays", .steps = STEPS(
        { "write a 2", "ok" },
        { "flush a", "ok" },
        { "overlay a3 a2", "ok" },
        { "memory-snapshot m.memory a3", "ok" },
        { "look a", "paused live=a3>a2>a1>a0 def=a3>a2" },
        { "content a3", "same" },
        { "power off", "ok" },
        { "off", "off" },
        { "overlay a4 a2", "ok" },
        { "restore m.memory a4", "ok" },
        { "look a", "paused live=a4>a2>a1>a0 def=a3>a2" },
        { "restore m.memory a4", "ok" }, /* it runs */
        { "power off", "ok" },
        { "off", "off" },
        { "restore m.memory a4", "ok" }, /* it is there for more than once */
        { "look a", "paused live=a4>a2>a1>a0 def=a3>a2" }) },
    { "memory/running", "snapshot.c: it goes on", .steps = STEPS(
        { "resume", "ok" },
        { "overlay a3 a2", "ok" },
        { "memory-snapshot m.memory a3", "ok" },
        { "look a", "up live=a3>a2>a1>a0 def=a3>a2" }) },
    { "memory/in-a-job", "verbs.h: a job of a disk is in the way", .steps = STEPS(
        { "active a a0", "ok" },
        { "ready a", "yes" },
        { "overlay a3 a2", "ok" },
        { "memory-snapshot m.memory a3", "busy" },
        { "look a", STAYS " mirror=active-commit:a0:yes" }) },
    { "memory/off", "snapshot.c: there is none of a VM that is off", .steps = STEPS(
        { "power off", "ok" },
        { "off", "off" },
        { "overlay a3 a2", "ok" },
        { "memory-snapshot m.memory a3", "hypervisor" },
        { "look a", OFF }) },
    { "memory/none", "power.c: nothing is started from a file that is not there", .steps = STEPS(
        { "power off", "ok" },
        { "off", "off" },
        { "restore m.memory a2", "hypervisor" },
        { "look a", OFF }) },

    /* defining and undefining */
    { "undefine", "vm_remove.c: what is undefined is not there, and cannot be started; it can be repeated", .steps = STEPS(
        { "power off", "ok" },
        { "off", "off" },
        { "undefine", "ok" },
        { "look a", "not-found" },
        { "list", "not there" },
        { "power on", "not-found" },
        { "content a2", "same" },
        { "undefine", "ok" }) },
    { "undefine/running", "vm_remove.c: only a VM that is off", .steps = STEPS(
        { "undefine", "refused" },
        { "look a", STAYS }) },
    { "undefine/saved", "vm_remove.c: its saved memory goes, too", .steps = STEPS(
        { "power save", "ok" },
        { "undefine", "ok" },
        { "look a", "not-found" }) },
    { "clone", "clone.c: a VM of its own, beside one that runs; it can be repeated, and taken back", .steps = STEPS(
        { "overlay a3 a1", "ok" },
        { "look-at-clone", "not-found" },
        { "clone a3", "ok" },
        { "clone a3", "ok" },
        { "look-at-clone", "off 1 a3" },
        { "look a", STAYS },
        { "undefine clone", "ok" },
        { "look-at-clone", "not-found" },
        { "undefine clone", "ok" },
        { "look a", STAYS }) },
    { NULL },
};
/* clang-format on */
