/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What others do: a guest that writes, people who start VMs, and who kills QEMU and libvirtd.
 */
#include "ops_parts.h"

#include "qcow2/qcow2.h"

#include <glib/gstdio.h>

char *
do_overlay(Ops *ops, char **args)
{
    g_autofree char *path = stage_path(args[1]), *below = stage_path(args[2]);
    g_autofree char *name = g_path_get_basename(below);

    CALL(qcow2_create(path, stage.bytes, name, "qcow2", 0600, -1, -1, error));
}

char *
do_remove(Ops *ops, char **args)
{
    g_autofree char *path = stage_path(args[1]);

    (void)ops;
    return g_strdup(g_unlink(path) == 0 ? "ok" : "no");
}

char *
do_write(Ops *ops, char **args)
{
    unsigned cluster = (unsigned)g_ascii_strtoull(args[2], NULL, 10), value = ops->next_value;

    if (!stage_write(target_of(args[1]), cluster, value))
        return g_strdup("off");
    ops->next_value = value % 200 + 50;
    ops->wanted[disk_number(args[1])][cluster] = value;
    return g_strdup("ok");
}

char *
do_flush(Ops *ops, char **args)
{
    (void)ops;
    return g_strdup(stage_flush(target_of(args[1])) ? "ok" : "off");
}

char *
do_hurry(Ops *ops, char **args)
{
    (void)ops;
    return g_strdup(stage_hurry(target_of(args[1])) ? "ok" : "no job");
}

char *
do_start(Ops *ops, char **args)
{
    (void)args;
    CALL(stage_start(error));
}

char *
do_destroy(Ops *ops, char **args)
{
    (void)ops;
    (void)args;
    stage_destroy();
    return g_strdup("ok");
}

char *
do_kill_qemu(Ops *ops, char **args)
{
    (void)ops;
    (void)args;
    stage_kill_qemu();
    return g_strdup("ok");
}

char *
do_kill_libvirtd(Ops *ops, char **args)
{
    (void)ops;
    (void)args;
    stage_kill_libvirtd();
    return g_strdup("ok");
}

char *
do_qemu_cancels(Ops *ops, char **args)
{
    (void)ops;
    stage_cancel_in_qemu(target_of(args[1]));
    return g_strdup("ok");
}

char *
do_forget_mirror(Ops *ops, char **args)
{
    (void)ops;
    stage_forget_mirror(target_of(args[1]));
    return g_strdup("ok");
}

char *
do_start_libvirtd(Ops *ops, char **args)
{
    (void)ops;
    (void)args;
    stage_start_libvirtd();
    return g_strdup("ok");
}
