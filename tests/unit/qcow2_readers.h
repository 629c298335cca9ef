/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Everything that reads volumes, one after the other, on one that may hold anything.
 */
#pragma once

#include "../lib/image_tools.h"
#include "qcow2/build.h"

enum { HEADER = 1, MAP = 2, CHAIN = 4, BUILD = 8, CHECK = 16, CONTENT = 32, ALL = 63 };

static inline bool
any_extent_is_good(const Extent *extent, void *data)
{
    uint64_t *end = data;

    g_assert_cmpuint(extent->guest, ==, *end);
    g_assert_cmpuint(extent->length, >, 0);
    *end += extent->length;
    return true;
}

static inline bool
reads_header(const char *folder, const char *path, GError **error)
{
    g_autoptr(Qcow2Header) header = qcow2_header_read(path, error);

    return header != NULL;
}

static inline bool
reads_map(const char *folder, const char *path, GError **error)
{
    g_autoptr(Qcow2Header) header = qcow2_header_read(path, NULL);
    uint64_t end = 0;

    if (!qcow2_map(path, "qcow2", any_extent_is_good, &end, error))
        return false;
    g_assert_cmpuint(end, ==, header->virtual_size);
    return true;
}

static inline bool
reads_chain(const char *folder, const char *path, GError **error)
{
    g_autoptr(GPtrArray) layers = qcow2_chain_walk(path, "qcow2", folder, error);

    return layers != NULL;
}

/* Neither the volume nor a part of one is left of a build that failed. */
static inline void
assert_no_debris(const char *folder, const char *dest)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);

    g_assert_nonnull(dir);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;)
        if (g_str_has_prefix(name, QCOW2_BUILD_PREFIX))
            g_error("%s/%s was left behind", folder, name);
    g_assert_cmpint(access(dest, F_OK), !=, 0);
}

/* What can be built is sound and holds the same. */
static inline bool
builds(const char *folder, const char *path, GError **error)
{
    g_autofree char *dest = in(folder, "new");
    g_autoptr(Qcow2Header) header = qcow2_header_read(path, NULL);
    g_autoptr(GError) wrong = NULL;
    Qcow2Source source = { path, "qcow2" };
    const char *backing = header != NULL && header->backing_file != NULL ? "base" : NULL;
    Qcow2Build build = {
        .layers = &source,
        .n = 1,
        .dest = dest,
        .backing = backing,
        .backing_format = backing != NULL ? "qcow2" : NULL,
        .mode = 0600,
        .uid = -1,
        .gid = -1,
        .share = true,
    };

    if (!qcow2_build(&build, NULL, error)) {
        assert_no_debris(folder, dest);
        return false;
    }
    qcow2_check_sound(dest, &wrong);
    g_assert_no_error(wrong);
    qcow2_same_map(&source, 1, dest, NULL, NULL, NULL, &wrong);
    g_assert_no_error(wrong);
    unlink(dest);
    return true;
}

static inline bool
checks(const char *folder, const char *path, GError **error)
{
    return qcow2_check_sound(path, error);
}

/* With itself, by another name so that it is read */
static inline bool
compares(const char *folder, const char *path, GError **error)
{
    g_autofree char *base = in(folder, "base");
    g_autoptr(Qcow2Header) header = qcow2_header_read(path, NULL);
    Qcow2Source sources[] = { { base, "qcow2" }, { path, "qcow2" } };
    unsigned first = header != NULL && header->backing_file != NULL ? 0 : 1;

    return qcow2_same_content(sources + first, 2 - first, sources + first, 2 - first, NULL, NULL,
                              NULL, error);
}

typedef struct {
    const char *name;
    unsigned bit;
    bool (*read)(const char *folder, const char *path, GError **error);
} Reader;

/* clang-format off */
static const Reader readers[] = {
    { "header", HEADER, reads_header }, { "map", MAP, reads_map }, { "chain", CHAIN, reads_chain },
    { "build", BUILD, builds }, { "check", CHECK, checks }, { "compare", CONTENT, compares },
};
/* clang-format on */

/* One line that names the file. */
static inline void
assert_one_line(const char *reader, const char *path, const GError *error)
{
    if (!g_utf8_validate(error->message, -1, NULL) || strchr(error->message, '\n') != NULL)
        g_error("%s: not a line of text: %s", reader, error->message);
    if (strstr(error->message, path) == NULL)
        g_error("%s: the message does not name %s: %s", reader, path, error->message);
}

/* Returns who refused. Whatever it holds: an answer, or one line. */
static inline unsigned
read_all(const char *folder, const char *path)
{
    unsigned refused = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(readers); i++) {
        g_autoptr(GError) error = NULL;
        bool good = readers[i].read(folder, path, &error);

        g_assert_true(good == (error == NULL));
        if (error == NULL)
            continue;
        assert_one_line(readers[i].name, path, error);
        refused |= readers[i].bit;
    }
    return refused;
}
