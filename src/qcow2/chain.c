/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/folder.h"
#include "base/text.h"
#include "qcow2/image.h"

#include <errno.h>
#include <stdlib.h>

void
qcow2_layer_free(Qcow2Layer *layer)
{
    if (layer == NULL)
        return;
    g_free(layer->path);
    g_free(layer->format);
    qcow2_header_free(layer->header);
    g_free(layer);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qcow2Layer, qcow2_layer_free)

/* QEMU's rule: a colon before any slash makes it a protocol ("nbd://h", "json:{}", "file:x"). */
static bool
has_protocol(const char *name)
{
    return name[strcspn(name, ":/")] == ':';
}

/* Libvirt's XML and our JSON can carry neither broken UTF-8 nor control characters. */
static bool
is_plain(const char *name)
{
    for (const char *c = name; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return false;
    return *name != '\0' && g_utf8_validate(name, -1, NULL);
}

char *
qcow2_backing_path(const char *of, const char *backing, GError **error)
{
    if (has_protocol(backing) || !is_plain(backing)) {
        g_autofree char *shown = image_shown(backing);
        error_set(error, ERR_UNSUPPORTED,
                  "%s has the backing file \"%s\": only plain paths of files are supported", of,
                  shown);
        return NULL;
    }
    g_autofree char *absolute = g_path_is_absolute(of) ? NULL : g_canonicalize_filename(of, NULL);
    g_autofree char *folder = g_path_get_dirname(absolute != NULL ? absolute : of);
    return g_canonicalize_filename(backing, folder);
}

char *
qcow2_backing_of(const char *path)
{
    g_autoptr(Qcow2Header) header = qcow2_header_read(path, NULL);

    return header != NULL && header->backing_file != NULL
               ? qcow2_backing_path(path, header->backing_file, NULL)
               : NULL;
}

/* What the walk knows beside the layers found so far. */
typedef struct {
    const char *root; /* real path; NULL = anywhere */
    GPtrArray *layers;
    GArray *seen; /* of FileId, one for each layer */
    Folder *folder;
} Walk;

typedef struct {
    uint64_t device, inode;
} FileId;

static bool
is_inside(const char *real, const char *root)
{
    size_t length = strlen(root);

    if (strcmp(root, "/") == 0)
        return true;
    return strncmp(real, root, length) == 0 && real[length] == '/';
}

static char *
real_path(Folder *folder, const char *path, GError **error)
{
    char *real = folder_realpath(folder, path);

    if (real != NULL)
        return real;
    if (errno == ENOENT || errno == ENOTDIR)
        error_set(error, ERR_NOT_FOUND, "%s does not exist", path);
    else
        error_set_errno(error, "resolving the path %s", path);
    return NULL;
}

/* Opens what was checked to lie in the root, not what the name means a moment later. */
static bool
open_inside(const Walk *walk, const char *path, ImageFile *ret_file, GError **error)
{
    if (walk->root == NULL)
        return image_open(path, ret_file, error);

    g_autofree char *real = real_path(walk->folder, path, error);
    if (real == NULL)
        return false;
    if (!is_inside(real, walk->root))
        return error_set(error, ERR_REFUSED,
                         "%s is the file %s, which lies outside %s: no file out there is touched",
                         path, real, walk->root);
    return image_open(real, ret_file, error);
}

static bool
check_not_seen(const Walk *walk, const char *path, const ImageFile *file, GError **error)
{
    for (guint i = 0; i < walk->seen->len; i++) {
        const FileId *id = &g_array_index(walk->seen, FileId, i);
        const Qcow2Layer *layer = g_ptr_array_index(walk->layers, i);

        if (id->device == file->device && id->inode == file->inode)
            return error_set(error, ERR_CORRUPT,
                             "the chain is a loop: %s is the same file as %s further up", path,
                             layer->path);
    }
    return true;
}

static bool
check_manageable(const Qcow2Header *header, GError **error)
{
    if (header->features & QCOW2_EXTERNAL_DATA)
        return error_set(error, ERR_UNSUPPORTED,
                         "%s keeps its data in another file (data_file), which is not supported",
                         header->path);
    if (header->features & QCOW2_ENCRYPTED)
        return error_set(error, ERR_UNSUPPORTED, "%s is encrypted, which is not supported",
                         header->path);
    return true;
}

static Qcow2Layer *
read_layer(const Walk *walk, const char *path, const char *format, ImageFile *file, GError **error)
{
    g_autoptr(Qcow2Layer) layer = g_new0(Qcow2Layer, 1);

    if (!open_inside(walk, path, file, error) || !check_not_seen(walk, path, file, error))
        return NULL;
    layer->path = g_strdup(path);
    layer->format = g_strdup(format);
    layer->allocated = file->allocated;
    layer->virtual_size = raw_virtual_size(file);
    if (strcmp(format, "raw") == 0)
        return g_steal_pointer(&layer);

    layer->header = image_header(file, path, error);
    if (layer->header == NULL || !check_manageable(layer->header, error))
        return NULL;
    layer->virtual_size = layer->header->virtual_size;
    return g_steal_pointer(&layer);
}

static bool
check_format(const char *path, const char *format, GError **error)
{
    if (format != NULL && (strcmp(format, "qcow2") == 0 || strcmp(format, "raw") == 0))
        return true;
    g_autofree char *shown = image_shown(format != NULL ? format : "");
    return error_set(error, ERR_UNSUPPORTED,
                     "the format of %s is given as \"%s\"; only qcow2 and raw are supported", path,
                     shown);
}

static bool
add_layer(Walk *walk, const char *path, const char *format, GError **error)
{
    g_auto(ImageFile) file = IMAGE_FILE_INIT;

    if (!check_format(path, format, error))
        return false;
    if (walk->layers->len == QCOW2_MAX_DEPTH)
        return error_set(error, ERR_UNSUPPORTED, "%s would be layer %d: chains end at %d layers",
                         path, QCOW2_MAX_DEPTH + 1, QCOW2_MAX_DEPTH);
    Qcow2Layer *layer = read_layer(walk, path, format, &file, error);
    if (layer == NULL)
        return false;
    FileId id = { file.device, file.inode };
    g_ptr_array_add(walk->layers, layer);
    g_array_append_val(walk->seen, id);
    return true;
}

static bool
check_format_given(const Qcow2Header *header, const char *backing, GError **error)
{
    if (header->backing_format != NULL)
        return true;
    g_autofree char *name = shell_word(header->backing_file);
    g_autofree char *file = shell_word(header->path);
    return error_set(error, ERR_UNSUPPORTED,
                     "%s has the backing file %s, but does not say of which format that is, and "
                     "guessing is unsafe. If you know it (raw or qcow2), and no VM runs, say it: "
                     "qemu-img rebase -u -b %s -F FORMAT %s",
                     header->path, backing, name, file);
}

/* ".." after a symlinked directory is another place for the kernel (and QEMU) than for the
 * normalised path, which is what we and libvirt go on with. They must not mean two files. */
static bool
check_unambiguous(const Qcow2Header *header, const char *path, GError **error)
{
    if (strstr(header->backing_file, "..") == NULL && strstr(header->path, "..") == NULL)
        return true;
    g_autofree char *folder = g_path_get_dirname(header->path);
    g_autofree char *raw = g_path_is_absolute(header->backing_file)
                               ? g_strdup(header->backing_file)
                               : g_build_filename(folder, header->backing_file, NULL);
    autolibc char *real = realpath(raw, NULL);
    autolibc char *normal = realpath(path, NULL);
    if (g_strcmp0(real, normal) == 0)
        return true;
    return error_set(error, ERR_UNSUPPORTED,
                     "%s has the backing file %s: through symbolic links this is %s, by its text "
                     "it is %s. Write the plain path into the header: qemu-img rebase -u",
                     header->path, header->backing_file, real != NULL ? real : "no file",
                     normal != NULL ? normal : "no file");
}

static bool
go_down(Walk *walk, const Qcow2Header *header, GError **error)
{
    g_autofree char *path = qcow2_backing_path(header->path, header->backing_file, error);

    if (path == NULL)
        return false;
    if (!check_format_given(header, path, error) || !check_unambiguous(header, path, error))
        return false;
    if (add_layer(walk, path, header->backing_format, error))
        return true;
    g_prefix_error(error, "the backing file of %s: ", header->path);
    return false;
}

static void
reverse(GPtrArray *array)
{
    for (guint i = 0; i < array->len / 2; i++) {
        gpointer other = array->pdata[array->len - 1 - i];
        array->pdata[array->len - 1 - i] = array->pdata[i];
        array->pdata[i] = other;
    }
}

GPtrArray *
qcow2_chain_walk(const char *leaf, const char *leaf_format, const char *root, GError **error)
{
    g_autoptr(GPtrArray) layers = g_ptr_array_new_with_free_func((GDestroyNotify)qcow2_layer_free);
    g_autoptr(GArray) seen = g_array_new(FALSE, FALSE, sizeof(FileId));
    g_auto(Folder) folder = { 0 };
    g_autofree char *real_root = root != NULL ? real_path(&folder, root, error) : NULL;
    Walk walk = { real_root, layers, seen, &folder };

    if (root != NULL && real_root == NULL)
        return NULL;
    if (!add_layer(&walk, leaf, leaf_format, error))
        return NULL;
    while (true) {
        const Qcow2Layer *lowest = g_ptr_array_index(layers, layers->len - 1);
        if (lowest->header == NULL || lowest->header->backing_file == NULL)
            break;
        if (!go_down(&walk, lowest->header, error))
            return NULL;
    }
    reverse(layers);
    return g_steal_pointer(&layers);
}
