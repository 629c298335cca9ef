/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a VM looks like; snapshots; its definition; suspended and off.
 */
#include "contract.h"

/* clang-format off */
const Case chain_cases[] = {
    { "look", "all of the agent: what it sees is what is", .steps = STEPS(
        { "list", "there" },
        { "look a", "paused live=a2>a1>a0 def=a2" },
        { "job a", "none" },
        { "foreign-job", "none" },
        { "headers a2", "a2>a1>a0" },
        { "content a2", "same" }) },
    { "look/unknown", "flow: a VM that libvirt does not know is ERR_NOT_FOUND, not a failure", .steps = STEPS(
        { "stranger", "not-found" }) },
    { "look/off", "cold.c: of a VM that is off the definition counts", .steps = STEPS(
        { "destroy", "ok" },
        { "off", "off" },
        { "look a", "off def=a2" },
        { "job a", "none" },
        { "foreign-job", "none" },
        { "content a2", "same" }) },
    { "write/flush", "tests: what was flushed is what others read", .steps = STEPS(
        { "write a 0", "ok" },
        { "write a 5", "ok" },
        { "flush a", "ok" },
        { "content a2", "same" },
        { "content a1", "differs" }) },

    /* snapshots */
    { "snapshot", "create: after it QEMU, live XML and definition name the overlay", .steps = STEPS(
        { "overlay a3 a2", "ok" },
        { "snapshot a3", "ok" },
        { "look a", "paused live=a3>a2>a1>a0 def=a3>a2" },
        { "write a 0", "ok" },
        { "flush a", "ok" },
        { "content a3", "same" },
        { "content a2", "differs" },
        { "headers a3", "a3>a2>a1>a0" }) },
    { "snapshot/restarted", "create: the VM starts from the overlay", .steps = STEPS(
        { "overlay a3 a2", "ok" },
        { "snapshot a3", "ok" },
        { "write a 1", "ok" },
        { "flush a", "ok" },
        { "destroy", "ok" },
        { "off", "off" },
        { "start", "ok" },
        { "look a", "paused live=a3>a2>a1>a0 def=a3>a2" },
        { "content a3", "same" }) },
    { "snapshot/running", "create: it takes no pause", .steps = STEPS(
        { "resume", "ok" },
        { "overlay a3 a2", "ok" },
        { "snapshot a3", "ok" },
        { "look a", "up live=a3>a2>a1>a0 def=a3>a2" }) },
    { "snapshot/missing", "create: an overlay that is not there changes nothing", .steps = STEPS(
        { "snapshot a3", "hypervisor" },
        { "look a", "paused live=a2>a1>a0 def=a2" }) },
    { "snapshot/some-missing", "create: all disks or none", 2, .steps = STEPS(
        { "overlay a3 a2", "ok" },
        { "snapshot a3 b3", "hypervisor" },
        { "look a", "paused live=a2>a1>a0 def=a2" },
        { "look b", "paused live=b2>b1>b0 def=b2" }) },
    { "snapshot/both", "create: all disks at once", 2, .steps = STEPS(
        { "overlay a3 a2", "ok" },
        { "overlay b3 b2", "ok" },
        { "snapshot a3 b3", "ok" },
        { "look a", "paused live=a3>a2>a1>a0 def=a3>a2" },
        { "look b", "paused live=b3>b2>b1>b0 def=b3>b2" }) },
    { "snapshot/one-of-two", "H6: a disk that is not listed stays", 2, .steps = STEPS(
        { "overlay b3 b2", "ok" },
        { "snapshot b3", "ok" },
        { "look a", "paused live=a2>a1>a0 def=a2" },
        { "look b", "paused live=b3>b2>b1>b0 def=b3>b2" }) },
    { "snapshot/busy", "create: refused while the disk has a job, as ERR_BUSY", .steps = STEPS(
        { "overlay a3 a2", "ok" },
        { "active a a0 slow", "ok" },
        { "snapshot a3", "busy" },
        { "look a", "paused live=a2>a1>a0 def=a2 mirror=active-commit:a0:no" }) },
    { "snapshot/other-busy", "create: a job on another disk does not hinder it", 2, .steps = STEPS(
        { "overlay a3 a2", "ok" },
        { "active b b0 slow", "ok" },
        { "snapshot a3", "ok" },
        { "look a", "paused live=a3>a2>a1>a0 def=a3>a2" },
        { "job b", "active-commit slow" }) },
    { "snapshot/off", "create: of a VM that is off the definition alone changes", .steps = STEPS(
        { "destroy", "ok" },
        { "off", "off" },
        { "overlay a3 a2", "ok" },
        { "snapshot a3", "ok" },
        { "look a", "off def=a3" },
        { "headers a3", "a3>a2>a1>a0" },
        { "start", "ok" },
        { "look a", "paused live=a3>a2>a1>a0 def=a3" }) },
    { "snapshot/deep", "H4: the definition names what it named before, one below the other", .steps = STEPS(
        { "overlay a3 a2", "ok" },
        { "snapshot a3", "ok" },
        { "overlay a4 a3", "ok" },
        { "snapshot a4", "ok" },
        { "look a", "paused live=a4>a3>a2>a1>a0 def=a4>a3>a2" },
        { "commit a a2 a3", "ok" },
        { "event a", "completed" },
        { "look a", "paused live=a4>a2>a1>a0 def=a4>a2" },
        { "content a4", "same" }) },
    { "snapshot/behind", "H3: a definition that does not name the leaf is left as it is", .steps = STEPS(
        { "redefine a1", "ok" },
        { "overlay a3 a2", "ok" },
        { "snapshot a3", "ok" },
        { "look a", "paused live=a3>a2>a1>a0 def=a1" },
        { "overlay a4 a3", "ok" },
        { "snapshot a4", "ok" },
        { "look a", "paused live=a4>a3>a2>a1>a0 def=a1" },
        { "active a a3", "ok" },
        { "ready a", "yes" },
        { "pivot a", "ok" },
        { "look a", "paused live=a3>a2>a1>a0 def=a1" },
        { "redefine a3", "ok" },
        { "overlay a5 a3", "ok" },
        { "snapshot a5", "ok" },
        { "look a", "paused live=a5>a3>a2>a1>a0 def=a5>a3" },
        { "content a5", "same" }) },
    { "snapshot/then-commit", "H4: a commit that libvirt sees end leaves no <backingStore>", .steps = STEPS(
        { "overlay a3 a2", "ok" },
        { "snapshot a3", "ok" },
        { "commit a a0 a1", "ok" },
        { "event a", "completed" },
        { "look a", "paused live=a3>a2>a0 def=a3" },
        { "content a3", "same" }) },
    { "snapshot/then-cancelled", "H4: one that does not end leaves it", .steps = STEPS(
        { "overlay a3 a2", "ok" },
        { "snapshot a3", "ok" },
        { "commit a a0 a1 slow", "ok" },
        { "cancel a", "ok" },
        { "event a", "canceled" },
        { "look a", "paused live=a3>a2>a1>a0 def=a3>a2" }) },

    /* the definition */
    { "redefine", "H2, H3: the definition can be put right, running or not", .steps = STEPS(
        { "redefine a1", "ok" },
        { "look a", "paused live=a2>a1>a0 def=a1" },
        { "redefine a2", "ok" },
        { "redefine a2", "ok" },
        { "redefine", "ok" },
        { "look a", "paused live=a2>a1>a0 def=a2" }) },
    { "redefine/backing", "H4: <backingStore>s are removed", .steps = STEPS(
        { "overlay a3 a2", "ok" },
        { "snapshot a3", "ok" },
        { "look a", "paused live=a3>a2>a1>a0 def=a3>a2" },
        { "redefine", "ok" },
        { "look a", "paused live=a3>a2>a1>a0 def=a3" }) },
    { "redefine/off", "cold_switch.c: the next start is from there", .steps = STEPS(
        { "destroy", "ok" },
        { "off", "off" },
        { "redefine a1", "ok" },
        { "look a", "off def=a1" },
        { "start", "ok" },
        { "look a", "paused live=a1>a0 def=a1" }) },

    /* suspended, off */
    { "suspend", "merge_turn.c: both are true when it already is so", .steps = STEPS(
        { "suspend", "ok" },
        { "look a", "paused live=a2>a1>a0 def=a2" },
        { "resume", "ok" },
        { "look a", "up live=a2>a1>a0 def=a2" },
        { "resume", "ok" },
        { "suspend", "ok" },
        { "suspend", "ok" },
        { "look a", "paused live=a2>a1>a0 def=a2" }) },
    { "off", "every call on a VM that is off says so, and changes nothing", .steps = STEPS(
        { "destroy", "ok" },
        { "off", "off" },
        { "suspend", "hypervisor" },
        { "resume", "hypervisor" },
        { "commit a a0 a1", "hypervisor" },
        { "active a a0", "hypervisor" },
        { "pivot a", "hypervisor" },
        { "speed a slow", "hypervisor" },
        { "cancel a", "ok" },
        { "look a", "off def=a2" },
        { "content a2", "same" }) },
    { "start/missing", "the VM does not start without a file of its chain, and can later", .steps = STEPS(
        { "destroy", "ok" },
        { "off", "off" },
        { "overlay a3 a2", "ok" },
        { "redefine a3", "ok" },
        { "remove a3", "ok" },
        { "start", "hypervisor" },
        { "look a", "off def=a3" },
        { "redefine a2", "ok" },
        { "start", "ok" },
        { "look a", "paused live=a2>a1>a0 def=a2" }) },
    { NULL },
};
/* clang-format on */
