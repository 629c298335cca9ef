/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * ga MOUNTPOINT: as much of a QEMU guest agent as quiescing needs: sync, ping, a name, and freezing
 * and thawing one file system. Says what it does on the console ("FROZEN 0", "THAWED 0"). While
 * that is frozen it refuses all else in the words of QEMU's (qga/main.c). With "deaf" as a second
 * argument it reads and never answers.
 */
#include <fcntl.h>
#include <glob.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char port_name[] = "org.qemu.guest_agent.0";
static int mount_fd;
static FILE *console;
static int frozen;

/* Opens /dev/vportNpM of the agent's channel; it takes a moment to appear. */
static int
open_port(void)
{
    for (int tries = 0; tries < 100; tries++, usleep(50000)) {
        glob_t found;
        if (glob("/sys/class/virtio-ports/*/name", 0, NULL, &found) != 0)
            continue;
        for (size_t i = 0; i < found.gl_pathc; i++) {
            char name[128] = "", dev[64], port[32];
            FILE *file = fopen(found.gl_pathv[i], "r");
            if (file == NULL || fgets(name, sizeof(name), file) == NULL)
                name[0] = '\0';
            if (file != NULL)
                fclose(file);
            if (strncmp(name, port_name, strlen(port_name)) != 0 ||
                sscanf(found.gl_pathv[i], "/sys/class/virtio-ports/%31[^/]", port) != 1)
                continue;
            snprintf(dev, sizeof(dev), "/dev/%s", port);
            return open(dev, O_RDWR);
        }
        globfree(&found);
    }
    return -1;
}

static void
freeze(int wanted, char *answer, size_t size)
{
    int failed = ioctl(mount_fd, wanted ? FIFREEZE : FITHAW, 0);

    fprintf(console, "%s %d\n", wanted ? "FROZEN" : "THAWED", failed);
    fflush(console);
    if (!failed)
        frozen = wanted;
    snprintf(answer, size, "{\"return\": %d}\n", failed ? 0 : 1);
}

static int
may_be_asked_while_frozen(const char *request)
{
    return strstr(request, "guest-sync") != NULL || strstr(request, "guest-ping") != NULL ||
           strstr(request, "fsfreeze-thaw") != NULL || strstr(request, "fsfreeze-status") != NULL;
}

static void
answer(const char *request, char *text, size_t size)
{
    const char *id = strstr(request, "\"id\":");

    if (frozen && !may_be_asked_while_frozen(request))
        snprintf(text, size,
                 "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Command has been "
                 "disabled: the "
                 "agent is in frozen state\"}}\n");
    else if (strstr(request, "guest-sync") != NULL && id != NULL)
        snprintf(text, size, "%s{\"return\": %llu}\n",
                 strstr(request, "delimited") != NULL ? "\377" : "", strtoull(id + 5, NULL, 10));
    else if (strstr(request, "fsfreeze-freeze") != NULL)
        freeze(1, text, size);
    else if (strstr(request, "fsfreeze-thaw") != NULL)
        freeze(0, text, size);
    else if (strstr(request, "fsfreeze-status") != NULL)
        snprintf(text, size, "{\"return\": \"%s\"}\n", frozen ? "frozen" : "thawed");
    else if (strstr(request, "guest-get-host-name") != NULL)
        snprintf(text, size, "{\"return\": {\"host-name\": \"guest.example.org\"}}\n");
    else if (strstr(request, "guest-ping") != NULL)
        snprintf(text, size, "{\"return\": {}}\n");
    else
        snprintf(text, size, "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no\"}}\n");
}

int
main(int argc, char **argv)
{
    static char request[8192];
    size_t length = 0;
    int deaf = argc > 2 && strcmp(argv[2], "deaf") == 0;
    int port = open_port();

    console = fopen("/dev/ttyS0", "w");
    mount_fd = open(argv[1], O_RDONLY | O_DIRECTORY);
    if (port < 0 || console == NULL || mount_fd < 0)
        return 1;
    for (;;) {
        ssize_t n = read(port, request + length, sizeof(request) - 1 - length);
        if (n <= 0) { /* nobody at the other end */
            usleep(100000);
            continue;
        }
        length += n;
        for (char *end; (end = memchr(request, '\n', length)) != NULL;) {
            char text[256];
            *end = '\0';
            answer(request, text, sizeof(text));
            if (!deaf && write(port, text, strlen(text)) < 0)
                return 1;
            length -= end + 1 - request;
            memmove(request, end + 1, length);
        }
    }
}
