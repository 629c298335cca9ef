/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * For tests that work on images: a folder that goes away, commands that must succeed, bytes
 * overwritten on purpose. Failures end the test program with a message.
 */
#pragma once

#include "folder.h"
#include "need_tool.h"
#include "qcow2/qcow2.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)

static inline char *
folder_new(void)
{
    g_autoptr(GError) error = NULL;
    char *folder = g_dir_make_tmp("qcow2-test-XXXXXX", &error);

    g_assert_no_error(error);
    return folder;
}

static inline void
folder_remove(char **folder)
{
    tree_remove(*folder);
    g_free(*folder);
}
#define FOLDER(name) __attribute__((cleanup(folder_remove))) char *name = folder_new()

/* In memory where that is possible: thousands of files are made durable. */
static inline char *
quick_folder(void)
{
    char *folder = g_strdup("/dev/shm/livemerge-damage-XXXXXX");

    if (access("/dev/shm", W_OK) == 0 && g_mkdtemp_full(folder, 0700) != NULL)
        return folder;
    g_free(folder);
    return folder_new();
}
#define QUICK_FOLDER(name) __attribute__((cleanup(folder_remove))) char *name = quick_folder()

static inline char *
in(const char *folder, const char *name)
{
    return g_build_filename(folder, name, NULL);
}

static inline void
need_qemu(void)
{
    need_tool("qemu-img");
    need_tool("qemu-io");
}

/* Runs a command in a folder; returns its exit status, and what it printed (both). */
static inline int
run(const char *folder, char *const *argv, char **ret_out)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *err = NULL, *out = NULL;
    int status = -1;

    g_spawn_sync(folder, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status,
                 &error);
    g_assert_no_error(error);
    if (status != 0) {
        g_autofree char *line = g_strjoinv(" ", (char **)argv);
        g_test_message("exit status %d: %s: %s", status, line, err);
    }
    if (ret_out != NULL)
        *ret_out = g_steal_pointer(&out);
    return status;
}

/* A shell-like line, which must succeed. */
static inline char *G_GNUC_PRINTF(2, 3) must(const char *folder, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    g_auto(GStrv) argv = NULL;
    g_autoptr(GError) error = NULL;
    char *out = NULL;
    g_shell_parse_argv(line, NULL, &argv, &error);
    g_assert_no_error(error);
    int status = run(folder, argv, &out);
    if (status != 0)
        g_error("this command failed in %s: %s", folder, line);
    return out;
}
#define MUST(...) g_free(must(__VA_ARGS__))

/* Overwrites bytes of a file with a big-endian number. */
static inline void
poke(const char *path, uint64_t at, unsigned width, uint64_t value)
{
    autofd int fd = open(path, O_WRONLY | O_CLOEXEC);
    uint64_t big = GUINT64_TO_BE(value);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pwrite(fd, (char *)&big + 8 - width, width, (off_t)at), ==, width);
}

static inline void
poke_text(const char *path, uint64_t at, const char *text, size_t length)
{
    autofd int fd = open(path, O_WRONLY | O_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pwrite(fd, text, length, (off_t)at), ==, (ssize_t)length);
}

static inline char *
image(const char *folder, const char *name, uint64_t size, const char *backing, const char *format)
{
    g_autoptr(GError) error = NULL;
    char *path = in(folder, name);

    qcow2_create(path, size, backing, format, 0600, -1, -1, &error);
    g_assert_no_error(error);
    return path;
}

/* A backing file that qcow2_create() would not write. */
static inline char *
image_naming(const char *folder, const char *name, const char *backing, const char *format)
{
    char *path = image(folder, name, MIB, NULL, NULL);

    if (format != NULL) {
        poke(path, 112, 4, 0xe2792aca);
        poke(path, 116, 4, strlen(format));
        poke_text(path, 120, format, strlen(format));
    }
    poke_text(path, 512, backing, strlen(backing));
    poke(path, 8, 8, 512);
    poke(path, 16, 4, strlen(backing));
    return path;
}

static inline void
assert_refused(const GError *error, ErrorCode code, const char *wanted)
{
    g_assert_error(error, ERR, (int)code);
    if (strstr(error->message, wanted) == NULL)
        g_error("the message lacks \"%s\": %s", wanted, error->message);
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
}

/* The file holds this, and is not made durable: for tests that spoil it thousands of times. */
static inline void
overwrite(const char *path, const char *bytes, size_t length)
{
    autofd int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

    g_assert_cmpint(write(fd, bytes, length), ==, (ssize_t)length);
}

/* The n-th way to spoil it, of length * 9: first each bit, then each length. */
static inline void
spoil(const char *path, const char *bytes, size_t length, size_t n)
{
    g_autofree char *copy = g_memdup2(bytes, length);

    if (n < length * 8)
        copy[n / 8] = (char)(copy[n / 8] ^ (1 << (n % 8)));
    overwrite(path, copy, n < length * 8 ? length : n - length * 8);
}
