/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The table of lines, and what all of them need: names, events, a call that was begun.
 */
#include "ops_parts.h"

#include <string.h>

static GMutex listen_lock;
static Ops *listening; /* whom events are for */

/* ---- names ---- */

char *
stage_path(const char *name)
{
    return g_strdup_printf("%s/%s%s", stage.dir, name, strchr(name, '.') == NULL ? ".qcow2" : "");
}

char *
short_name(const char *path)
{
    char *name = path != NULL ? g_path_get_basename(path) : g_strdup("?");

    if (g_str_has_suffix(name, ".qcow2"))
        name[strlen(name) - strlen(".qcow2")] = '\0';
    return name;
}

unsigned
disk_number(const char *name)
{
    g_assert(name != NULL && (name[0] == 'a' || name[0] == 'b'));
    return (unsigned)(name[0] - 'a');
}

const char *
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

/* ---- answers ---- */

char *
word_of(Ops *ops, bool ok, const GError *error)
{
    if (!ok) {
        WITH_LOCK(&ops->lock);
        g_string_append_printf(ops->said, "        (%s)\n", error->message);
    }
    return g_strdup(ok ? "ok" : error_word(error));
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

/* ---- the table ---- */

static const struct {
    const char *name;
    OpFunc *func;
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
    { "relink", do_relink }, /* FILE BELOW */
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
