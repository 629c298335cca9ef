/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The first half of a forward merge: the new volume takes what the volumes of the run below the
 * leaf hold. They are immutable, so qemu-img may read them while the VM runs. What the leaf holds
 * comes afterwards, by a block copy on top of it.
 *
 * Repeatable: an unfinished volume is thrown away and begun again.
 */
#include "agent/merge.h"

#include "base/log.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

static uint64_t
allocated(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static StepState
finish(Operation *op, GError **error)
{
    MergeScratch *scratch = merge_scratch(op);
    GSubprocess *process = scratch->prefill;

    if (g_subprocess_get_if_exited(process) && g_subprocess_get_exit_status(process) == 0) {
        op_remember(op, "prefilled", json_integer((json_int_t)allocated(op_data(op, "dest"))));
        g_clear_object(&scratch->prefill);
        return STEP_DONE;
    }
    g_clear_object(&scratch->prefill);
    error_set(
        error, ERR_STORAGE,
        "disk %s: copying into %s failed (qemu-img; is the storage full?); the VM is untouched",
        op_data(op, "target"), op_data(op, "dest"));
    return STEP_FAILED;
}

StepState
prefill_check(void *self, GError **error)
{
    Operation *op = self;
    MergeScratch *scratch = merge_scratch(op);

    if (merge_is(op, "graft"))
        return graft_build_check(op);
    if (!merge_is(op, "copy"))
        return STEP_DONE;
    if (json_object_get(op->row.data, "prefilled") != NULL)
        return STEP_DONE;
    if (scratch->prefill == NULL)
        return STEP_TODO;
    /* get_identifier() is NULL once it has been reaped */
    if (g_subprocess_get_identifier(scratch->prefill) == NULL)
        return finish(op, error);
    op->poll_ms = 100;
    operation_progress(op, "copying", allocated(op_data(op, "dest")),
                       (uint64_t)json_number(op->row.data, "bytes"));
    return STEP_RUNNING;
}

/* In the child. The copy is begun again by the next agent: one that goes on alone only costs. It
 * follows the thread that started it, which is the VM's worker and lives as long as the operation.
 */
static void
die_with_agent(void *unused)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static GSubprocess *
run_convert(Operation *op, const char *source, const char *backing, const char *backing_format,
            GError **error)
{
    uint64_t limit = (uint64_t)json_number(op->row.params, "bandwidth");
    g_autofree char *rate = g_strdup_printf("%" G_GUINT64_FORMAT, limit);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autoptr(GError) problem = NULL;
    g_autoptr(GSubprocessLauncher) launcher = NULL;
    GSubprocess *process;

#define ARG(text) g_ptr_array_add(argv, (char *)(text))
    ARG("qemu-img");
    ARG("convert");
    ARG("-n");
    ARG("-f");
    ARG(op_data(op, "below_format"));
    ARG("-O");
    ARG("qcow2");
    if (limit > 0) {
        ARG("-r");
        ARG(rate);
    }
    if (backing != NULL) {
        ARG("-B");
        ARG(backing);
        ARG("-F");
        ARG(backing_format);
    } else {
        ARG("--target-is-zero");
    }
    ARG(source);
    ARG(op_data(op, "dest"));
    ARG(NULL);
#undef ARG
    launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_SILENCE);
    g_subprocess_launcher_set_child_setup(launcher, die_with_agent, NULL, NULL);
    process = g_subprocess_launcher_spawnv(launcher, (const char *const *)argv->pdata, &problem);
    if (process == NULL)
        error_set(error, ERR_STORAGE, "qemu-img could not be started: %s", problem->message);
    return process;
}

static bool
copy_below_leaf(Operation *op, GError **error)
{
    json_t *before = json_object_get(op->row.data, "before"),
           *run = json_object_get(op->row.data, "run");
    const char *dest = op_data(op, "dest"),
               *leaf = json_string_value(json_array_get(before, json_array_size(before) - 1)),
               *below = json_string_value(json_array_get(run, json_array_size(run) - 2));
    size_t at = json_array_size(before) - json_array_size(run);
    const char *base = at > 0 ? json_string_value(json_array_get(before, at - 1)) : NULL;
    g_autoptr(GPtrArray) layers = qcow2_chain_walk(leaf, "qcow2", NULL, error);
    g_autofree char *backing = base != NULL ? relative_name(dest, base) : NULL;
    uint64_t bytes = 0;
    struct stat st;

    if (layers == NULL)
        return false;
    if (stat(leaf, &st) < 0)
        return error_set_errno(error, "%s", leaf);
    for (guint i = (guint)at; i < layers->len; i++)
        bytes += ((Qcow2Layer *)layers->pdata[i])->allocated;
    op_remember(op, "bytes", json_integer((json_int_t)bytes));
    Qcow2Layer *under = layers->pdata[layers->len - 2];
    op_remember(op, "below_format", json_string(under->format));
    const char *base_format = at > 0 ? ((Qcow2Layer *)layers->pdata[at - 1])->format : NULL;

    prefill_stop(op);
    if (g_unlink(dest) < 0 && errno != ENOENT)
        return error_set_errno(error, "removing the unfinished %s", dest);
    if (!qcow2_create(dest, ((Qcow2Layer *)layers->pdata[layers->len - 1])->virtual_size, backing,
                      base_format, 0600, (int)st.st_uid, (int)st.st_gid, error))
        return false;
    MergeScratch *scratch = merge_scratch(op);
    scratch->prefill = run_convert(op, below, backing != NULL ? base : NULL, base_format, error);
    return scratch->prefill != NULL;
}

bool
prefill_act(void *self, GError **error)
{
    return merge_is(self, "graft") ? graft_build_act(self, error) : copy_below_leaf(self, error);
}

void
prefill_stop(Operation *op)
{
    MergeScratch *scratch = merge_scratch(op);

    if (scratch->prefill == NULL)
        return;
    g_subprocess_force_exit(scratch->prefill);
    g_subprocess_wait(scratch->prefill, NULL, NULL);
    g_clear_object(&scratch->prefill);
}
