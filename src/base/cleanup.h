/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Cleanup attributes that GLib 2.74 lacks.
 *
 *     autofd int fd = open(...);        closed when it leaves scope (if >= 0)
 *     return steal_fd(&fd);             hands it over
 *     WITH_LOCK(&mutex);                held until the end of the scope
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <unistd.h>

static inline void
autofd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define autofd __attribute__((cleanup(autofd_close)))

static inline int
steal_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

#define WITH_LOCK(mutex) g_autoptr(GMutexLocker) lock_here G_GNUC_UNUSED = g_mutex_locker_new(mutex)

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

/* malloc'd by a library that is not GLib (libvirt, libxml2, jansson) */
static inline void
autolibc_free(void *p)
{
    free(*(void **)p);
}
#define autolibc __attribute__((cleanup(autolibc_free)))
