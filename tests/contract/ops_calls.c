/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Calls of hypervisor.h.
 */
#include "ops_parts.h"

#include <string.h>

static bool
has_word(char **args, const char *word)
{
    return g_strv_contains((const char *const *)args, word);
}

static uint64_t
speed_of(char **args)
{
    return has_word(args, "slow") ? SLOW : 0;
}

char *
do_snapshot(Ops *ops, char **args)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    HvSnapshotDisk disks[STAGE_DISKS];
    unsigned n = 0;

    for (; args[n + 1] != NULL && n < STAGE_DISKS; n++) {
        g_ptr_array_add(paths, stage_path(args[n + 1]));
        disks[n] = (HvSnapshotDisk){ target_of(args[n + 1]), paths->pdata[n] };
    }
    CALL(OPS->snapshot(stage.hv, ID, disks, n, NULL, error));
}

char *
do_memory_snapshot(Ops *ops, char **args)
{
    g_autofree char *memory = stage_path(args[1]), *overlay = stage_path(args[2]);
    const HvSnapshotDisk disk = { target_of(args[2]), overlay };

    CALL(OPS->snapshot(stage.hv, ID, &disk, 1, memory, error));
}

char *
do_restore(Ops *ops, char **args)
{
    g_autofree char *memory = stage_path(args[1]), *leaf = stage_path(args[2]);
    const char *target = target_of(args[2]), *source = leaf, *format = "qcow2";

    CALL(OPS->restore(stage.hv, ID, memory, &target, &source, &format, 1, true, error));
}

char *
do_commit(Ops *ops, char **args)
{
    g_autofree char *base = stage_path(args[2]), *top = stage_path(args[3]);

    CALL(OPS->commit_start(stage.hv, ID, target_of(args[1]), base, top, speed_of(args), error));
}

char *
do_active(Ops *ops, char **args)
{
    g_autofree char *base = stage_path(args[2]);

    CALL(OPS->commit_start(stage.hv, ID, target_of(args[1]), base, NULL, speed_of(args), error));
}

char *
do_copy(Ops *ops, char **args)
{
    g_autofree char *dest = stage_path(args[2]);

    CALL(OPS->copy_start(stage.hv, ID, target_of(args[1]), dest, true, speed_of(args), error));
}

char *
do_speed(Ops *ops, char **args)
{
    CALL(OPS->job_set_bandwidth(stage.hv, ID, target_of(args[1]), speed_of(args), error));
}

char *
do_cancel(Ops *ops, char **args)
{
    CALL(OPS->job_cancel(stage.hv, ID, target_of(args[1]), error));
}

char *
do_pivot(Ops *ops, char **args)
{
    CALL(OPS->job_pivot(stage.hv, ID, target_of(args[1]), error));
}

char *
do_relink(Ops *ops, char **args)
{
    g_autofree char *path = stage_path(args[1]), *below = stage_path(args[2]);
    g_autofree char *name = g_path_get_basename(below);

    CALL(OPS->relink(stage.hv, ID, target_of(args[1]), path, below, name, error));
}

char *
do_suspend(Ops *ops, char **args)
{
    (void)args;
    CALL(OPS->suspend(stage.hv, ID, error));
}

char *
do_resume(Ops *ops, char **args)
{
    (void)args;
    CALL(OPS->resume(stage.hv, ID, error));
}

/* "power on [paused]", "power off" ... */
char *
do_power(Ops *ops, char **args)
{
    static const char *const words[] = {
        [HV_POWER_OFF] = "off",     [HV_POWER_SHUTDOWN] = "shutdown", [HV_POWER_REBOOT] = "reboot",
        [HV_POWER_RESET] = "reset", [HV_POWER_SAVE] = "save",         [HV_POWER_FORGET] = "forget"
    };
    unsigned how = 0;

    if (strcmp(args[1], "on") == 0)
        CALL(OPS->start(stage.hv, ID, has_word(args, "paused"), error));
    while (strcmp(words[how], args[1]) != 0)
        g_assert(++how < G_N_ELEMENTS(words));
    CALL(OPS->power(stage.hv, ID, how, error));
}

char *
do_redefine(Ops *ops, char **args)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    const char *targets[STAGE_DISKS], *sources[STAGE_DISKS];
    static const char *const formats[STAGE_DISKS] = { "qcow2", "qcow2" };
    unsigned n = 0;

    for (; args[n + 1] != NULL && n < STAGE_DISKS; n++) {
        g_ptr_array_add(paths, stage_path(args[n + 1]));
        targets[n] = target_of(args[n + 1]);
        sources[n] = paths->pdata[n];
    }
    CALL(OPS->redefine(stage.hv, ID, targets, sources, formats, n, error));
}

static const char other[] = "87654321-1234-4234-8234-123456789abc";

/* "clone FILE": a VM that is made after this one, with this file as its first disk */
char *
do_clone(Ops *ops, char **args)
{
    g_autofree char *path = stage_path(args[1]);
    g_autofree char *name = g_strdup_printf("clone-of-%.8s", stage.vm_id);
    const char *target = target_of(args[1]), *source = path;
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    const HvClone clone = {
        .id = other, .name = name, .targets = &target, .sources = &source, .n = 1
    };

    CALL(OPS->clone(stage.hv, ID, &clone, left, error));
}

char *
do_look_at_clone(Ops *ops, char **args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = OPS->look(stage.hv, other, &error);

    (void)args;
    if (domain == NULL)
        return word_of(ops, false, error);
    g_autofree char *leaf = short_name(((HvDisk *)domain->disks->pdata[0])->source);
    return g_strdup_printf("%s %u %s", domain->state == VM_DOWN ? "off" : "not off",
                           domain->disks->len, leaf);
}

char *
do_undefine(Ops *ops, char **args)
{
    const char *id = has_word(args, "clone") ? other : ID;

    CALL(OPS->undefine(stage.hv, id, true, error));
}

char *
do_stranger(Ops *ops, char **args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = OPS->look(stage.hv, other, &error);

    (void)args;
    return word_of(ops, domain != NULL, error);
}

char *
do_list(Ops *ops, char **args)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) ids = OPS->list(stage.hv, &error);

    (void)args;
    if (ids == NULL)
        return word_of(ops, false, error);
    return g_strdup(g_strv_contains((const char *const *)ids, ID) ? "there" : "not there");
}

char *
do_foreign(Ops *ops, char **args)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *job = NULL;

    (void)args;
    if (!OPS->foreign_job(stage.hv, ID, &job, &error))
        return word_of(ops, false, error);
    return g_strdup(job != NULL ? job : "none");
}
