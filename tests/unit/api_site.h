/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A manager with its API on a local socket and an agent that the test plays, for tests that speak
 * HTTP on raw sockets. The VM is that of model_vm.h.
 */
#pragma once

#include "api/api.h"
#include "api/document.h"
#include "api/xml.h"
#include "api_agent.h"
#include "base/clock.h"
#include "base/log.h"
#include "model_vm.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

typedef struct {
    char *dir;
    char *socket;
    Store *store;
    Agent *agent;
    Manager *manager;
    ApiServer *server;
} Site;

static inline Site *
site_new(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = make_vm(4);
    Site *site = g_new0(Site, 1);

    site->dir = g_dir_make_tmp("livemerge-api-XXXXXX", NULL);
    site->socket = g_build_filename(site->dir, "api", NULL);
    g_autofree char *database = g_build_filename(site->dir, "manager.db", NULL);
    g_autofree char *agent_at = g_strconcat("unix:", site->dir, "/agent", NULL);
    HostConfig host = { "h1", agent_at, NULL };
    ApiOptions options = { .listen = "", .socket = site->socket, .state_dir = site->dir };

    site->agent = agent_start(agent_at, vm);
    site->store = store_open(database, &error);
    g_assert_no_error(error);
    site->manager = manager_new(site->store, &host, 1, &error);
    g_assert_no_error(error);
    site->server = api_server_start(site->manager, &options, &error);
    g_assert_no_error(error);
    for (int i = 0; i < 2000; i++) { /* until the agent has told */
        g_autoptr(Vm) told = manager_vm(site->manager, VM_ID, NULL);
        if (told != NULL && told->state == VM_UP)
            return site;
        g_usleep(10000);
    }
    g_error("the manager did not hear of the agent's VM within 20 s");
}

static inline void
site_stop_server(Site *site)
{
    gint64 start = g_get_monotonic_time();

    api_server_stop(g_steal_pointer(&site->server));
    gint64 took = g_get_monotonic_time() - start;
    if (took > 8 * G_TIME_SPAN_SECOND) /* who waits has 10 s or more; a machine may be busy */
        g_error("the API took %" G_GINT64_FORMAT " ms to stop", took / 1000);
}

static inline void
site_free(Site *site)
{
    static const char *const files[] = { "manager.db", "manager.db-wal", "manager.db-shm" };

    if (site->server != NULL)
        site_stop_server(site);
    manager_free(site->manager);
    store_close(site->store);
    agent_stop(site->agent);
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(site->dir, files[i], NULL);
        g_unlink(path);
    }
    if (g_rmdir(site->dir) < 0)
        g_error("%s is not empty after the test", site->dir);
    g_free(site->socket);
    g_free(site->dir);
    g_free(site);
}

/* ---- raw sockets ---- */

static inline int
site_connect(const Site *site)
{
    struct sockaddr_un where = { .sun_family = AF_UNIX };
    struct timeval patience = { .tv_sec = 20 };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(where.sun_path, site->socket, sizeof where.sun_path);
    if (connect(fd, (struct sockaddr *)&where, sizeof where) < 0)
        g_error("connecting to %s: %s", site->socket, g_strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static inline bool
site_send(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        data += sent;
        size -= (size_t)sent;
    }
    return true;
}
