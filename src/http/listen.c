/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http/listen.h"

#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BACKLOG 128

/* ---- unix ---- */

static bool
find_group(const char *name, gid_t *ret_gid, GError **error)
{
    struct group entry;
    struct group *found = NULL;
    char text[16384];
    int failed = getgrnam_r(name, &entry, text, sizeof text, &found);

    if (failed != 0 || found == NULL)
        return error_set(error, ERR_INVALID,
                         "the group \"%s\", who may use the socket, does not exist: create it or "
                         "name another one in the configuration",
                         name);
    *ret_gid = found->gr_gid;
    return true;
}

/* A socket file that nobody answers on was left behind by a crash: it goes. */
static bool
clear_stale(const struct sockaddr_un *where, GError **error)
{
    struct stat about;
    autofd int probe = -1;

    if (lstat(where->sun_path, &about) < 0)
        return errno == ENOENT || error_set_errno(error, "looking at %s", where->sun_path);
    if (!S_ISSOCK(about.st_mode))
        return error_set(error, ERR_BUSY,
                         "%s exists and is not a socket; it is left alone: move "
                         "it away or choose another address",
                         where->sun_path);
    probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return error_set_errno(error, "making a socket");
    /* EAGAIN: its queue is full, so somebody holds it */
    if (connect(probe, (const struct sockaddr *)where, sizeof *where) == 0 || errno == EAGAIN)
        return error_set(error, ERR_BUSY,
                         "another program already listens on unix:%s: stop it first, or choose "
                         "another address",
                         where->sun_path);
    if (errno != ECONNREFUSED && errno != ENOENT)
        return error_set_errno(error, "asking who listens on unix:%s", where->sun_path);
    if (unlink(where->sun_path) < 0 && errno != ENOENT)
        return error_set_errno(error, "removing the stale socket %s", where->sun_path);
    return true;
}

static bool
bind_unix(int fd, const struct sockaddr_un *where, const char *group, GError **error)
{
    gid_t gid = 0;

    if (group != NULL && !find_group(group, &gid, error))
        return false;
    /* The mode of the socket before bind() is the mode of the file it makes (Linux): there is
     * no instant at which others could connect, and the umask of other threads stays. */
    if (fchmod(fd, 0600) < 0)
        return error_set_errno(error, "setting the mode of the socket");
    if (bind(fd, (const struct sockaddr *)where, sizeof *where) < 0) {
        if (errno == EADDRINUSE)
            return error_set(error, ERR_BUSY, "another program just began to listen on unix:%s",
                             where->sun_path);
        return error_set_errno(error, "listening on unix:%s", where->sun_path);
    }
    if (group == NULL)
        return true;
    /* mostly it is the group's already, where we run as its user: the unit allows no chown() */
    struct stat about;
    bool given = stat(where->sun_path, &about) == 0 && about.st_gid == gid;
    if ((!given && chown(where->sun_path, (uid_t)-1, gid) < 0) ||
        chmod(where->sun_path, 0660) < 0) {
        error_set_errno(error, "giving %s to the group %s", where->sun_path, group);
        unlink(where->sun_path);
        return false;
    }
    return true;
}

static bool
open_unix(const char *path, const char *group, Listener *ret_listener, GError **error)
{
    struct sockaddr_un where = { .sun_family = AF_UNIX };
    struct stat about;
    g_autofree char *folder = g_path_get_dirname(path);
    autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (path[0] != '/' || strlen(path) >= sizeof where.sun_path)
        return error_set(error, ERR_INVALID,
                         "unix:%s: the path of a socket must begin with / and have at most %zu "
                         "bytes",
                         path, sizeof where.sun_path - 1);
    g_strlcpy(where.sun_path, path, sizeof where.sun_path);
    if (fd < 0)
        return error_set_errno(error, "making a socket");
    if (g_mkdir_with_parents(folder, 0755) < 0)
        return error_set_errno(error, "making the folder %s", folder);
    if (!clear_stale(&where, error) || !bind_unix(fd, &where, group, error))
        return false;
    if (listen(fd, BACKLOG) < 0 || stat(path, &about) < 0) {
        error_set_errno(error, "listening on unix:%s", path);
        unlink(path);
        return false;
    }
    *ret_listener = (Listener){
        .fd = steal_fd(&fd), .unix_path = g_strdup(path), .dev = about.st_dev, .ino = about.st_ino
    };
    return true;
}

/* ---- TCP ---- */

/* "ADDR:PORT", "[::1]:PORT" */
static bool
split_address(const char *address, char **ret_host, char **ret_port, GError **error)
{
    const char *colon = strrchr(address, ':');
    const char *first = address;
    size_t length = colon == NULL ? 0 : (size_t)(colon - address);
    guint64 port = 0;

    if (length > 2 && first[0] == '[' && first[length - 1] == ']') {
        first++;
        length -= 2;
    }
    if (length == 0 || !g_ascii_string_to_unsigned(colon + 1, 10, 0, 65535, &port, NULL))
        return error_set(error, ERR_INVALID,
                         "\"%s\" is no address to listen on: write unix:/path, ADDRESS:PORT or "
                         "[ADDRESS]:PORT",
                         address);
    *ret_host = g_strndup(first, length);
    *ret_port = g_strdup(colon + 1);
    return true;
}

static int
try_tcp(const struct addrinfo *where)
{
    int on = 1;
    autofd int fd = socket(where->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, where->ai_addr, where->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        return -1;
    return steal_fd(&fd);
}

static unsigned
port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage room;
    } bound;
    socklen_t length = sizeof bound;

    memset(&bound, 0, sizeof bound);
    if (getsockname(fd, &bound.any, &length) < 0)
        return 0;
    return ntohs(bound.any.sa_family == AF_INET6 ? bound.v6.sin6_port : bound.v4.sin_port);
}

static bool
open_tcp(const char *address, Listener *ret_listener, GError **error)
{
    g_autofree char *host = NULL;
    g_autofree char *port = NULL;
    struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    int fd = -1;

    if (!split_address(address, &host, &port, error))
        return false;
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed != 0)
        return error_set(error, ERR_INVALID, "the address to listen on, %s, was not found: %s",
                         address, gai_strerror(failed));
    for (const struct addrinfo *each = found; each != NULL && fd < 0; each = each->ai_next)
        fd = try_tcp(each);
    int why = errno;
    freeaddrinfo(found);
    errno = why;
    if (fd < 0 && why == EADDRINUSE)
        return error_set(error, ERR_BUSY,
                         "another program already listens on %s: stop it, or choose another port",
                         address);
    if (fd < 0)
        return error_set_errno(error, "listening on %s", address);
    *ret_listener = (Listener){ .fd = fd, .port = port_of(fd) };
    return true;
}

bool
listener_open(const char *address, const char *group, Listener *ret_listener, GError **error)
{
    if (g_str_has_prefix(address, "unix:"))
        return open_unix(address + strlen("unix:"), group, ret_listener, error);
    return open_tcp(address, ret_listener, error);
}

void
listener_remove(Listener *listener)
{
    struct stat about;

    if (listener->unix_path != NULL && lstat(listener->unix_path, &about) == 0 &&
        about.st_dev == listener->dev && about.st_ino == listener->ino)
        unlink(listener->unix_path);
    g_clear_pointer(&listener->unix_path, g_free);
}
