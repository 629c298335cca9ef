/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Makes small qcow2 and raw volumes of random content in a few microseconds each, and knows what a
 * guest reads of them. Written against QEMU's docs/interop/qcow2.txt and sharing no code with
 * src/qcow2, so that it can judge it.
 */
#pragma once

#include "../lib/image_tools.h"
#include "qcow2/build.h"

#include <sys/stat.h>

typedef struct {
    char *path, *name;
    const char *format;
    unsigned bits;
    uint64_t size;
    uint8_t *seen; /* the byte that fills each sector of the guest's disk, as seen from here */
} GenLayer;

typedef struct {
    GRand *rand;
    char *folder;
    GenLayer layers[8]; /* base first */
    unsigned n;
    unsigned first, last; /* the run to merge */
} GenChain;

static inline bool
gen_chance(GRand *rand, unsigned percent)
{
    return (unsigned)g_rand_int_range(rand, 0, 100) < percent;
}

static inline void
gen_put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline void
gen_put(uint8_t *at, unsigned width, uint64_t value)
{
    for (unsigned i = 0; i < width; i++)
        at[i] = (uint8_t)(value >> 8 * (width - 1 - i));
}

static inline uint64_t
gen_get(const uint8_t *at, unsigned width)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < width; i++)
        value = value << 8 | at[i];
    return value;
}

static inline uint8_t
gen_below(const GenLayer *below, uint64_t sector)
{
    return below != NULL && sector < below->size / 512 ? below->seen[sector] : 0;
}

typedef struct {
    unsigned bits, version;
    uint64_t size; /* virtual */
    const GenLayer *below;
    unsigned order;            /* of data in the file: 0 as in the guest, 1 backward, 2 shuffled */
    unsigned data, zero, hole; /* weights */
} GenShape;

typedef struct {
    uint64_t clusters, l1_entries, tables, data;
    uint64_t rt_clusters, rb_clusters, l1_clusters, l2_at, data_at, total;
    uint8_t *kind;     /* of each guest cluster: 'h', 'z', 'a' (zero with a cluster), 'd' */
    int64_t *table_of; /* number of a slice's table; -1 = none */
    uint64_t *place;   /* for each data cluster in guest order: where among the data */
} GenPlan;

/* Runs of clusters of one kind; large disks stay mostly empty. */
static inline void
gen_kinds(GRand *rand, const GenShape *shape, GenPlan *plan)
{
    uint64_t budget = shape->bits >= 16 ? 24 : shape->bits >= 12 ? 80 : 300;
    bool sparse = plan->clusters > 2 * budget;

    for (uint64_t i = 0; i < plan->clusters;) {
        unsigned roll =
            (unsigned)g_rand_int_range(rand, 0, (int)(shape->data + shape->zero + shape->hole));
        uint8_t kind = roll < shape->data ? 'd' : roll < shape->data + shape->zero ? 'z' : 'h';
        uint64_t length = (uint64_t)g_rand_int_range(rand, 1, 7);

        if (sparse && gen_chance(rand, 85)) {
            kind = 'h';
            length = (uint64_t)g_rand_int_range(rand, 1, (int)(plan->clusters / 8 + 2));
        }
        if (kind == 'z' && shape->version < 3)
            kind = 'h';
        if (kind == 'z' && gen_chance(rand, 30))
            kind = 'a';
        for (; length > 0 && i < plan->clusters; length--, i++) {
            bool takes = kind == 'd' || kind == 'a';
            plan->kind[i] = takes && budget == 0 ? 'h' : kind;
            budget -= takes && budget > 0;
        }
    }
}

static inline void
gen_plan(GRand *rand, const GenShape *shape, GenPlan *plan)
{
    uint64_t cluster = UINT64_C(1) << shape->bits, per_table = cluster / 8;

    plan->clusters = (shape->size + cluster - 1) / cluster;
    plan->l1_entries = (plan->clusters + per_table - 1) / per_table;
    plan->kind = g_malloc0(plan->clusters + 1);
    plan->table_of = g_new(int64_t, plan->l1_entries + 1);
    gen_kinds(rand, shape, plan);
    for (uint64_t s = 0; s < plan->l1_entries; s++) {
        bool used = gen_chance(rand, 5); /* an empty table now and then */
        for (uint64_t i = s * per_table; i < MIN((s + 1) * per_table, plan->clusters); i++) {
            used = used || plan->kind[i] != 'h';
            plan->data += plan->kind[i] == 'd' || plan->kind[i] == 'a';
        }
        plan->table_of[s] = used ? (int64_t)plan->tables++ : -1;
    }
    plan->place = g_new(uint64_t, plan->data + 1);
    for (uint64_t i = 0; i < plan->data; i++)
        plan->place[i] = shape->order == 1 ? plan->data - 1 - i : i;
    for (uint64_t i = plan->data; shape->order == 2 && i > 1; i--) {
        uint64_t j = (uint64_t)g_rand_int_range(rand, 0, (int)i), other = plan->place[j];
        plan->place[j] = plan->place[i - 1];
        plan->place[i - 1] = other;
    }

    plan->l1_clusters = MAX((plan->l1_entries * 8 + cluster - 1) / cluster, 1);
    for (uint64_t before = 0; before == 0 || plan->total != before;) {
        before = plan->total;
        plan->rb_clusters = MAX((before + cluster / 2 - 1) / (cluster / 2), 1);
        plan->rt_clusters = (plan->rb_clusters * 8 + cluster - 1) / cluster;
        plan->l2_at = 1 + plan->rt_clusters + plan->rb_clusters + plan->l1_clusters;
        plan->data_at = plan->l2_at + plan->tables;
        plan->total = plan->data_at + plan->data;
        if (before == 0 && plan->total == 0)
            break;
    }
}

static inline void
gen_header(uint8_t *file, const GenShape *shape, const GenPlan *plan)
{
    unsigned length = shape->version == 3 ? 104 : 72;

    gen_put(file, 4, 0x514649fb);
    gen_put(file + 4, 4, shape->version);
    gen_put(file + 20, 4, shape->bits);
    gen_put(file + 24, 8, shape->size);
    gen_put(file + 36, 4, plan->l1_entries);
    gen_put(file + 40, 8, (plan->l2_at - plan->l1_clusters) << shape->bits);
    gen_put(file + 48, 8, UINT64_C(1) << shape->bits);
    gen_put(file + 56, 4, plan->rt_clusters);
    if (shape->version == 3) {
        gen_put(file + 96, 4, 4);
        gen_put(file + 100, 4, length);
    }
    if (shape->below != NULL) {
        size_t format = strlen(shape->below->format), name = strlen(shape->below->name);
        gen_put(file + length, 4, 0xe2792aca);
        gen_put(file + length + 4, 4, format);
        memcpy(file + length + 8, shape->below->format, format);
        gen_put(file + 8, 8, length + 40);
        gen_put(file + 16, 4, name);
        memcpy(file + length + 40, shape->below->name, name);
    }
}

static inline void
gen_refcounts_and_l1(uint8_t *file, const GenShape *shape, const GenPlan *plan)
{
    uint64_t cluster = UINT64_C(1) << shape->bits;
    uint64_t rb_at = 1 + plan->rt_clusters, l1_at = rb_at + plan->rb_clusters;

    for (uint64_t i = 0; i < plan->rb_clusters; i++)
        gen_put(file + cluster + i * 8, 8, (rb_at + i) * cluster);
    for (uint64_t i = 0; i < plan->total; i++)
        gen_put16(file + rb_at * cluster + i * 2, 1);
    for (uint64_t i = 0; i < plan->l1_entries; i++)
        if (plan->table_of[i] >= 0)
            gen_put(file + l1_at * cluster + i * 8, 8,
                    ((plan->l2_at + (uint64_t)plan->table_of[i]) << shape->bits) | UINT64_C(1)
                                                                                       << 63);
}

/* Fills tables and data, and what is seen of it. What lies beyond the disk's end is rubbish. */
static inline void
gen_data(GRand *rand, uint8_t *file, const GenShape *shape, const GenPlan *plan, uint8_t *seen)
{
    uint64_t cluster = UINT64_C(1) << shape->bits, per_table = cluster / 8, sectors = cluster / 512;
    uint64_t next = 0;

    for (uint64_t i = 0; i < plan->clusters; i++) {
        int64_t table = plan->table_of[i / per_table];
        uint8_t kind = plan->kind[i], *entry = NULL, *data = NULL;
        uint64_t host = 0;

        if (table >= 0)
            entry = file + ((plan->l2_at + (uint64_t)table) << shape->bits) + i % per_table * 8;
        if (kind == 'd' || kind == 'a') {
            host = (plan->data_at + plan->place[next++]) << shape->bits;
            data = file + host;
            gen_put(entry, 8, host | UINT64_C(1) << 63 | (kind == 'a'));
        }
        if (kind == 'z')
            gen_put(entry, 8, 1);
        uint8_t value = (uint8_t)g_rand_int_range(rand, 0, 256);
        for (uint64_t s = 0; s < sectors; s++) {
            uint64_t sector = i * sectors + s;
            uint8_t byte = (uint8_t)(value + s * 7);

            if (data != NULL)
                memset(data + s * 512, sector < shape->size / 512 ? byte : 0xee, 512);
            if (sector < shape->size / 512)
                seen[sector] = kind == 'd'   ? byte
                               : kind == 'h' ? gen_below(shape->below, sector)
                                             : 0;
        }
    }
}

static inline void
gen_qcow2(GRand *rand, GenLayer *layer, const GenShape *shape)
{
    g_autoptr(GError) error = NULL;
    GenPlan plan = { 0 };

    gen_plan(rand, shape, &plan);
    g_autofree uint8_t *file = g_malloc0((gsize)(plan.total << shape->bits));
    layer->seen = g_malloc0(shape->size / 512 + 1);
    gen_header(file, shape, &plan);
    gen_refcounts_and_l1(file, shape, &plan);
    gen_data(rand, file, shape, &plan, layer->seen);
    layer->size = shape->size;
    layer->bits = shape->bits;
    layer->format = "qcow2";

    autofd int fd = open(layer->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t length = (ssize_t)(plan.total << shape->bits);
    g_assert_cmpint(write(fd, file, (size_t)length), ==, length);
    g_free(plan.kind);
    g_free(plan.table_of);
    g_free(plan.place);
}

static inline void
gen_raw(GRand *rand, GenLayer *layer, uint64_t size)
{
    autofd int fd = open(layer->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    uint8_t sector[512];

    layer->seen = g_malloc0(size / 512 + 1);
    layer->size = size;
    layer->format = "raw";
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    for (int i = 0; i < 6; i++) {
        uint64_t at = (uint64_t)g_rand_int_range(rand, 0, (int)(size / 512));
        uint64_t end = at + (uint64_t)g_rand_int_range(rand, 1, 200);

        end = MIN(end, size / 512);
        for (; at < end; at++) {
            layer->seen[at] = (uint8_t)g_rand_int_range(rand, 0, 256);
            memset(sector, layer->seen[at], 512);
            g_assert_cmpint(pwrite(fd, sector, 512, (off_t)at * 512), ==, 512);
        }
    }
}

static inline uint64_t
gen_size(GRand *rand, unsigned bits)
{
    uint64_t cluster = UINT64_C(1) << bits;
    unsigned most = bits >= 16 ? 24 : bits >= 12 ? 80 : 300;
    uint64_t size = cluster * (uint64_t)g_rand_int_range(rand, 1, (int)most);

    if (gen_chance(rand, 15)) /* several L2 tables */
        size += (cluster * cluster / 8) * (uint64_t)g_rand_int_range(rand, 1, 3);
    if (gen_chance(rand, 40))
        size += 512 * (uint64_t)g_rand_int_range(rand, 0, (int)(cluster / 512));
    return MIN(size, UINT64_C(1600) << 20);
}

static inline void
gen_layer(GenChain *c, unsigned bits, uint64_t size, bool raw)
{
    GenLayer *layer = &c->layers[c->n];
    GenShape shape = {
        .bits = bits,
        .version = gen_chance(c->rand, 85) ? 3 : 2,
        .size = size,
        .below = c->n > 0 ? layer - 1 : NULL,
        .order = (unsigned)g_rand_int_range(c->rand, 0, 3),
        .data = (unsigned)g_rand_int_range(c->rand, 1, 6),
        .zero = (unsigned)g_rand_int_range(c->rand, 0, 3),
        .hole = (unsigned)g_rand_int_range(c->rand, 1, 6),
    };

    layer->name = g_strdup_printf("v%u", c->n);
    layer->path = g_build_filename(c->folder, layer->name, NULL);
    if (raw)
        gen_raw(c->rand, layer, size);
    else
        gen_qcow2(c->rand, layer, &shape);
    c->n++;
}

/* A chain, and which part of it is to be merged. */
static inline GenChain
gen_chain(const char *folder, guint32 seed)
{
    GenChain c = { .rand = g_rand_new_with_seed(seed), .folder = g_strdup(folder) };
    unsigned n = (unsigned)g_rand_int_range(c.rand, 1, 6);
    unsigned bits = gen_chance(c.rand, 40) ? 12 : (unsigned)g_rand_int_range(c.rand, 9, 17);
    uint64_t size = gen_size(c.rand, bits);

    for (unsigned i = 0; i < n; i++) {
        if (i > 0 && gen_chance(c.rand, 30))
            size += 512 * (uint64_t)g_rand_int_range(c.rand, 1, 400);
        if (i > 0 && gen_chance(c.rand, 8) && size > 4096)
            size = size / 2 / 512 * 512;
        unsigned own = gen_chance(c.rand, 85) ? bits : (unsigned)g_rand_int_range(c.rand, 9, 17);
        uint64_t limit = (UINT64_C(1) << own) / 8 << own << 4; /* keeps tables few */
        if (size > limit)
            own = bits;
        gen_layer(&c, own, size, i == 0 && gen_chance(c.rand, 20));
    }
    c.first = (unsigned)g_rand_int_range(c.rand, 0, (int)n);
    c.last = (unsigned)g_rand_int_range(c.rand, (int)c.first, (int)n);
    return c;
}

static inline void
gen_clear(GenChain *c)
{
    for (unsigned i = 0; i < c->n; i++) {
        unlink(c->layers[i].path);
        g_free(c->layers[i].path);
        g_free(c->layers[i].name);
        g_free(c->layers[i].seen);
    }
    g_free(c->folder);
    g_rand_free(c->rand);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(GenChain, gen_clear)

static inline void
gen_pread(int fd, void *buffer, size_t length, uint64_t at)
{
    g_assert_cmpint(pread(fd, buffer, length, (off_t)at), ==, (ssize_t)length);
}

/* Reads a new volume, and compares every sector with what the run's top showed. */
static inline void
gen_verify(const char *dest, const GenLayer *top, const GenLayer *below)
{
    autofd int fd = open(dest, O_RDONLY | O_CLOEXEC);
    uint8_t header[104];

    g_assert_cmpint(fd, >=, 0);
    gen_pread(fd, header, sizeof header, 0);
    g_assert_cmpuint(gen_get(header + 4, 4), ==, 3);
    g_assert_cmpuint(gen_get(header + 24, 8), ==, top->size);
    unsigned bits = (unsigned)gen_get(header + 20, 4);
    uint64_t cluster = UINT64_C(1) << bits, l1_at = gen_get(header + 40, 8);
    g_autofree uint8_t *l2 = g_malloc(cluster), *data = g_malloc(cluster);

    for (uint64_t guest = 0; guest < top->size; guest += cluster) {
        uint64_t index = guest / cluster % (cluster / 8);
        if (index == 0) {
            uint8_t entry[8];
            gen_pread(fd, entry, 8, l1_at + guest / cluster / (cluster / 8) * 8);
            uint64_t at = gen_get(entry, 8) & ~(UINT64_C(1) << 63);
            memset(l2, 0, cluster);
            if (at != 0)
                gen_pread(fd, l2, cluster, at);
        }
        uint64_t entry = gen_get(l2 + index * 8, 8), host = entry & UINT64_C(0x00fffffffffffe00);
        if (host != 0)
            gen_pread(fd, data, cluster, host);
        for (uint64_t s = 0; s < cluster / 512 && guest / 512 + s < top->size / 512; s++) {
            uint64_t sector = guest / 512 + s;
            uint8_t wanted = top->seen[sector];
            uint8_t got = entry & 1 ? 0 : host == 0 ? gen_below(below, sector) : data[s * 512];

            if (got != wanted || (host != 0 && data[s * 512 + 511] != wanted))
                g_error("%s: sector %" PRIu64 " reads 0x%02x, expected 0x%02x", dest, sector, got,
                        wanted);
        }
    }
}
