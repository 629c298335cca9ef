/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/allocation.h"

#include "qcow2/image.h"

/* Reading what makes no sense to keep: more is not known of such volumes than their header. */
#define UNMAPPED (QCOW2_EXTERNAL_DATA | QCOW2_UNKNOWN_INCOMPATIBLE)

typedef struct {
    GArray *extents;
    size_t max;
    bool raw, complete;
    bool (*go_on)(void *data);
    void *data;
} Reader;

static bool
keep(const Extent *extent, void *data)
{
    Reader *r = data;

    if (extent->kind == EXTENT_HOLE || (r->raw && extent->kind == EXTENT_ZERO))
        return true;
    r->complete = r->extents->len < r->max;
    if (!r->complete)
        return false;
    AllocationExtent kept = { extent->guest, extent->length, extent->host, extent->kind };
    g_array_append_val(r->extents, kept);
    return true;
}

static bool
ask(void *data)
{
    Reader *r = data;

    r->complete = r->complete && (r->go_on == NULL || r->go_on(r->data));
    return r->complete;
}

static bool
read_header(Allocation *a, GError **error)
{
    if (a->raw) {
        g_auto(ImageFile) file = IMAGE_FILE_INIT;
        if (!image_open(a->path, &file, error))
            return false;
        a->virtual_size = raw_virtual_size(&file);
        a->file_size = file.size;
        return true;
    }
    g_autoptr(Qcow2Header) header = qcow2_header_read(a->path, error);
    if (header == NULL)
        return false;
    a->bits = header->cluster_bits;
    a->features = header->features;
    a->virtual_size = header->virtual_size;
    a->file_size = header->file_size;
    return true;
}

static bool
read_extents(Allocation *a, const char *format, Reader *reader, GError **error)
{
    if ((a->features & UNMAPPED) != 0)
        return true;
    if (!image_map(a->path, format, keep, ask, reader, error))
        return false;
    a->exact = reader->complete;
    if (!a->exact)
        return true;
    a->n = reader->extents->len;
    a->extents = g_new(AllocationExtent, a->n + 1);
    if (a->n > 0)
        memcpy(a->extents, reader->extents->data, a->n * sizeof *a->extents);
    return true;
}

Allocation *
allocation_read(const char *path, const char *format, size_t max_extents, bool (*go_on)(void *data),
                void *data, GError **error)
{
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(AllocationExtent));
    g_autoptr(Allocation) a = g_new0(Allocation, 1);
    Reader reader = { extents, max_extents, g_strcmp0(format, "raw") == 0, true, go_on, data };

    g_atomic_ref_count_init(&a->refs);
    a->path = g_strdup(path);
    a->raw = reader.raw;
    if (!read_header(a, error) || !read_extents(a, format, &reader, error))
        return NULL;
    return g_steal_pointer(&a);
}

Allocation *
allocation_ref(Allocation *allocation)
{
    g_atomic_ref_count_inc(&allocation->refs);
    return allocation;
}

void
allocation_unref(Allocation *allocation)
{
    if (allocation == NULL || !g_atomic_ref_count_dec(&allocation->refs))
        return;
    g_free(allocation->path);
    g_free(allocation->extents);
    g_free(allocation);
}

size_t
allocation_memory(const Allocation *allocation)
{
    return sizeof *allocation + strlen(allocation->path) + 1 +
           (allocation->n + 1) * sizeof *allocation->extents;
}
