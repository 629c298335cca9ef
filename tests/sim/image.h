/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What QEMU does to a qcow2 (or raw) file, as little of it as the simulator needs: clusters of 64
 * KiB that hold one number each, and the header's backing file. Works on a VfsNode directly, at
 * once, without points.
 */
#pragma once

#include "vfs.h"

#define CLUSTER_BYTES UINT64_C(65536)

typedef struct {
    unsigned cluster; /* UINT_MAX: the header is about to name "backing" */
    uint64_t value;
    char backing[128];
    bool synced; /* by somebody else */
} QemuWrite;

typedef struct {
    VfsNode *node;
    bool raw;
    uint64_t size;
    char backing[256]; /* absolute; "" = none */
    bool backing_raw;
} Image;

/* False: it is no image. path: for the name of the backing file, which is relative to it. */
bool image_at(VfsNode *node, const char *path, bool raw, Image *ret_image);
/* Holds the file itself something there? */
bool image_value(const Image *image, unsigned cluster, uint64_t *ret_value);
/* The same of many, while nobody writes to it: its table is looked for once. */
uint64_t image_table(const Image *image);
bool image_value_by(const Image *image, uint64_t table, unsigned cluster, uint64_t *ret_value);
/* Not durable before image_flush(). */
void image_put(const Image *image, unsigned cluster, uint64_t value);
void image_flush(const Image *image);
void image_set_backing(const Image *image, const char *name, bool raw);
void image_write_again(VfsNode *node, const QemuWrite *write);

/* A chain as the headers tell it, leaf first: of Image; NULL = a file is missing or damaged, and
 * *ret_broken (128 bytes) says which. */
GArray *image_chain(const char *leaf, bool raw, char *ret_broken);
uint64_t image_chain_get(const GArray *chain, unsigned cluster);
