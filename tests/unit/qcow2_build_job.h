/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A build of a generated chain.
 */
#pragma once

#include "qcow2_build_fs.h"
#include "qcow2_build_gen.h"

typedef struct {
    Qcow2Source sources[8];
    Qcow2Build build;
    char *dest;
    const GenLayer *top, *below;
} Job;

static inline void
job_clear(Job *job)
{
    if (job->dest != NULL)
        unlink(job->dest);
    g_clear_pointer(&job->dest, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Job, job_clear)

static inline void
job_init(Job *job, const GenChain *c, const char *dest, bool share)
{
    *job = (Job){ .top = &c->layers[c->last],
                  .below = c->first > 0 ? &c->layers[c->first - 1] : NULL,
                  .dest = g_build_filename(c->folder, dest, NULL) };
    for (unsigned i = 0; i < c->n; i++)
        job->sources[i] = (Qcow2Source){ c->layers[i].path, c->layers[i].format };
    job->build = (Qcow2Build){
        .layers = job->sources + c->first,
        .n = c->last - c->first + 1,
        .dest = job->dest,
        .backing = job->below != NULL ? job->below->name : NULL,
        .backing_format = job->below != NULL ? job->below->format : NULL,
        .mode = 0640,
        .uid = -1,
        .gid = -1,
        .share = share,
    };
}

/* A chain of the usual shape: whole clusters of this size, all merged. */
static inline GenChain
plain_chain(const char *folder, guint32 seed, unsigned bits, unsigned n)
{
    GenChain c = { .rand = g_rand_new_with_seed(seed), .folder = g_strdup(folder) };

    for (unsigned i = 0; i < n; i++)
        gen_layer(&c, bits, (UINT64_C(1) << bits) * 40, false);
    c.last = n - 1;
    return c;
}

static inline void
assert_sound(const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) lines = qcow2_check(path, &error);

    g_assert_no_error(error);
    for (guint i = 0; i < lines->len; i++)
        g_error("not sound: %s", (const char *)lines->pdata[i]);
}

static inline GBytes *
all_bytes(const GenChain *c)
{
    g_autoptr(GByteArray) all = g_byte_array_new();

    for (unsigned i = 0; i < c->n; i++) {
        g_autofree char *text = NULL;
        gsize length = 0;
        g_assert_true(g_file_get_contents(c->layers[i].path, &text, &length, NULL));
        g_byte_array_append(all, (const guint8 *)text, (guint)length);
    }
    return g_byte_array_free_to_bytes(g_steal_pointer(&all));
}

static inline void
assert_untouched(const GenChain *c, GBytes *before)
{
    g_autoptr(GBytes) after = all_bytes(c);

    g_assert_true(g_bytes_equal(before, after));
    g_assert_cmpuint(count_files(c->folder), ==, c->n);
}

enum { CLUSTER = 65536, L1 = 3 * CLUSTER, L2 = 4 * CLUSTER, DATA = 5 * CLUSTER };

/* One L2 table at cluster 4, two clusters of data at 5 and 6. */
static inline char *
small_volume(const char *folder, const char *name)
{
    char *path = image(folder, name, MIB, NULL, NULL);

    poke(path, L1, 8, L2 | UINT64_C(1) << 63);
    poke(path, L2, 8, DATA | UINT64_C(1) << 63);
    poke(path, L2 + 8, 8, (DATA + CLUSTER) | UINT64_C(1) << 63);
    poke(path, DATA + 2 * CLUSTER - 8, 8, 7);
    poke(path, 2 * CLUSTER + 8, 6, UINT64_C(0x000100010001));
    return path;
}
