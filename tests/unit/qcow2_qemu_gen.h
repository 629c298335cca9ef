/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Random chains that QEMU itself makes: qemu-img creates the volumes, and one qemu-io writes
 * all layers of a chain, from the base up.
 */
#pragma once

#include "../lib/image_tools.h"
#include "qcow2/build.h"

#include <sys/stat.h>

typedef struct {
    char name[8], *path;
    const char *format;
    uint64_t cluster, size;
    bool extended;   /* has subclusters */
    bool compresses; /* gets compressed clusters */
} QemuLayer;

typedef struct {
    GRand *rand;
    char *folder;
    QemuLayer layers[5]; /* base first */
    unsigned n;
} QemuChain;

static inline bool
qemu_chance(GRand *rand, int percent)
{
    return g_rand_int_range(rand, 0, 100) < percent;
}

static inline void
qemu_clear(QemuChain *c)
{
    for (unsigned i = 0; i < c->n; i++) {
        unlink(c->layers[i].path);
        g_free(c->layers[i].path);
    }
    g_free(c->folder);
    g_rand_free(c->rand);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QemuChain, qemu_clear)

/* What "qemu-img create -o" is asked for, beside the size of the clusters. */
static inline char *
qemu_options(QemuChain *c, QemuLayer *layer)
{
    static const unsigned widths[] = { 1, 2, 4, 8, 16, 16, 16, 32, 64 };
    GString *o = g_string_new(NULL);

    layer->compresses = qemu_chance(c->rand, 40);
    if (qemu_chance(c->rand, 20)) {
        g_string_append(o, ",compat=0.10");
        return g_string_free(o, FALSE);
    }
    g_string_append_printf(o, ",compat=1.1,refcount_bits=%u",
                           widths[g_rand_int_range(c->rand, 0, G_N_ELEMENTS(widths))]);
    if (qemu_chance(c->rand, 20))
        g_string_append(o, ",lazy_refcounts=on");
    if (qemu_chance(c->rand, 30))
        g_string_append(o, ",compression_type=zstd");
    layer->extended = layer->cluster >= 16 * KIB && qemu_chance(c->rand, 10);
    if (layer->extended)
        g_string_append(o, ",extended_l2=on");
    if (c->n == 0 && !layer->extended && qemu_chance(c->rand, 10)) {
        g_string_append(o, ",preallocation=metadata");
        layer->compresses = false;
    }
    return g_string_free(o, FALSE);
}

static inline void
qemu_create(QemuChain *c, uint64_t cluster, uint64_t size, bool raw)
{
    QemuLayer *layer = &c->layers[c->n];
    const QemuLayer *below = c->n > 0 ? layer - 1 : NULL;

    *layer = (QemuLayer){ .format = raw ? "raw" : "qcow2", .cluster = cluster, .size = size };
    g_snprintf(layer->name, sizeof layer->name, "v%u", c->n);
    layer->path = in(c->folder, layer->name);
    if (raw) {
        MUST(c->folder, "qemu-img create -q -f raw %s %" PRIu64, layer->name, size);
    } else {
        g_autofree char *options = qemu_options(c, layer);
        g_autofree char *backing = below == NULL
                                       ? g_strdup("")
                                       : g_strdup_printf("-b %s -F %s", below->name, below->format);
        MUST(c->folder, "qemu-img create -q -f qcow2 %s -o cluster_size=%" PRIu64 "%s %s %" PRIu64,
             backing, cluster, options, layer->name, size);
    }
    c->n++;
}

static inline void
qemu_add(GPtrArray *argv, const char *kind, uint64_t at, uint64_t length)
{
    g_ptr_array_add(argv, g_strdup("-c"));
    g_ptr_array_add(argv, g_strdup_printf("%s %" PRIu64 " %" PRIu64, kind, at, length));
}

/* Some clusters in order. Compressed data come first of all, and once: over others QEMU refuses
 * them, and after others went away QEMU 7.2 can put them where plain data lie. */
static inline void
qemu_compress(QemuChain *c, const QemuLayer *layer, GPtrArray *argv)
{
    uint64_t step = layer->size / layer->cluster / (layer->cluster > 128 * KIB ? 3 : 12) + 1;

    for (uint64_t at = 0; at + layer->cluster <= layer->size; at += layer->cluster)
        if (g_rand_int_range(c->rand, 0, (int)step) == 0)
            qemu_add(argv, g_rand_boolean(c->rand) ? "write -c -P 55" : "write -c -s pattern", at,
                     layer->cluster);
}

/* One write of any kind somewhere. */
static inline void
qemu_write(QemuChain *c, const QemuLayer *layer, GPtrArray *argv)
{
    /* clang-format off */
    static const char *const kinds[] = { "write -P 7", "write -P 201", "write -s pattern", "write -z", "write -z -u", "discard" };
    /* clang-format on */
    const char *kind = kinds[g_rand_int_range(c->rand, 0, G_N_ELEMENTS(kinds))];
    bool whole = g_rand_boolean(c->rand); /* clusters, or any sectors */
    uint64_t unit = whole ? layer->cluster : 512, units = layer->size / unit;

    if (units == 0)
        return;
    uint64_t most = whole ? CLAMP(512 * KIB / layer->cluster, 1, 8) : 200;
    uint64_t at = (uint64_t)(g_rand_double(c->rand) * (double)units) * unit;
    uint64_t length = (uint64_t)g_rand_int_range(c->rand, 1, (int)most + 1) * unit;
    qemu_add(argv, kind, at, MIN(length, layer->size - at));
}

/* Half as long when compressed. */
static inline void
qemu_pattern(const QemuChain *c)
{
    g_autofree char *path = in(c->folder, "pattern");
    char text[32 * KIB];

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "0123456789abcdef"[g_rand_int(c->rand) % 16];
    g_assert_true(
        g_file_set_contents_full(path, text, sizeof text, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
}

static inline void
qemu_scribble(QemuChain *c)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    int status = -1;

    g_ptr_array_add(argv, g_strdup("qemu-io"));
    for (unsigned i = 0; i < c->n; i++) {
        const QemuLayer *layer = &c->layers[i];

        g_ptr_array_add(argv, g_strdup("-c"));
        g_ptr_array_add(argv, g_strdup_printf("open -o driver=%s,discard=unmap %s", layer->format,
                                              layer->name));
        if (layer->compresses)
            qemu_compress(c, layer, argv);
        int most = layer->cluster > 128 * KIB ? 6 : 20;
        for (int writes = g_rand_int_range(c->rand, 0, most); writes > 0; writes--)
            qemu_write(c, layer, argv);
        g_ptr_array_add(argv, g_strdup("-c"));
        g_ptr_array_add(argv, g_strdup("close"));
    }
    g_ptr_array_add(argv, NULL);
    g_spawn_sync(c->folder, (char **)argv->pdata, NULL,
                 G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, NULL, &status,
                 &error);
    g_assert_no_error(error);
    g_assert_cmpint(status, ==, 0);
}

static inline uint64_t
qemu_cluster(GRand *rand)
{
    int bits = qemu_chance(rand, 30) ? 16 : g_rand_int_range(rand, 9, 22);

    return UINT64_C(1) << bits;
}

static inline QemuChain
qemu_chain(const char *folder, guint32 seed)
{
    QemuChain c = { .rand = g_rand_new_with_seed(seed), .folder = g_strdup(folder) };
    uint64_t cluster = qemu_cluster(c.rand);
    uint64_t size = cluster * (uint64_t)g_rand_int_range(c.rand, 4, cluster < 4096 ? 2000 : 60);
    int n = g_rand_int_range(c.rand, 1, (int)G_N_ELEMENTS(c.layers) + 1);

    if (cluster > 512 * KIB)
        n = MIN(n, 3);
    if (qemu_chance(c.rand, 50))
        size += 512 * (uint64_t)g_rand_int_range(c.rand, 0, (int)(cluster / 512));
    qemu_pattern(&c);
    for (int i = 0; i < n; i++) {
        if (i > 0 && qemu_chance(c.rand, 40)) /* larger, mostly by whole clusters */
            size += (qemu_chance(c.rand, 60) ? cluster : 512) *
                    (uint64_t)g_rand_int_range(c.rand, 1, 40);
        qemu_create(&c, qemu_chance(c.rand, 85) ? cluster : qemu_cluster(c.rand), size,
                    i == 0 && qemu_chance(c.rand, 15));
    }
    qemu_scribble(&c);
    return c;
}
