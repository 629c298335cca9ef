/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hypervisor/instance.h"

#include "base/clock.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* libvirt starts QEMU with "-name guest=NAME,..." and "-uuid UUID". NULL = it is no such process.
 */
static char *
uuid_of(const char *pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", pid);
    g_autofree char *args = NULL;
    const char *uuid = NULL;
    gsize length = 0;
    bool guest = false;

    if (!g_file_get_contents(path, &args, &length, NULL))
        return NULL;
    for (const char *arg = args, *before = ""; arg < args + length; arg += strlen(arg) + 1) {
        if (strcmp(before, "-uuid") == 0)
            uuid = arg;
        guest |= strcmp(before, "-name") == 0 && g_str_has_prefix(arg, "guest=");
        before = arg;
    }
    return guest && uuid != NULL ? g_ascii_strdown(uuid, -1) : NULL;
}

static bool
has_uuid(const char *pid, const char *vm_id)
{
    g_autofree char *uuid = uuid_of(pid);

    return uuid != NULL && g_ascii_strcasecmp(uuid, vm_id) == 0;
}

/* Field 22 of /proc/PID/stat, or NULL if it has ended, or is ending: its memory (field 23) goes
 * before its files and their locks, so whoever is found here after a look at these held them then.
 * The name (field 2) may hold anything, blanks and brackets too: count from the last bracket. */
static char *
start_time(const char *pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/stat", pid);
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return NULL;
    const char *rest = strrchr(text, ')');
    if (rest == NULL || rest[1] != ' ')
        return NULL;
    g_auto(GStrv) fields = g_strsplit(rest + 2, " ", 21); /* from field 3 */
    if (g_strv_length(fields) < 21 || strchr("ZXx", fields[0][0]) != NULL ||
        g_str_has_prefix(fields[20], "0 "))
        return NULL;
    return g_strdup(fields[19]);
}

/* The arguments before and after the start time: a pid that changed hands between is noticed. */
static char *
check(const char *pid, const char *vm_id)
{
    if (!has_uuid(pid, vm_id))
        return NULL;
    g_autofree char *start = start_time(pid);
    if (start == NULL || !has_uuid(pid, vm_id))
        return NULL;
    return g_strdup_printf("%s.%s", pid, start);
}

/* A pid together with its start time is one process for ever: its arguments, which are dear to
 * read, need no second look. */
static char *
check_cached(const char *cached)
{
    const char *dot = strchr(cached, '.');
    if (dot == NULL)
        return NULL;
    g_autofree char *pid = g_strndup(cached, dot - cached);
    g_autofree char *start = start_time(pid);

    return g_strcmp0(start, dot + 1) == 0 ? g_strdup(cached) : NULL;
}

/* A QEMU that libvirt has lost may stand there yet when libvirt has started the VM anew. */
static bool
is_newer(const char *one, const char *other)
{
    return g_ascii_strtoull(strchr(one, '.') + 1, NULL, 10) >
           g_ascii_strtoull(strchr(other, '.') + 1, NULL, 10);
}

char *
instance_look(const char *vm_id, const char *cached)
{
    char *found = cached != NULL ? check_cached(cached) : NULL;
    if (found != NULL)
        return found;

    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    if (proc == NULL)
        return NULL;
    for (const char *name = g_dir_read_name(proc); name != NULL; name = g_dir_read_name(proc)) {
        char *one = g_ascii_isdigit(name[0]) ? check(name, vm_id) : NULL;
        if (one != NULL && (found == NULL || is_newer(one, found))) {
            g_free(found);
            found = g_steal_pointer(&one);
        }
        g_free(one);
    }
    return found;
}

gint64
instance_started(const char *instance)
{
    const char *dot = strchr(instance, '.');
    struct timespec up = { 0 };
    gint64 ticks = dot != NULL ? g_ascii_strtoll(dot + 1, NULL, 10) : 0;

    if (ticks <= 0 || clock_gettime(CLOCK_BOOTTIME, &up) < 0)
        return 0;
    gint64 booted = clock_wall_ms() - (gint64)up.tv_sec * 1000 - up.tv_nsec / 1000000;
    return booted + ticks * 1000 / sysconf(_SC_CLK_TCK);
}

GHashTable *
instance_all(void)
{
    GHashTable *all = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    const char *name;

    while (proc != NULL && (name = g_dir_read_name(proc)) != NULL) {
        char *uuid = g_ascii_isdigit(name[0]) ? uuid_of(name) : NULL;
        if (uuid != NULL)
            g_hash_table_add(all, uuid);
    }
    return all;
}
