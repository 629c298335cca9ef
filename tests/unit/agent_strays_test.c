/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Storage daemons that no operation knows: each is asked to end, however long others say nothing.
 * They are played.
 */
#include "agent_host.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SILENT 4
#define ASKED_MS 10000 /* how long the agent waits for one of them */

static int
listen_at(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
    g_assert_cmpint(listen(fd, 4), ==, 0);
    return fd;
}

/* One after the other, the last would be asked half a minute later. */
static void
test_silent_ones(Host *host, gconstpointer data)
{
    int listeners[SILENT], asked[SILENT];
    int64_t began = g_get_monotonic_time();

    (void)data;
    agent_end(host);
    for (unsigned i = 0; i < SILENT; i++) {
        g_autofree char *name = g_strdup_printf("s/cold-0000000%u.sock", i);
        g_autofree char *path = in(host->folder, name);
        listeners[i] = listen_at(path);
    }
    agent_begin(host);
    for (unsigned i = 0; i < SILENT; i++) {
        struct pollfd come = { .fd = listeners[i], .events = POLLIN };
        g_assert_cmpint(poll(&come, 1, 4 * ASKED_MS), ==, 1);
        asked[i] = accept4(listeners[i], NULL, NULL, SOCK_CLOEXEC);
        g_assert_cmpint(asked[i], >=, 0);
    }
    int64_t ms = (g_get_monotonic_time() - began) / 1000;
    g_test_message("all %u were asked after %" G_GINT64_FORMAT " ms", SILENT, ms);
    g_assert_cmpint(ms, <, ASKED_MS);
    for (unsigned i = 0; i < SILENT; i++) {
        close(asked[i]);
        close(listeners[i]);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/agent/strays/silent", Host, NULL, set_up, test_silent_ones, tear_down);
    return g_test_run();
}
