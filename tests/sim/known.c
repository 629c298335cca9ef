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
    { "power", 1, { { FAULT_POWER, 77 } }, 0, false,
      "half a file of saved memory was taken for the whole: a suspend that had failed was done" },
    { "power",
      105110336724668,
      { { FAULT_AGENT, 373 }, { FAULT_CANCEL, 408 }, { FAULT_LIBVIRTD, 418 }, { FAULT_CLOCK, 560 } },
      4163,
      false,
      "a shutdown was waited for after the event of its end was lost",
      910817 },
    { "clone-off",
      19054191491507,
      { { FAULT_MANAGER, 113 } },
      5770,
      false,
      "an answer was lost: a clone that had been taken back stayed in the manager's list",
      561799 },
    { "clone",
      106355078694139,
      { { FAULT_NETWORK, 41 }, { FAULT_AGENT, 132 }, { FAULT_CLOCK, 257 }, { FAULT_LIBVIRTD, 267 } },
      10370,
      false,
      "the same: a clone that was there did not come into it",
      1041033 },
    { "commit-shared",
      197449860122776,
      { { FAULT_POWER, 11 }, { FAULT_SHUTDOWN, 25 }, { FAULT_POWER, 241 }, { FAULT_AGENT, 260 } },
      3080,
      false,
      "a preview that was to be taken back, and from which the VM had been started, waited for ever",
      499761 },
    { "delete-newest", 1, { { FAULT_CANCEL, 88 }, { FAULT_LIBVIRTD, 136 } }, 0, false,
      "libvirtd, killed as it cancelled a commit, took it for pivoted: so did the merge (H10)" },
    { "delete-newest", 3, { { FAULT_CANCEL, 110 }, { FAULT_LIBVIRTD, 140 } }, LIE_FORGETS, false,
      "a cancel that libvirt has lost was taken for somebody's job, which nobody could end" },
    { "delete-newest", 1, { { FAULT_FULL, 176 } }, 0, true,
      "a full storage was given up after five tries: a volume that was merged stayed" },
    { "delete-newest", 1, { { FAULT_STORAGE, 208 } }, 0, true,
      "a manifest that could not be read was said not to be there: the volume stayed" },
    { "agent-create", 1, { { FAULT_QEMU, 19 }, { FAULT_STORAGE, 23 } }, 0, true,
      "an overlay that could not be seen was taken for removed", 901459 },
    { "agent-commit", 1, { { FAULT_STORAGE, 117 } }, 0, true,
      "a trash that could not be emptied was left until the agent's next start" },
    { "agent-create",
      259939440964406,
      { { FAULT_LIBVIRTD, 36 }, { FAULT_STORAGE, 49 } },
      LIE_VERY_LATE | LIE_ERROR,
      false,
      "an overlay that could not be seen was taken for unused: the VM ran on it",
      523921 },
    { "agent-create",
      124626048400622,
      { { FAULT_NETWORK, 2 }, { FAULT_CLOCK, 7 }, { FAULT_POWER, 132 } },
      833,
      false,
      "the clock was set back, and the old leaf looked newer than the manifest: the VM started from it",
      405132 },
    { "preview-commit",
      100566988415719,
      { { FAULT_AGENT, 157 }, { FAULT_ALL, 173 }, { FAULT_CLOCK, 189 }, { FAULT_AGENT, 201 } },
      9668,
      true,
      "a manifest was believed that was not durable: the VM ran on a preview that it did not name",
      204221 },
    { "restore", 77, { { FAULT_STORAGE, 149 }, { FAULT_MANAGER, 167 } }, 0, false,
      "a manifest that could not be read refused no start: the VM was started from its old line", 37977 },
    { "remove", 94763365680578, { { FAULT_STORAGE, 17 }, { FAULT_CANCEL, 295 } }, 0, true,
      "a VM whose storage was away was taken for one without disks: removed, it left all of them", 666228 },
    { "agent-graft-off", 77, { { FAULT_AGENT, 68 }, { FAULT_FULL, 87 } }, 0, false,
      "a cold switch that was made waited for a full storage without a pause", 279397 },
    { "memory-keep",
      74879160029954,
      { { FAULT_CLOCK, 192 }, { FAULT_NETWORK, 315 } },
      4320,
      false,
      "the test's mistake: started from a preview of which both lines read the same, the VM was taken for one on the old line",
      152369 },
    { "memory-try",
      68043401600381,
      { { FAULT_AGENT, 41 }, { FAULT_NETWORK, 286 } },
      2052,
      false,
      "the same",
      592570 },
    { "memory-try",
      63334620862448,
      { { FAULT_AGENT, 104 }, { FAULT_MANAGER, 107 }, { FAULT_AGENT, 142 }, { FAULT_ALL, 143 } },
      688,
      false,
      "an overlay lost its time with the power: its leaf was taken for written later, for ever",
      745710 },
    { "remove",
      200550845372388,
      { { FAULT_AGENT, 63 }, { FAULT_AGENT, 233 }, { FAULT_ALL, 267 } },
      LIE_OFTEN,
      true,
      "a removed VM's manifest came back: that it was gone was not made durable by the second try",
      1020960 },
    { "doctor", 104759814675872, { { FAULT_AGENT, 26 } }, 6600, true,
      "the test's mistake: what the doctor had left, since libvirt refused it, was not asked for again", 310853 },
    { "doctor", 160890222244767, { { FAULT_SHUTDOWN, 25 }, { FAULT_QEMU, 40 } }, 4114, false,
      "a VM that could not be wholly seen just then was taken for one without files: nothing was said of them", 799589 },
    { "doctor", 96370957657655, { { FAULT_QEMU, 116 }, { FAULT_POWER, 129 } }, 0, true,
      "a move to the trash that the power took back made the file look new: it was taken for mended", 649256 },
    { "doctor", 5, { { FAULT_STORAGE, 33 } }, 0, true,
      "a volume whose storage was away was said not to exist, and nothing of its files", 0 },
    { "doctor", 264498587837837, { { FAULT_STORAGE, 125 }, { FAULT_ALL, 142 } }, 18432, true,
      "the test's mistake: a file that is young is not judged yet", 133098 },
    { "preview-commit", 1, { { FAULT_FULL, 176 } }, 0, false,
      "a preview that a full storage did not record went to and fro between its steps without a pause", 0 },
    { "update", 1, { { FAULT_STORAGE, 16 } }, 0, false,
      "a VM whose storage was away was taken for one without a manifest: its new name was not noted", 0 },
    { "update", 1, { { FAULT_FULL, 16 } }, 0, false,
      "nobody looked again at a VM whose manifest could not be written", 0 },
    { "preview-commit", 1, { { FAULT_STORAGE, 159 } }, 0, false,
      "a start waited for a lock, and was judged by the manifest as it had been before that", 0 },
    { "memory-try",
      96370957657655,
      { { FAULT_QEMU, 79 }, { FAULT_QEMU, 86 }, { FAULT_QEMU, 99 }, { FAULT_STORAGE, 115 } },
      0,
      true,
      "an overlay that could not be seen was taken for used: a snapshot was taken without the memory that was asked for",
      170115 },
    { "preview-undo", 17, { { FAULT_FULL, 158 }, { FAULT_LIBVIRTD, 408 } }, 0, false,
      "a preview that failed left the VM with the snapshot's configuration", 45942 },
    { "freeze", 1, { { FAULT_STORAGE, 17 } }, 0, false,
      "a guest whose VM's storage was away was frozen without a note: a snapshot thawed it", 0 },
    { "freeze", 1, { { FAULT_CANCEL, 209 } }, 0, false,
      "a thaw that was cancelled too late left the note that the guest is frozen", 0 },
    { "freeze", 1, { { FAULT_STORAGE, 372 } }, 0, false,
      "after a reset the guest was still taken for frozen: a snapshot was said to be of a frozen one", 0 },
    { "freeze", 71191802351844, { { FAULT_CANCEL, 185 }, { FAULT_QEMU, 278 }, { FAULT_MANAGER, 286 } }, 9408, true,
      "a freeze that had failed, and a thaw that was refused: the guest stayed frozen for ever", 3930 },
    { "doctor-undo", 1, { { FAULT_FULL, 90 }, { FAULT_ALL, 137 } }, 0, false,
      "what an undo needs could not be kept, and the second try mended without it", 689623 },
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
