/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/qmp.h"

#include "base/text.h"
#include "model/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>

struct Qmp {
    FILE *in;
    int fd;
    int pid;     /* of the daemon; 0 = unknown */
    int process; /* its pidfd; -1 = unknown */
    char *id;    /* of this connection's requests */
    unsigned requests;
};

static json_t *
read_message(Qmp *qmp, GError **error)
{
    autolibc char *line = NULL;
    size_t room = 0;
    json_t *json;

    if (getline(&line, &room, qmp->in) <= 0) {
        error_set(error, ERR_UNREACHABLE, "qemu-storage-daemon closed its monitor");
        return NULL;
    }
    json = json_loads(line, 0, NULL);
    if (json == NULL)
        error_set(error, ERR_HYPERVISOR, "qemu-storage-daemon sent what is not JSON");
    return json;
}

/* What was asked by somebody who died is answered to whoever is connected by then, and half a line
 * of theirs is told as an error without an id (seen of QEMU 7.2): only what carries our id is ours.
 */
static bool
read_answer(Qmp *qmp, const char *command, const char *id, json_t **ret_return, GError **error)
{
    for (;;) {
        g_autoptr(json_t) answer = read_message(qmp, error);
        if (answer == NULL)
            return false;
        json_t *refusal = json_object_get(answer, "error"),
               *result = json_object_get(answer, "return");
        if (g_strcmp0(json_text(answer, "id"), id) != 0)
            continue; /* an event, or another's */
        if (refusal != NULL)
            return error_set(error, ERR_HYPERVISOR, "qemu-storage-daemon: %s: %s", command,
                             json_string_value(json_object_get(refusal, "desc")));
        if (ret_return != NULL)
            *ret_return = json_incref(result);
        return true;
    }
}

bool
qmp_call(Qmp *qmp, const char *command, json_t *take_arguments, json_t **ret_return, GError **error)
{
    g_autofree char *id = g_strdup_printf("%s-%u", qmp->id, ++qmp->requests);
    g_autoptr(json_t) request = json_pack("{s:s, s:s}", "execute", command, "id", id);
    g_autofree char *line = NULL;

    if (take_arguments != NULL)
        json_object_set_new(request, "arguments", take_arguments);
    autolibc char *text = json_dumps(request, JSON_COMPACT);
    line = g_strconcat(text, "\n", NULL);
    if (send(qmp->fd, line, strlen(line), MSG_NOSIGNAL) != (ssize_t)strlen(line))
        return error_set(error, ERR_UNREACHABLE, "qemu-storage-daemon: %s: %s", command,
                         g_strerror(errno));
    return read_answer(qmp, command, id, ret_return, error);
}

Qmp *
qmp_open(const char *socket_path, GError **error)
{
    g_autoptr(Qmp) qmp = g_new0(Qmp, 1);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval patience = { .tv_sec = 10 };
    g_autoptr(json_t) greeting = NULL;

    qmp->process = -1;
    qmp->id = id_new();
    qmp->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, socket_path, sizeof address.sun_path);
    if (strlen(socket_path) >= sizeof address.sun_path) {
        error_set(error, ERR_INVALID, "the socket's path %s is too long", socket_path);
        return NULL;
    }
    if (qmp->fd < 0 || connect(qmp->fd, (struct sockaddr *)&address, sizeof address) < 0) {
        bool none = errno == ECONNREFUSED || errno == ENOENT;
        error_set(error, none ? ERR_NOT_FOUND : ERR_UNREACHABLE, "no qemu-storage-daemon at %s",
                  socket_path);
        return NULL;
    }
    struct ucred peer = { 0 };
    socklen_t size = sizeof peer;
    if (getsockopt(qmp->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0)
        qmp->process = (int)syscall(SYS_pidfd_open, qmp->pid = peer.pid, 0);
    setsockopt(qmp->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    qmp->in = fdopen(fcntl(qmp->fd, F_DUPFD_CLOEXEC, 0), "r");
    if (qmp->in == NULL || (greeting = read_message(qmp, error)) == NULL ||
        !qmp_call(qmp, "qmp_capabilities", NULL, NULL, error))
        return NULL;
    return g_steal_pointer(&qmp);
}

void
qmp_close(Qmp *qmp)
{
    if (qmp == NULL)
        return;
    if (qmp->in != NULL)
        fclose(qmp->in);
    if (qmp->fd >= 0)
        close(qmp->fd);
    if (qmp->process >= 0)
        close(qmp->process);
    g_free(qmp->id);
    g_free(qmp);
}

bool
qmp_is_spawned(const Qmp *qmp, const char *socket_path)
{
    g_autofree char *file = g_strdup_printf("/proc/%d/cmdline", qmp->pid);
    g_autofree char *base = g_path_get_basename(socket_path);
    g_autofree char *socket = g_strdup_printf("/%s,server=on,", base);
    g_autofree char *words = NULL;
    struct pollfd end = { .fd = qmp->process, .events = POLLIN };
    size_t length = 0, at = 0;
    bool has_socket = false;

    if (qmp->pid == 0 || qmp->process < 0 || !g_file_get_contents(file, &words, &length, NULL) ||
        poll(&end, 1, 0) != 0)
        return false; /* who has ended since may have left its pid to another */
    g_autofree char *program = g_path_get_basename(words);
    for (; at < length; at += strlen(words + at) + 1)
        has_socket = has_socket || strstr(words + at, socket) != NULL;
    return g_str_equal(program, "qemu-storage-daemon") && has_socket;
}

bool
qmp_quit(Qmp *qmp, int budget_ms, GError **error)
{
    struct pollfd end = { .fd = qmp->process, .events = POLLIN };

    if (!qmp_call(qmp, "quit", NULL, NULL, error))
        return false;
    /* a socket that closed says little: the process is gone, and with it its image locks, when its
     * pidfd says so */
    if (qmp->process >= 0 && poll(&end, 1, budget_ms) == 0)
        return error_set(error, ERR_TIMEOUT, "qemu-storage-daemon does not end");
    return true;
}
