/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/bitmaps.h"

#include "qcow2/image.h"

#define BITMAPS_EXTENSION 0x23852875
#define HEADER_LENGTH_AT 100
#define AUTOCLEAR_BITMAPS UINT64_C(1)
#define DIRECTORY_MAX (UINT32_C(1) << 20)
#define ENTRY_HEAD 24
#define FLAG_IN_USE 1

/* Where the directory of bitmaps lies; size 0 = there is none. */
static bool
find_directory(const ImageFile *file, const Qcow2Header *header, uint64_t *ret_offset,
               uint64_t *ret_size, GError **error)
{
    uint8_t head[8], place[24];
    uint64_t at, end = UINT64_C(1) << header->cluster_bits;

    *ret_size = 0;
    if (!image_read(file, header->path, "header", HEADER_LENGTH_AT, head, 4, error))
        return false;
    for (at = get_be32(head); at + sizeof head <= end; at += 8 + round_up(get_be32(head + 4), 8)) {
        if (!image_read(file, header->path, "header extension", at, head, sizeof head, error))
            return false;
        if (get_be32(head) == 0)
            return true;
        if (get_be32(head) != BITMAPS_EXTENSION || get_be32(head + 4) != sizeof place)
            continue;
        if (!image_read(file, header->path, "bitmaps extension", at + 8, place, sizeof place,
                        error))
            return false;
        *ret_size = get_be64(place + 8);
        *ret_offset = get_be64(place + 16);
        return *ret_size <= DIRECTORY_MAX ||
               error_set(error, ERR_CORRUPT, "%s: its directory of bitmaps is too large",
                         header->path);
    }
    return true;
}

static GPtrArray *
names_in_use(const uint8_t *directory, uint64_t size)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);

    for (uint64_t at = 0; at + ENTRY_HEAD <= size;) {
        const uint8_t *entry = directory + at;
        uint64_t length = (uint64_t)entry[18] << 8 | entry[19], extra = get_be32(entry + 20);

        if (extra > size || at + ENTRY_HEAD + extra + length > size)
            break;
        g_autofree char *name = g_strndup((const char *)entry + ENTRY_HEAD + extra, length);
        if ((get_be32(entry + 12) & FLAG_IN_USE) != 0 && g_utf8_validate(name, -1, NULL))
            g_ptr_array_add(names, g_steal_pointer(&name));
        at += round_up(ENTRY_HEAD + extra + length, 8);
    }
    g_ptr_array_add(names, NULL);
    return names;
}

char **
qcow2_stale_bitmaps(const char *path, GError **error)
{
    g_autoptr(Qcow2Header) header = qcow2_header_read(path, error);
    g_auto(ImageFile) file = IMAGE_FILE_INIT;
    g_autofree uint8_t *directory = NULL;
    uint64_t offset = 0, size = 0;

    if (header == NULL)
        return NULL;
    if (header->version < 3 || (header->features & QCOW2_BITMAPS) == 0 ||
        (header->autoclear & AUTOCLEAR_BITMAPS) == 0)
        return g_new0(char *, 1);
    if (!image_open(path, &file, error) || !find_directory(&file, header, &offset, &size, error))
        return NULL;
    directory = g_malloc0(size + 1);
    if (size > 0 &&
        !image_read(&file, path, "bitmap directory", offset, directory, (size_t)size, error))
        return NULL;
    return (char **)g_ptr_array_free(names_in_use(directory, size), FALSE);
}
