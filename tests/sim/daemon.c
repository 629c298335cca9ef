/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * qemu-storage-daemons, one for each merge of a VM that is off, and what the agent says to them
 * (agent/qmp.h). They outlive the agent. As tried with QEMU 7.2: an internal commit relinks the
 * header of the volume above by itself; a commit of the leaf becomes ready, and its header stays; a
 * job that is not dismissed keeps the daemon from quitting.
 */
#include "world.h"

#include "agent/qmp.h"

#include <gio/gio.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define WRAP(name) __wrap_##name
#define REAL(name) __real_##name
#define MAX_NODES 16

typedef enum { NO_JOB, RUNNING, READY, COMPLETING, CONCLUDED } Status;
static const char *const status_words[] = { "null", "running", "ready", "waiting", "concluded" };

typedef struct {
    char socket[128];
    bool alive, cancel;
    char names[MAX_NODES][16];
    Node nodes[MAX_NODES]; /* base first */
    unsigned n_nodes, base, top;
    char backing[128];
    Status status;
    char error[64];
    uint64_t done, total, speed;
    bool committed[MAX_CLUSTERS];
} Daemon;

struct Qmp {
    Daemon *daemon;
};

static GPtrArray *daemons; /* of this world; the dead stay until the next one */
static int subprocess;     /* its address stands for a GSubprocess */

static Daemon *
find_daemon(const char *socket)
{
    for (guint i = 0; i < daemons->len; i++) {
        Daemon *daemon = daemons->pdata[i];
        if (daemon->alive && strcmp(daemon->socket, socket) == 0)
            return daemon;
    }
    return NULL;
}

static void
die(Daemon *daemon)
{
    daemon->alive = false;
    vfs_unlock_all(daemon);
}

bool
daemon_runs(void)
{
    for (guint i = 0; i < daemons->len; i++)
        if (((Daemon *)daemons->pdata[i])->alive)
            return true;
    return false;
}

void
daemon_died(void)
{
    for (guint i = 0; i < daemons->len; i++)
        die(daemons->pdata[i]);
    fibers_kill(P_DAEMON);
}

void
daemon_reset(void)
{
    if (daemons == NULL)
        daemons = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_set_size(daemons, 0);
}

/* ---- spawning ---- */

GSubprocess *
WRAP(g_subprocess_new)(GSubprocessFlags flags, GError **error, const char *program,
                       const char *option, const char *chardev, ...)
{
    Daemon *daemon = g_new0(Daemon, 1);
    const char *path = strstr(chardev, "path=") + 5;

    (void)flags;
    (void)error;
    (void)option;
    g_assert(g_str_equal(program, "qemu-storage-daemon"));
    g_snprintf(daemon->socket, sizeof daemon->socket, "%.*s", (int)strcspn(path, ","), path);
    fiber_point("storage daemon is started");
    daemon->alive = true;
    g_ptr_array_add(daemons, daemon);
    vfs_make(daemon->socket, false);
    fiber_point("storage daemon listens");
    return (GSubprocess *)(void *)&subprocess;
}

gboolean
WRAP(g_subprocess_wait_check)(GSubprocess *process, void *cancellable, GError **error)
{
    (void)process;
    (void)cancellable;
    (void)error;
    return TRUE;
}

void REAL(g_object_unref)(void *object);
void
WRAP(g_object_unref)(void *object)
{
    if (object != &subprocess)
        REAL(g_object_unref)(object);
}

/* ---- the job ---- */

static bool
goes_on(Daemon *daemon)
{
    if (!daemon->alive)
        return false;
    if (!daemon->cancel)
        return true;
    if (daemon->status == RUNNING)
        g_strlcpy(daemon->error, "Operation canceled", sizeof daemon->error);
    daemon->status = CONCLUDED;
    return false;
}

static void
copy_one(Daemon *daemon, unsigned cluster)
{
    uint64_t value;

    for (unsigned i = daemon->top; i > daemon->base; i--) {
        if (!image_value(&daemon->nodes[i].image, cluster, &value))
            continue;
        image_put(&daemon->nodes[daemon->base].image, cluster, value);
        return;
    }
}

static void
relink(Daemon *daemon)
{
    Node *above = &daemon->nodes[daemon->top + 1];

    fiber_point("storage daemon is about to rewrite the header");
    if (!goes_on(daemon))
        return;
    image_set_backing(&above->image, daemon->backing, daemon->nodes[daemon->base].image.raw);
    if ((plan.lies & LIE_HEADER) == 0)
        image_flush(&above->image);
    fiber_point("storage daemon has rewritten the header");
    if (daemon->alive)
        daemon->status = CONCLUDED;
}

static void
job(void *data)
{
    Daemon *daemon = data;

    for (unsigned c = 0; c < vm.clusters; c++) {
        int64_t us = daemon->speed > 0 ? (int64_t)(CLUSTER_BYTES * 1000000 / daemon->speed) : 0;
        int64_t until = fiber_now_us() + MIN(us, 3600 * G_TIME_SPAN_SECOND);
        fiber_point("storage daemon copies");
        while (daemon->alive && !daemon->cancel && daemon->speed > 0 && fiber_now_us() < until)
            fiber_sleep_us(10000);
        if (!goes_on(daemon))
            return;
        bool trouble = storage_error() != 0 || storage_is_full(); /* may wait */
        if (!goes_on(daemon))
            return;
        if (trouble || world_lies(LIE_JOB_FAILS, 4)) {
            g_strlcpy(daemon->error, "No luck", sizeof daemon->error);
            daemon->status = CONCLUDED;
            return;
        }
        copy_one(daemon, c);
        daemon->done += CLUSTER_BYTES;
    }
    image_flush(&daemon->nodes[daemon->base].image);
    if (daemon->top + 1 < daemon->n_nodes) {
        relink(daemon);
        return;
    }
    daemon->status = READY;
    while (goes_on(daemon) && daemon->status == READY)
        fiber_sleep_us(1000);
    fiber_point("storage daemon concludes");
    if (goes_on(daemon))
        daemon->status = CONCLUDED;
}

/* ---- commands ---- */

static bool
refuse(GError **error, const char *command, const char *why)
{
    return error_set(error, ERR_HYPERVISOR, "qemu-storage-daemon: %s: %s", command, why);
}

static bool
blockdev_add(Daemon *daemon, const json_t *arguments, GError **error)
{
    const char *path =
        json_string_value(json_object_get(json_object_get(arguments, "file"), "filename"));
    bool raw = g_strcmp0(json_text(arguments, "driver"), "raw") == 0;
    Node *node = &daemon->nodes[daemon->n_nodes];

    g_assert(daemon->n_nodes < MAX_NODES);
    g_strlcpy(node->path, path, sizeof node->path);
    if (storage_error() != 0 || !image_at(vfs_find(path), path, raw, &node->image))
        return refuse(error, "blockdev-add", "cannot be opened");
    g_strlcpy(daemon->names[daemon->n_nodes++], json_text(arguments, "node-name"), 16);
    return true;
}

static unsigned
index_of(const Daemon *daemon, const char *name)
{
    for (unsigned i = 0; i < daemon->n_nodes; i++)
        if (g_strcmp0(daemon->names[i], name) == 0)
            return i;
    g_assert_not_reached();
}

static bool
block_commit(Daemon *daemon, const json_t *arguments, GError **error)
{
    VfsNode *base;

    daemon->base = index_of(daemon, json_text(arguments, "base-node"));
    daemon->top = index_of(daemon, json_text(arguments, "top-node"));
    daemon->speed = (uint64_t)json_number(arguments, "speed");
    if (json_text(arguments, "backing-file") != NULL)
        g_strlcpy(daemon->backing, json_text(arguments, "backing-file"), sizeof daemon->backing);
    for (unsigned i = daemon->base; i < daemon->n_nodes; i++) {
        VfsNode *node = daemon->nodes[i].image.node;
        bool writes = i == daemon->base || i > daemon->top;
        if ((writes && vfs_lock_conflict(node, daemon, 201, 202, true) != NULL) ||
            vfs_lock_conflict(node, daemon, 101, 102, true) != NULL)
            return refuse(error, "block-commit", "Failed to get \"write\" lock");
    }
    for (unsigned i = daemon->base; i < daemon->n_nodes; i++) {
        base = daemon->nodes[i].image.node;
        vfs_lock(base, P_DAEMON, daemon, 100, 101, false);
        if (i == daemon->base || i > daemon->top)
            vfs_lock(base, P_DAEMON, daemon, 101, 102, false);
        vfs_lock(base, P_DAEMON, daemon, 201, 202, false);
    }
    daemon->status = RUNNING;
    daemon->total = vm.clusters * CLUSTER_BYTES;
    fiber_start(P_DAEMON, "cold job", job, daemon);
    return true;
}

static json_t *
query_jobs(const Daemon *daemon)
{
    json_t *list = json_array(), *one;

    if (daemon->status == NO_JOB)
        return list;
    one = json_pack("{s:s, s:s, s:I, s:I}", "id", "merge", "status", status_words[daemon->status],
                    "current-progress", (json_int_t)daemon->done, "total-progress",
                    (json_int_t)daemon->total);
    if (*daemon->error != '\0')
        json_object_set_new(one, "error", json_string(daemon->error));
    json_array_append_new(list, one);
    return list;
}

static bool
execute(Daemon *daemon, const char *command, const json_t *arguments, json_t **ret_return,
        GError **error)
{
    *ret_return = NULL;
    if (g_str_equal(command, "blockdev-add"))
        return blockdev_add(daemon, arguments, error);
    if (g_str_equal(command, "block-commit"))
        return block_commit(daemon, arguments, error);
    if (g_str_equal(command, "query-jobs")) {
        *ret_return = query_jobs(daemon);
    } else if (g_str_equal(command, "query-block-jobs")) {
        *ret_return = daemon->status == NO_JOB
                          ? json_array()
                          : json_pack("[{s:I}]", "speed", (json_int_t)daemon->speed);
    } else if (g_str_equal(command, "block-job-set-speed")) {
        daemon->speed = (uint64_t)json_number(arguments, "speed");
    } else if (g_str_equal(command, "job-complete")) {
        if (daemon->status != READY)
            return refuse(error, command, "the job is not ready");
        daemon->status = COMPLETING;
    } else if (g_str_equal(command, "job-cancel")) {
        if (daemon->status == CONCLUDED || daemon->status == NO_JOB)
            return refuse(error, command, "the job has concluded");
        daemon->cancel = true;
    } else if (g_str_equal(command, "job-dismiss")) {
        if (daemon->status != CONCLUDED)
            return refuse(error, command, "the job has not concluded");
        daemon->status = NO_JOB;
        vfs_unlock_all(daemon);
    } else {
        g_error("qemu-storage-daemon: %s?", command);
    }
    return true;
}

/* ---- what the agent calls ---- */

Qmp *
WRAP(qmp_open)(const char *socket, GError **error)
{
    fiber_point("storage daemon is connected to");
    Daemon *daemon = find_daemon(socket);
    if (daemon == NULL) {
        error_set(error, ERR_NOT_FOUND, "no qemu-storage-daemon at %s", socket);
        return NULL;
    }
    Qmp *qmp = g_new0(Qmp, 1);
    qmp->daemon = daemon;
    return qmp;
}

void
WRAP(qmp_close)(Qmp *qmp)
{
    g_free(qmp);
}

bool
WRAP(qmp_call)(Qmp *qmp, const char *command, json_t *take_arguments, json_t **ret_return,
               GError **error)
{
    g_autoptr(json_t) arguments = take_arguments, result = NULL;

    if (!g_str_has_prefix(command, "query"))
        fiber_point(command);
    bool ok = qmp->daemon->alive ? execute(qmp->daemon, command, arguments, &result, error)
                                 : error_set(error, ERR_UNREACHABLE, "it closed its monitor");
    if (ok && ret_return != NULL)
        *ret_return = g_steal_pointer(&result);
    return ok;
}

bool
WRAP(qmp_is_spawned)(const Qmp *qmp, const char *socket)
{
    return g_str_equal(qmp->daemon->socket, socket);
}

bool
WRAP(qmp_quit)(Qmp *qmp, int budget_ms, GError **error)
{
    (void)budget_ms;
    fiber_point("quit");
    if (!qmp->daemon->alive)
        return error_set(error, ERR_UNREACHABLE, "it closed its monitor");
    if (qmp->daemon->status != NO_JOB)
        return error_set(error, ERR_TIMEOUT, "qemu-storage-daemon does not end");
    die(qmp->daemon);
    return true;
}
