/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Images: locks, headers.
 */
#include "facts.h"

static void
images_are_locked(Run *run)
{
    is_so(run, !real_shell("qemu-img info a2.qcow2", NULL),
          "the leaf of a VM that runs is not locked");
    is_so(run, real_shell("qemu-img info a1.qcow2", NULL), "a layer below cannot be read");
    is_so(run, !real_shell("qemu-io -f qcow2 -c 'write 0 64k' a1.qcow2", NULL),
          "a layer below may be written");
    must(run, "kill-libvirtd", "ok");
    is_so(run, !real_shell("qemu-img info a2.qcow2", NULL), "libvirtd held the lock");
    must(run, "kill-qemu", "ok");
    is_so(run, real_shell("qemu-img info a2.qcow2", NULL), "the lock of a dead QEMU is left over");
}

static void
merged_files_are_free(Run *run)
{
    must(run, "commit a a0 a1", "ok");
    must(run, "event a", "completed");
    is_so(run, real_shell("qemu-io -f qcow2 -c 'write 0 64k' a1.qcow2", NULL),
          "a merged layer is still locked");
    must(run, "content a2", "same");
}

static void
base_is_locked_while_it_is_written(Run *run)
{
    must(run, "commit a a0 a1 slow", "ok");
    is_so(run, !real_shell("qemu-img info a0.qcow2", NULL), "the base of a commit is not locked");
    must(run, "cancel a", "ok");
}

/* Even with -U: QEMU's own tools are no help to look at a chain then. */
static void
nobody_reads_below_a_mirror(Run *run)
{
    must(run, "active a a0", "ok");
    must(run, "ready a", "yes");
    is_so(run, !real_shell("qemu-img convert -U -O raw a2.qcow2 x.raw", NULL),
          "a chain below an active commit can be read");
    must(run, "headers a2", "a2>a1>a0");
}

static void
images_stay_sound(Run *run)
{
    must(run, "commit a a0 a1 slow", "ok");
    must(run, "write a 4", "ok");
    must(run, "kill-qemu", "ok");
    must(run, "off", "off");
    /* 3: clusters that nobody uses */
    is_so(
        run,
        real_shell("for i in a0 a1 a2; do qemu-img check -q $i.qcow2 || [ $? = 3 ] || exit 1; done",
                   NULL),
        "an image is damaged");
}

const Fact image_facts[] = {
    { "images/a leaf is locked",
      "image_lock.c: a lock says that a QEMU lives, whatever libvirt says",
      .body = images_are_locked },
    { "images/merged ones are let go", "delete_volume.c: who holds one is asked",
      .body = merged_files_are_free },
    { "images/a base is locked", "image_lock.c", .body = base_is_locked_while_it_is_written },
    { "images/nobody reads below a mirror", "verify: by our own reader",
      .body = nobody_reads_below_a_mirror },
    { "images/a kill damages none", "recovery: no repair is needed before a merge goes on",
      .body = images_stay_sound },
    { NULL },
};
