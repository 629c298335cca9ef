/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hook/hook.h"

#include "base/clock.h"
#include "base/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define DEFAULT_CONFIG "/etc/livemerge/agent.conf"
#define DEFAULT_ADDRESS "unix:/run/livemerge/agent.sock"
#define MAX_ANSWER (1 << 20)

char *
hook_agent_address(const char *config_file)
{
    g_autoptr(Config) config =
        config_load(config_file != NULL ? config_file : DEFAULT_CONFIG, false, NULL, NULL);
    const char *address = config != NULL ? config_get(config, "agent", "listen") : NULL;

    return g_strdup(address != NULL ? address : DEFAULT_ADDRESS);
}

/* ---- the connection ---- */

static int
open_unix(const char *path, GError **error)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (g_strlcpy(to.sun_path, path, sizeof to.sun_path) >= sizeof to.sun_path) {
        error_set(error, ERR_UNREACHABLE, "%s is too long for a socket", path);
        return -1;
    }
    /* a full queue of a stopped agent is EAGAIN here: it is as good as not there */
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        error_set(error, ERR_UNREACHABLE, "%s: %s", path, g_strerror(errno));
        return -1;
    }
    return steal_fd(&fd);
}

/* "127.0.0.1:9000", "[::1]:9000": the agent listens to nothing else */
static int
open_loopback(const char *address, GError **error)
{
    const char *colon = strrchr(address, ':');
    guint16 port = (guint16)(colon != NULL ? strtoul(colon + 1, NULL, 10) : 0);
    bool v6 = address[0] == '[';
    struct sockaddr_in to4 = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 to6 = { .sin6_family = AF_INET6,
                                .sin6_port = htons(port),
                                .sin6_addr = in6addr_loopback };
    const struct sockaddr *to = v6 ? (struct sockaddr *)&to6 : (struct sockaddr *)&to4;
    g_autofree char *host = g_strndup(address, colon != NULL ? (size_t)(colon - address) : 0);
    autofd int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (!v6 && inet_pton(AF_INET, host, &to4.sin_addr) != 1) {
        error_set(error, ERR_UNREACHABLE, "'%s' is no address of an agent", address);
        return -1;
    }
    /* over loopback it is there at once, or not at all */
    if (fd < 0 || (connect(fd, to, v6 ? sizeof to6 : sizeof to4) < 0 && errno != EINPROGRESS)) {
        error_set(error, ERR_UNREACHABLE, "%s: %s", address, g_strerror(errno));
        return -1;
    }
    return steal_fd(&fd);
}

static bool
wait_for(int fd, short what, int64_t until_us, GError **error)
{
    struct pollfd poller = { .fd = fd, .events = what };
    int64_t left_ms = (until_us - clock_mono_us()) / 1000;

    if (left_ms > 0 && poll(&poller, 1, (int)left_ms) > 0)
        return true;
    return error_set(error, ERR_TIMEOUT, "the agent did not answer in time");
}

static bool
send_all(int fd, const GString *text, int64_t until_us, GError **error)
{
    for (size_t done = 0; done < text->len;) {
        ssize_t n = send(fd, text->str + done, text->len - done, MSG_NOSIGNAL);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EAGAIN && errno != EINTR)
            return error_set(error, ERR_UNREACHABLE, "the agent does not listen: %s",
                             g_strerror(errno));
        else if (!wait_for(fd, POLLOUT, until_us, error))
            return false;
    }
    return true;
}

/* To the end of the connection, which the agent closes when it has answered. */
static bool
receive_all(int fd, GString *text, int64_t until_us, GError **error)
{
    for (;;) {
        char part[4096];
        ssize_t n = recv(fd, part, sizeof part, 0);
        if (n == 0)
            return true;
        if (n > 0)
            g_string_append_len(text, part, n);
        else if (errno != EAGAIN && errno != EINTR)
            return error_set(error, ERR_UNREACHABLE, "the agent broke off: %s", g_strerror(errno));
        else if (!wait_for(fd, POLLIN, until_us, error))
            return false;
        if (text->len > MAX_ANSWER)
            return error_set(error, ERR_UNREACHABLE, "the agent's answer does not end");
    }
}

/* ---- the call ---- */

static GString *
request_text(const char *vm_id, const json_t *body)
{
    autolibc char *json = json_dumps(body, JSON_COMPACT);
    GString *text = g_string_new(NULL);

    g_string_printf(text,
                    "POST /v1/vms/%s/starting HTTP/1.1\r\nHost: localhost\r\n"
                    "Content-Type: application/json\r\nContent-Length: %zu\r\n"
                    "Connection: close\r\n\r\n%s",
                    vm_id, json != NULL ? strlen(json) : 0, json != NULL ? json : "");
    return text;
}

static bool
read_answer(const GString *answer, char **ret_refusal, GError **error)
{
    const char *space = strchr(answer->str, ' '), *body = strstr(answer->str, "\r\n\r\n");
    int status = space != NULL ? atoi(space) : 0;
    g_autoptr(json_t) json =
        body != NULL ? json_loads(body + 4, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const char *code = NULL, *message = NULL;

    if (g_str_has_prefix(answer->str, "HTTP/1.") && status == 200)
        return true;
    if (json_unpack(json, "{s: {s: s, s: s}}", "error", "code", &code, "message", &message) == 0 &&
        strcmp(code, "refused") == 0) {
        *ret_refusal = g_strdup(message);
        return true;
    }
    return error_set(error, ERR_UNREACHABLE, "the agent could not tell: %s",
                     message != NULL ? message : "its answer cannot be read");
}

bool
hook_ask(const char *address, const char *vm_id, const json_t *body, unsigned budget_ms,
         char **ret_refusal, GError **error)
{
    int64_t until = clock_mono_us() + (int64_t)budget_ms * 1000;
    bool is_unix = g_str_has_prefix(address, "unix:");
    autofd int fd = is_unix ? open_unix(address + 5, error) : open_loopback(address, error);
    g_autoptr(GString) request = request_text(vm_id, body);
    g_autoptr(GString) answer = g_string_new(NULL);

    *ret_refusal = NULL;
    return fd >= 0 && send_all(fd, request, until, error) &&
           receive_all(fd, answer, until, error) && read_answer(answer, ret_refusal, error);
}
