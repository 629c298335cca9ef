/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ops.h"

#include "qcow2/qcow2.h"

#include <glib/gstdio.h>
#include <string.h>

#define LONGEST_US (20 * G_TIME_SPAN_SECOND)
#define LAG_US (2 * G_TIME_SPAN_SECOND)
#define SLOW 1 /* bytes a second: a first piece is copied, then nothing more */

static GMutex listen_lock;
static Ops *listening; /* whom events are for */

/* ---- names ---- */

char *
stage_path(const char *name)
{
    return g_strdup_printf("%s/%s%s", stage.dir, name, strchr(name, '.') == NULL ? ".qcow2" : "");
}

static char *
short_name(const char *path)
{
    char *name = path != NULL ? g_path_get_basename(path) : g_strdup("?");

    if (g_str_has_suffix(name, ".qcow2"))
        name[strlen(name) - strlen(".qcow2")] = '\0';
    return name;
}

static unsigned
disk_number(const char *name)
{
    g_assert(name != NULL && (name[0] == 'a' || name[0] == 'b'));
    return (unsigned)(name[0] - 'a');
}

static const char *
target_of(const char *name)
{
    static const char *const targets[] = { "vda", "vdb" };

    return targets[disk_number(name)];
}

/* ---- events ---- */

static const char *const status_words[] = {
    [HV_JOB_READY] = "ready",
    [HV_JOB_COMPLETED] = "completed",
    [HV_JOB_FAILED] = "failed",
    [HV_JOB_CANCELED] = "canceled",
};

void
stage_event(const HvEvent *event, void *data)
{
    g_autoptr(GMutexLocker) here G_GNUC_UNUSED = g_mutex_locker_new(&listen_lock);
    Ops *ops = listening;

    (void)data;
    if (ops == NULL || event->kind != HV_EVENT_BLOCK_JOB ||
        g_strcmp0(event->vm_id, stage.vm_id) != 0)
        return;
    unsigned disk = (unsigned)(event->disk[2] - 'a');
    WITH_LOCK(&ops->lock);
    g_queue_push_tail(&ops->events[disk], g_strdup(status_words[event->job_status]));
    g_string_append_printf(ops->all_events, "%s%c:%s", ops->all_events->len > 0 ? " " : "",
                           'a' + disk, status_words[event->job_status]);
}

static char *
pop_event(Ops *ops, const char *disk)
{
    WITH_LOCK(&ops->lock);

    return g_queue_pop_head(&ops->events[disk_number(disk)]);
}

static char *
do_event(Ops *ops, char **args)
{
    int64_t until = g_get_monotonic_time() + LONGEST_US;
    char *found = NULL;

    while ((found = pop_event(ops, args[1])) == NULL && g_get_monotonic_time() < until)
        g_usleep(1000);
    return found != NULL ? found : g_strdup("none");
}

static char *
do_events(Ops *ops, char **args)
{
    WITH_LOCK(&ops->lock);

    (void)args;
    return g_strdup(ops->all_events->len > 0 ? ops->all_events->str : "none yet");
}

/* ---- calls of the seam ---- */

static char *
word_of(Ops *ops, bool ok, const GError *error)
{
    if (!ok) {
        WITH_LOCK(&ops->lock);
        g_string_append_printf(ops->said, "        (%s)\n", error->message);
    }
    return g_strdup(ok ? "ok" : error_word(error));
}

#define OPS (stage.hv->ops)
#define ID (stage.vm_id)
#define CALL(call)                        \
    do {                                  \
        g_autoptr(GError) error_ = NULL;  \
        GError **error = &error_;         \
        bool ok_ = call;                  \
        return word_of(ops, ok_, error_); \
    } while (0)

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

static char *
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

static char *
do_memory_snapshot(Ops *ops, char **args)
{
    g_autofree char *memory = stage_path(args[1]), *overlay = stage_path(args[2]);
    const HvSnapshotDisk disk = { target_of(args[2]), overlay };

    CALL(OPS->snapshot(stage.hv, ID, &disk, 1, memory, error));
}

static char *
do_restore(Ops *ops, char **args)
{
    g_autofree char *memory = stage_path(args[1]), *leaf = stage_path(args[2]);
    const char *target = target_of(args[2]), *source = leaf, *format = "qcow2";

    CALL(OPS->restore(stage.hv, ID, memory, &target, &source, &format, 1, true, error));
}

static char *
do_commit(Ops *ops, char **args)
{
    g_autofree char *base = stage_path(args[2]), *top = stage_path(args[3]);

    CALL(OPS->commit_start(stage.hv, ID, target_of(args[1]), base, top, speed_of(args), error));
}

static char *
do_active(Ops *ops, char **args)
{
    g_autofree char *base = stage_path(args[2]);

    CALL(OPS->commit_start(stage.hv, ID, target_of(args[1]), base, NULL, speed_of(args), error));
}

static char *
do_copy(Ops *ops, char **args)
{
    g_autofree char *dest = stage_path(args[2]);

    CALL(OPS->copy_start(stage.hv, ID, target_of(args[1]), dest, true, speed_of(args), error));
}

static char *
do_speed(Ops *ops, char **args)
{
    CALL(OPS->job_set_bandwidth(stage.hv, ID, target_of(args[1]), speed_of(args), error));
}

static char *
do_cancel(Ops *ops, char **args)
{
    CALL(OPS->job_cancel(stage.hv, ID, target_of(args[1]), error));
}

static char *
do_pivot(Ops *ops, char **args)
{
    CALL(OPS->job_pivot(stage.hv, ID, target_of(args[1]), error));
}

static char *
do_suspend(Ops *ops, char **args)
{
    (void)args;
    CALL(OPS->suspend(stage.hv, ID, error));
}

static char *
do_resume(Ops *ops, char **args)
{
    (void)args;
    CALL(OPS->resume(stage.hv, ID, error));
}

/* "power on [paused]", "power off" ... */
static char *
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

static char *
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
static char *
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

static char *
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

static char *
do_undefine(Ops *ops, char **args)
{
    const char *id = has_word(args, "clone") ? other : ID;

    CALL(OPS->undefine(stage.hv, id, true, error));
}

static char *
do_stranger(Ops *ops, char **args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = OPS->look(stage.hv, other, &error);

    (void)args;
    return word_of(ops, domain != NULL, error);
}

static char *
do_list(Ops *ops, char **args)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) ids = OPS->list(stage.hv, &error);

    (void)args;
    if (ids == NULL)
        return word_of(ops, false, error);
    return g_strdup(g_strv_contains((const char *const *)ids, ID) ? "there" : "not there");
}

static char *
do_foreign(Ops *ops, char **args)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *job = NULL;

    (void)args;
    if (!OPS->foreign_job(stage.hv, ID, &job, &error))
        return word_of(ops, false, error);
    return g_strdup(job != NULL ? job : "none");
}

/* ---- what others do ---- */

static char *
do_overlay(Ops *ops, char **args)
{
    g_autofree char *path = stage_path(args[1]), *below = stage_path(args[2]);
    g_autofree char *name = g_path_get_basename(below);

    CALL(qcow2_create(path, stage.bytes, name, "qcow2", 0600, -1, -1, error));
}

static char *
do_remove(Ops *ops, char **args)
{
    g_autofree char *path = stage_path(args[1]);

    (void)ops;
    return g_strdup(g_unlink(path) == 0 ? "ok" : "no");
}

static char *
do_write(Ops *ops, char **args)
{
    unsigned cluster = (unsigned)g_ascii_strtoull(args[2], NULL, 10), value = ops->next_value;

    if (!stage_write(target_of(args[1]), cluster, value))
        return g_strdup("off");
    ops->next_value = value % 200 + 50;
    ops->wanted[disk_number(args[1])][cluster] = value;
    return g_strdup("ok");
}

static char *
do_flush(Ops *ops, char **args)
{
    (void)ops;
    return g_strdup(stage_flush(target_of(args[1])) ? "ok" : "off");
}

static char *
do_hurry(Ops *ops, char **args)
{
    (void)ops;
    return g_strdup(stage_hurry(target_of(args[1])) ? "ok" : "no job");
}

static char *
do_start(Ops *ops, char **args)
{
    (void)args;
    CALL(stage_start(error));
}

static char *
do_destroy(Ops *ops, char **args)
{
    (void)ops;
    (void)args;
    stage_destroy();
    return g_strdup("ok");
}

static char *
do_kill_qemu(Ops *ops, char **args)
{
    (void)ops;
    (void)args;
    stage_kill_qemu();
    return g_strdup("ok");
}

static char *
do_kill_libvirtd(Ops *ops, char **args)
{
    (void)ops;
    (void)args;
    stage_kill_libvirtd();
    return g_strdup("ok");
}

static char *
do_qemu_cancels(Ops *ops, char **args)
{
    (void)ops;
    stage_cancel_in_qemu(target_of(args[1]));
    return g_strdup("ok");
}

static char *
do_forget_mirror(Ops *ops, char **args)
{
    (void)ops;
    stage_forget_mirror(target_of(args[1]));
    return g_strdup("ok");
}

static char *
do_start_libvirtd(Ops *ops, char **args)
{
    (void)ops;
    (void)args;
    stage_start_libvirtd();
    return g_strdup("ok");
}

/* ---- a call while something else happens ---- */

static gpointer
begun_main(gpointer data)
{
    Ops *ops = data;

    ops->begun_answer = ops_do(ops, ops->begun_line);
    return NULL;
}

static char *
do_begin(Ops *ops, char **args)
{
    g_assert(ops->thread == NULL);
    g_free(ops->begun_line);
    ops->begun_line = g_strjoinv(" ", args + 1);
    ops->thread = g_thread_new("begun", begun_main, ops);
    return g_strdup("begun");
}

void
ops_join(Ops *ops)
{
    if (ops->thread != NULL)
        g_thread_join(ops->thread);
    ops->thread = NULL;
}

static char *
do_answer(Ops *ops, char **args)
{
    (void)args;
    ops_join(ops);
    return g_steal_pointer(&ops->begun_answer);
}

static char *
do_moment(Ops *ops, char **args)
{
    (void)args;
    if (ops->delay_us > 0)
        g_usleep(ops->delay_us);
    return g_strdup("over");
}

/* ---- questions ---- */

static const char *
state_word(const HvDomain *domain)
{
    return domain->state == VM_UP          ? "up"
           : domain->state == VM_PAUSED    ? "paused"
           : domain->state == VM_DOWN      ? "off"
           : domain->state == VM_SUSPENDED ? "saved"
           : domain->state == VM_UNKNOWN   ? "lost"
                                           : "changing";
}

static void
append_chain(GString *text, const char *word, const HvDisk *disk)
{
    g_autofree char *leaf = short_name(disk->source);

    g_string_append_printf(text, " %s=%s", word, leaf);
    for (guint i = 0; disk->backing != NULL && i < disk->backing->len; i++) {
        g_autofree char *name = short_name(disk->backing->pdata[i]);
        g_string_append_printf(text, ">%s", name);
    }
}

static const HvDisk *
find_target(const GPtrArray *disks, const char *target)
{
    for (guint i = 0; disks != NULL && i < disks->len; i++)
        if (strcmp(((HvDisk *)disks->pdata[i])->target, target) == 0)
            return disks->pdata[i];
    return NULL;
}

/* "paused live=a2>a1>a0 def=a2 mirror=active-commit:a0:yes": state, chain of the running VM, what
 * its definition says, the mirror if there is one ("lost-pivot" instead: HvDisk.lost_pivot); and
 * "hidden=a2": HvDisk.hidden_leaf */
static char *
do_look(Ops *ops, char **args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = OPS->look(stage.hv, ID, &error);

    if (domain == NULL)
        return word_of(ops, false, error);
    const HvDisk *live = find_target(domain->disks, target_of(args[1]));
    const HvDisk *stored = find_target(domain->inactive, target_of(args[1]));
    g_autoptr(GString) text = g_string_new(state_word(domain));
    if (live == NULL || stored == NULL)
        return g_strdup("no disk");
    if (domain->instance != NULL)
        append_chain(text, "live", live);
    append_chain(text, "def", stored);
    if (live->lost_pivot)
        g_string_append(text, " lost-pivot");
    if (live->hidden_leaf != NULL) {
        g_autofree char *name = short_name(live->hidden_leaf);
        g_string_append_printf(text, " hidden=%s", name);
    }
    if (live->mirror_job != NULL || live->mirror_path != NULL) {
        g_autofree char *path = short_name(live->mirror_path);
        g_string_append_printf(text, " mirror=%s:%s:%s", live->mirror_job, path,
                               live->mirror_ready != NULL ? live->mirror_ready : "no");
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static const char *const job_words[] = {
    [HV_JOB_NONE] = "none", [HV_JOB_COMMIT] = "commit", [HV_JOB_ACTIVE_COMMIT] = "active-commit",
    [HV_JOB_COPY] = "copy", [HV_JOB_PULL] = "pull",     [HV_JOB_OTHER] = "other",
};

static char *
do_job(Ops *ops, char **args)
{
    g_autoptr(GError) error = NULL;
    HvJob job = { 0 };

    if (!OPS->job_look(stage.hv, ID, target_of(args[1]), &job, &error))
        return word_of(ops, false, error);
    return g_strdup_printf("%s%s", job_words[job.type],
                           job.bandwidth == 0      ? ""
                           : job.bandwidth == SLOW ? " slow"
                                                   : " limited");
}

static char *
mirror_word(Ops *ops, const char *disk)
{
    g_autoptr(HvDomain) domain = OPS->look(stage.hv, ID, NULL);
    const HvDisk *live = domain != NULL ? hv_domain_disk(domain, target_of(disk)) : NULL;

    (void)ops;
    if (live == NULL)
        return g_strdup("unknown");
    if (live->mirror_job == NULL)
        return g_strdup("none");
    return g_strdup(live->mirror_ready != NULL ? live->mirror_ready : "no");
}

/* Until the mirror is ready or there is none. */
static char *
do_ready(Ops *ops, char **args)
{
    int64_t until = g_get_monotonic_time() + LONGEST_US;

    for (;;) {
        g_autofree char *word = mirror_word(ops, args[1]);
        if (strcmp(word, "yes") == 0 || strcmp(word, "none") == 0 || g_get_monotonic_time() > until)
            return g_steal_pointer(&word);
        g_usleep(1000);
    }
}

/* The chain below this file, by the headers */
static char *
do_headers(Ops *ops, char **args)
{
    g_autofree char *path = stage_path(args[1]);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) chain = qcow2_chain_walk(path, "qcow2", NULL, &error);
    g_autoptr(GString) text = g_string_new(NULL);

    if (chain == NULL)
        return word_of(ops, false, error);
    for (guint i = chain->len; i-- > 0;) {
        g_autofree char *name = short_name(((Qcow2Layer *)chain->pdata[i])->path);
        g_string_append_printf(text, "%s%s", text->len > 0 ? ">" : "", name);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* libvirt says what the headers say. */
static bool
chain_is_true(Ops *ops, const char *disk)
{
    g_autoptr(HvDomain) domain = OPS->look(stage.hv, ID, NULL);
    const HvDisk *live = domain != NULL ? hv_domain_disk(domain, target_of(disk)) : NULL;
    g_autoptr(GString) said = g_string_new(NULL);

    if (live == NULL)
        return false;
    if (domain->instance == NULL)
        return true;
    append_chain(said, "live", live);
    g_autofree char *name = short_name(live->source);
    char *args[] = { NULL, name, NULL };
    g_autofree char *headers = do_headers(ops, args);
    return strcmp(said->str + strlen(" live="), headers) == 0;
}

/* Until nobody speaks of a job of this disk, and (for a while) libvirt knows what became of the
 * chain. */
static char *
do_ended(Ops *ops, char **args)
{
    int64_t until = g_get_monotonic_time() + LONGEST_US;

    for (;;) {
        g_autofree char *job = do_job(ops, args), *mirror = mirror_word(ops, args[1]);
        bool none = strcmp(job, "none") == 0 && strcmp(mirror, "none") == 0;
        if (none && chain_is_true(ops, args[1]))
            return g_strdup("ended");
        if (none)
            until = MIN(until, g_get_monotonic_time() + LAG_US);
        if (g_get_monotonic_time() >= until)
            return g_strdup_printf("job %s mirror %s", job, mirror);
        g_usleep(5000);
    }
}

static char *
do_off(Ops *ops, char **args)
{
    int64_t until = g_get_monotonic_time() + LONGEST_US;

    (void)ops;
    (void)args;
    while (g_get_monotonic_time() < until) {
        g_autoptr(HvDomain) domain = OPS->look(stage.hv, ID, NULL);
        if (domain != NULL && (domain->state == VM_DOWN || domain->state == VM_SUSPENDED))
            return g_strdup("off");
        g_usleep(1000);
    }
    return g_strdup("still on");
}

static char *
do_connected(Ops *ops, char **args)
{
    int64_t until = g_get_monotonic_time() + LONGEST_US;
    bool wanted = args[1] == NULL;

    (void)ops;
    while (OPS->is_connected(stage.hv) != wanted && g_get_monotonic_time() < until)
        g_usleep(1000);
    return g_strdup(OPS->is_connected(stage.hv) ? "connected" : "not connected");
}

/* Does this chain hold what the guest wrote? */
static char *
do_content(Ops *ops, char **args)
{
    unsigned disk = disk_number(args[1]), values[STAGE_CLUSTERS] = { 0 };

    if (!stage_read(args[1], values))
        return g_strdup("broken");
    if (memcmp(values, ops->wanted[disk], sizeof values) == 0)
        return g_strdup("same");
    for (unsigned c = 0; c < STAGE_CLUSTERS; c++)
        g_string_append_printf(ops->said, "        (cluster %u: %u, was written: %u)\n", c,
                               values[c], ops->wanted[disk][c]);
    return g_strdup("differs");
}

/* The same of the leaf that the VM has, or would start with. */
static char *
do_verify(Ops *ops, char **args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = OPS->look(stage.hv, ID, &error);

    if (domain == NULL)
        return word_of(ops, false, error);
    const HvDisk *disk = hv_domain_disk(domain, target_of(args[1]));
    g_autofree char *leaf = short_name(disk->source);
    char *leaf_args[] = { NULL, leaf, NULL };
    return do_content(ops, leaf_args);
}

/* ---- the table ---- */

static const struct {
    const char *name;
    char *(*func)(Ops *ops, char **args);
} table[] = {
    /* calls; a disk is "a" or "b", or the first letter of a file */
    { "snapshot", do_snapshot },               /* OVERLAY...: of just these disks */
    { "memory-snapshot", do_memory_snapshot }, /* MEMORY OVERLAY */
    { "restore", do_restore },                 /* MEMORY LEAF: and stays paused */
    { "commit", do_commit },                   /* DISK BASE TOP [slow] */
    { "active", do_active },                   /* DISK BASE [slow] */
    { "copy", do_copy },                       /* DISK DEST [slow] */
    { "speed", do_speed },                     /* DISK slow|full */
    { "cancel", do_cancel },
    { "pivot", do_pivot },
    { "suspend", do_suspend },
    { "resume", do_resume },
    { "power", do_power },       /* on [paused]|off|shutdown|reboot|reset|save|forget */
    { "redefine", do_redefine }, /* FILE... */
    { "clone", do_clone },       /* FILE */
    { "look-at-clone", do_look_at_clone },
    { "undefine", do_undefine }, /* [clone] */
    { "stranger", do_stranger }, /* looks at a VM that is not there */
    { "list", do_list },
    { "foreign-job", do_foreign },
    /* what others do */
    { "overlay", do_overlay }, /* FILE BELOW */
    { "remove", do_remove },
    { "write", do_write }, /* DISK CLUSTER */
    { "flush", do_flush },
    { "hurry", do_hurry }, /* DISK: QEMU's job, at full speed */
    { "start", do_start },
    { "destroy", do_destroy },
    { "kill-qemu", do_kill_qemu },
    { "kill-libvirtd", do_kill_libvirtd },
    { "qemu-cancels", do_qemu_cancels },   /* DISK: its job, while libvirtd is dead */
    { "forget-mirror", do_forget_mirror }, /* DISK: libvirtd's status file, while it is dead */
    { "start-libvirtd", do_start_libvirtd },
    { "begin", do_begin }, /* LINE: and do not wait for its answer */
    { "answer", do_answer },
    { "moment", do_moment }, /* waits a little: Ops.delay_us */
    /* questions; those in the second group wait for it */
    { "look", do_look },
    { "job", do_job },
    { "headers", do_headers },
    { "content", do_content }, /* FILE */
    { "verify", do_verify },   /* DISK: the same of its leaf */
    { "events", do_events },   /* all that came so far */
    { "event", do_event },     /* the disk's next one */
    { "ready", do_ready },
    { "ended", do_ended },
    { "off", do_off },
    { "connected", do_connected }, /* [not] */
};

static char *
dispatch(Ops *ops, const char *line)
{
    g_auto(GStrv) args = g_strsplit(line, " ", -1);

    for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
        if (strcmp(args[0], table[i].name) == 0)
            return table[i].func(ops, args);
    g_error("nobody knows what '%s' is", line);
}

char *
ops_do(Ops *ops, const char *line)
{
    char *answer = dispatch(ops, line);
    WITH_LOCK(&ops->lock);

    g_string_append_printf(ops->said, "    %-28s %s\n", line, answer);
    return answer;
}

bool
ops_is_one_of(const char *answer, const char *wanted)
{
    g_auto(GStrv) words = g_strsplit(wanted, "|", -1);

    return strcmp(wanted, "*") == 0 || g_strv_contains((const char *const *)words, answer);
}

/* ---- life ---- */

void
ops_begin(Ops *ops)
{
    *ops = (Ops){ .next_value = 100, .said = g_string_new(NULL), .all_events = g_string_new(NULL) };
    g_mutex_init(&ops->lock);
    for (unsigned d = 0; d < STAGE_DISKS; d++) {
        g_autofree char *leaf = g_strdup_printf("%c%u", 'a' + d, STAGE_DEPTH - 1);
        g_queue_init(&ops->events[d]);
        if (d < stage.disks && !stage_read(leaf, ops->wanted[d]))
            g_error("%s cannot be read", leaf);
    }
    g_mutex_lock(&listen_lock);
    listening = ops;
    g_mutex_unlock(&listen_lock);
}

void
ops_end(Ops *ops)
{
    ops_join(ops);
    g_mutex_lock(&listen_lock);
    listening = NULL;
    g_mutex_unlock(&listen_lock);
    for (unsigned d = 0; d < STAGE_DISKS; d++)
        g_queue_clear_full(&ops->events[d], g_free);
    g_string_free(ops->all_events, TRUE);
    g_string_free(ops->said, TRUE);
    g_free(ops->begun_line);
    g_free(ops->begun_answer);
    g_mutex_clear(&ops->lock);
}
