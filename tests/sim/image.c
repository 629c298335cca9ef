/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image.h"

#include <limits.h>
#include <string.h>

#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define COPIED (UINT64_C(1) << 63)

static uint64_t
be64(const VfsNode *node, uint64_t at)
{
    return GUINT64_FROM_BE(vfs_number(node, at));
}

static uint32_t
be32(const VfsNode *node, uint64_t at)
{
    uint64_t both = be64(node, at & ~UINT64_C(7));

    return (uint32_t)(at % 8 == 0 ? both >> 32 : both);
}

static void
put64(VfsNode *node, uint64_t at, uint64_t value)
{
    uint64_t be = GUINT64_TO_BE(value);

    vfs_write(node, &be, 8, at);
}

static void
put32(VfsNode *node, uint64_t at, uint32_t value)
{
    uint32_t be = GUINT32_TO_BE(value);

    vfs_write(node, &be, 4, at);
}

static void
read_backing(Image *image, const char *path)
{
    char name[128] = "", format[16] = "";
    uint32_t length = be32(image->node, 16);
    uint64_t offset = be64(image->node, 8);
    uint32_t at = be32(image->node, 100);

    if (offset == 0 || length == 0 || length >= sizeof name)
        return;
    vfs_read(image->node, name, length, offset);
    if (be32(image->node, at) == 0xe2792aca)
        vfs_read(image->node, format, MIN(be32(image->node, at + 4), sizeof format - 1), at + 8);
    image->backing_raw = strcmp(format, "raw") == 0;
    if (*name == '/') {
        g_strlcpy(image->backing, name, sizeof image->backing);
    } else {
        const char *slash = strrchr(path, '/');
        g_snprintf(image->backing, sizeof image->backing, "%.*s/%s", (int)(slash - path), path,
                   name);
    }
}

bool
image_at(VfsNode *node, const char *path, bool raw, Image *ret_image)
{
    *ret_image = (Image){ .node = node, .raw = raw };
    if (node == NULL)
        return false;
    if (raw) {
        ret_image->size = node->now.size;
        return true;
    }
    if (be32(node, 0) != 0x514649fb || be32(node, 20) != 16)
        return false;
    ret_image->size = be64(node, 24);
    read_backing(ret_image, path);
    return true;
}

static uint64_t
l2_of(const Image *image)
{
    return be64(image->node, be64(image->node, 40)) & OFFSET_MASK;
}

uint64_t
image_table(const Image *image)
{
    return image->raw ? 0 : l2_of(image);
}

bool
image_value(const Image *image, unsigned cluster, uint64_t *ret_value)
{
    return image_value_by(image, image_table(image), cluster, ret_value);
}

bool
image_value_by(const Image *image, uint64_t l2, unsigned cluster, uint64_t *ret_value)
{
    VfsNode *node = image->node;
    uint64_t entry, at;

    *ret_value = 0;
    if (image->raw) {
        *ret_value = vfs_number(node, cluster * CLUSTER_BYTES);
        return true;
    }
    if (l2 == 0)
        return false;
    entry = be64(node, l2 + cluster * UINT64_C(8));
    if ((entry & 1) != 0)
        return true; /* zeros */
    at = entry & OFFSET_MASK;
    if (at == 0)
        return false;
    *ret_value = vfs_number(node, at);
    /* a cluster that was only half copied is no version of anything */
    if (vfs_number(node, at + CLUSTER_BYTES - 8) != *ret_value)
        *ret_value = UINT64_MAX;
    return true;
}

static uint64_t
allocate(VfsNode *node)
{
    uint64_t at = (node->now.size + CLUSTER_BYTES - 1) / CLUSTER_BYTES * CLUSTER_BYTES;
    uint64_t block = be64(node, be64(node, 48)), counter = block + at / CLUSTER_BYTES * 2;
    static const uint8_t one[2] = { 0, 1 };

    vfs_write(node, one, 2, counter);
    return at;
}

static void
put(const Image *image, unsigned cluster, uint64_t value)
{
    VfsNode *node = image->node;

    if (image->raw) {
        vfs_fill(node, cluster * CLUSTER_BYTES, CLUSTER_BYTES, value);
        return;
    }
    if (l2_of(image) == 0) {
        uint64_t l2 = allocate(node);
        vfs_fill(node, l2, CLUSTER_BYTES, 0);
        put64(node, be64(node, 40), l2 | COPIED);
    }
    uint64_t entry_at = l2_of(image) + cluster * UINT64_C(8), entry = be64(node, entry_at);
    uint64_t at = entry & OFFSET_MASK;
    if (at == 0)
        at = allocate(node);
    vfs_fill(node, at, CLUSTER_BYTES, value);
    if (entry != (at | COPIED))
        put64(node, entry_at, at | COPIED);
}

static QemuWrite *
note(VfsNode *node, unsigned cluster, uint64_t value)
{
    if (node->writes == NULL)
        node->writes = g_array_new(FALSE, FALSE, sizeof(QemuWrite));
    g_array_set_size(node->writes, node->writes->len + 1);
    QemuWrite *write = &g_array_index(node->writes, QemuWrite, node->writes->len - 1);
    write->cluster = cluster;
    write->value = value;
    *write->backing = '\0';
    write->synced = false;
    return write;
}

void
image_put(const Image *image, unsigned cluster, uint64_t value)
{
    put(image, cluster, value);
    note(image->node, cluster, value);
    image->node->in_caches = true;
}

void
image_flush(const Image *image)
{
    vfs_sync_data(image->node);
}

/* The name's place stays, after the extensions; the format is replaced in its extension. */
static void
set_backing(VfsNode *node, const char *name, bool raw)
{
    uint32_t at = be32(node, 100);
    const char *format = raw ? "raw" : "qcow2";
    char padded[8] = { 0 };

    g_assert(be32(node, at) == 0xe2792aca);
    memcpy(padded, format, strlen(format));
    put32(node, at + 4, (uint32_t)strlen(format));
    vfs_write(node, padded, 8, at + 8);
    vfs_write(node, name, strlen(name), be64(node, 8));
    put32(node, 16, (uint32_t)strlen(name));
}

void
image_set_backing(const Image *image, const char *name, bool raw)
{
    set_backing(image->node, name, raw);
    QemuWrite *write = note(image->node, UINT_MAX, raw);
    g_strlcpy(write->backing, name, sizeof write->backing);
}

void
image_write_again(VfsNode *node, const QemuWrite *write)
{
    Image image;

    if (write->cluster == UINT_MAX) {
        set_backing(node, write->backing, write->value != 0);
        return;
    }
    /* what had no header on disk yet was made by somebody else */
    if (image_at(node, "/sim/x", be32(node, 0) != 0x514649fb, &image))
        put(&image, write->cluster, write->value);
}

GArray *
image_chain(const char *leaf, bool raw, char *ret_broken)
{
    g_autoptr(GArray) chain = g_array_new(FALSE, FALSE, sizeof(Image));
    char path[256];

    g_strlcpy(path, leaf, sizeof path);
    while (*path != '\0' && chain->len < 32) {
        Image image;
        if (!image_at(vfs_find(path), path, raw, &image)) {
            g_strlcpy(ret_broken, path, 128);
            return NULL;
        }
        g_array_append_val(chain, image);
        g_strlcpy(path, image.backing, sizeof path);
        raw = image.backing_raw;
    }
    return g_steal_pointer(&chain);
}

uint64_t
image_chain_get(const GArray *chain, unsigned cluster)
{
    uint64_t value;

    for (guint i = 0; i < chain->len; i++)
        if (image_value(&g_array_index(chain, Image, i), cluster, &value))
            return value;
    return 0;
}
