/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * File systems of a test's own, in a mount namespace that goes away with the program, however it
 * ends; and their loop devices with them.
 */
#pragma once

#include "../lib/image_tools.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

typedef struct {
    const char *name;
    bool shares;
    const char *size;
    char *folder; /* NULL = not to be had here */
} TestFs;

static TestFs file_systems[] = {
    { "xfs", true, "320M", NULL },
    { "btrfs", true, "200M", NULL },
    { "ext4", false, "128M", NULL },
    { "tmpfs", false, "128M", NULL },
};

static inline bool
quietly(const char *line)
{
    g_autofree char *all = g_strdup_printf("%s >/dev/null 2>&1", line);
    char *argv[] = { (char *)"/bin/sh", (char *)"-c", all, NULL };
    int status = -1;

    return g_spawn_sync(NULL, argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, NULL, &status, NULL) &&
           status == 0;
}

static inline bool
make_fs(const char *root, const char *kind, const char *folder, const char *size)
{
    if (strcmp(kind, "tmpfs") == 0) {
        g_autofree char *option = g_strdup_printf("size=%s", size);
        return mount("tmpfs", folder, "tmpfs", 0, option) == 0;
    }
    g_autofree char *mkfs = g_strdup_printf("mkfs.%s", kind);
    need_tool(mkfs);
    g_autofree char *line = g_strdup_printf(
        "truncate -s %s %s/%s.img && mkfs.%s %s %s/%s.img && mount -o loop %s/%s.img %s", size,
        root, kind, kind,
        strcmp(kind, "xfs") == 0    ? "-q -m reflink=1"
        : strcmp(kind, "ext4") == 0 ? "-q -E lazy_itable_init=0"
                                    : "-q",
        root, kind, root, kind, folder);
    return quietly(line);
}

static char *fs_root;

static inline void
leave_file_systems(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(file_systems); i++) {
        if (file_systems[i].folder == NULL)
            continue;
        umount2(file_systems[i].folder, MNT_DETACH);
        g_clear_pointer(&file_systems[i].folder, g_free);
    }
    folder_remove(&fs_root);
}

/* In memory if that can be: the disk of the machine is slow to sync. */
static inline char *
fs_folder_new(void)
{
    g_autofree char *folder = g_strdup("/dev/shm/qcow2-test-XXXXXX");

    return g_mkdtemp(folder) != NULL ? g_steal_pointer(&folder) : folder_new();
}

/* Before any thread is started. Without root only a folder of /tmp is left ("ext4"). */
static inline void
enter_file_systems(void)
{
    fs_root = fs_folder_new();
    bool own = geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
               mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;

    for (size_t i = 0; i < G_N_ELEMENTS(file_systems); i++) {
        TestFs *fs = &file_systems[i];
        g_autofree char *folder = in(fs_root, fs->name);

        g_assert_cmpint(mkdir(folder, 0700), ==, 0);
        if ((own && make_fs(fs_root, fs->name, folder, fs->size)) || strcmp(fs->name, "ext4") == 0)
            fs->folder = g_steal_pointer(&folder);
    }
}

static inline unsigned
count_files(const char *folder)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    unsigned count = 0;

    g_assert_nonnull(dir);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;)
        count += strcmp(name, "lost+found") != 0;
    return count;
}

static inline const TestFs *
any_fs(bool shares)
{
    for (size_t i = 0; i < G_N_ELEMENTS(file_systems); i++)
        if (file_systems[i].shares == shares && file_systems[i].folder != NULL)
            return &file_systems[i];
    g_test_skip("no such file system to be had here");
    return NULL;
}
