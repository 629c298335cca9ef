/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vfs_parts.h"

#include <string.h>

static VfsPage zeros = { .refs = 1, .repeats = true }; /* data that are zeros */

/* ---- pages ---- */

static VfsPage *
page_new(void)
{
    VfsPage *page = g_malloc(sizeof *page + VFS_PAGE);

    page->refs = 1;
    page->repeats = false;
    return page;
}

static VfsPage *
page_new_repeating(uint64_t number)
{
    VfsPage *page = g_new(VfsPage, 1);

    *page = (VfsPage){ .refs = 1, .repeats = true, .number = number };
    return page;
}

/* NULL reads as zeros. memmove(): of memcpy() and memset() of at most a page the compiler makes
 * string instructions, which begin slowly. */
static void
page_read(const VfsPage *page, uint8_t *to, size_t in, size_t n)
{
    static const uint8_t nothing[VFS_PAGE];

    if (page == NULL || (page->repeats && page->number == 0)) {
        memmove(to, nothing, n);
    } else if (!page->repeats) {
        memmove(to, page->bytes + in, n);
    } else {
        const uint64_t twice[] = { page->number, page->number };
        uint64_t number;
        size_t done = 0;
        memcpy(&number, (const uint8_t *)twice + in % 8, sizeof number);
        const uint64_t many[] = { number, number, number, number };
        for (; done + sizeof many <= n; done += sizeof many)
            memcpy(to + done, many, sizeof many);
        memcpy(to + done, many, n - done);
    }
}

VfsPage *
vfs_page_ref(VfsPage *page)
{
    if (page != NULL)
        page->refs++;
    return page;
}

void
vfs_page_unref(void *p)
{
    VfsPage *page = p;

    if (page != NULL && --page->refs == 0)
        g_free(page);
}

VfsPage *
vfs_page_at(const VfsContent *c, uint64_t index)
{
    return index < c->pages->len ? c->pages->pdata[index] : NULL;
}

void
vfs_page_put(VfsContent *c, uint64_t index, VfsPage *take)
{
    c->changed_from = MIN(c->changed_from, index);
    c->changed_to = MAX(c->changed_to, index + 1);
    if (index >= c->pages->len)
        g_ptr_array_set_size(c->pages, (int)index + 1);
    c->used += (guint)(take != NULL) - (guint)(c->pages->pdata[index] != NULL);
    vfs_page_unref(c->pages->pdata[index]);
    c->pages->pdata[index] = take;
}

void
vfs_content_init(VfsContent *c)
{
    *c = (VfsContent){ .pages = g_ptr_array_new(), .changed_from = UINT64_MAX };
}

void
vfs_content_cut(VfsContent *c, guint keep)
{
    if (keep >= c->pages->len)
        return;
    for (guint i = keep; i < c->pages->len; i++) {
        c->used -= c->pages->pdata[i] != NULL;
        vfs_page_unref(c->pages->pdata[i]);
    }
    c->changed_from = MIN(c->changed_from, keep);
    c->changed_to = MAX(c->changed_to, c->pages->len);
    g_ptr_array_set_size(c->pages, (int)keep);
}

/* They have the same pages from here on. */
static void
forget_changes(VfsContent *a, VfsContent *b)
{
    a->changed_from = b->changed_from = UINT64_MAX;
    a->changed_to = b->changed_to = 0;
}

/* Only what has changed on either side since they were the same. */
void
vfs_content_copy(VfsContent *to, VfsContent *from)
{
    uint64_t begin = MIN(from->changed_from, to->changed_from);
    uint64_t end = MIN(MAX(from->changed_to, to->changed_to), from->pages->len);

    for (guint i = from->pages->len; i < to->pages->len; i++)
        vfs_page_unref(to->pages->pdata[i]);
    g_ptr_array_set_size(to->pages, (int)from->pages->len);
    for (uint64_t i = begin; i < end; i++) {
        VfsPage *page = from->pages->pdata[i];
        if (page == to->pages->pdata[i])
            continue;
        vfs_page_ref(page);
        vfs_page_unref(to->pages->pdata[i]);
        to->pages->pdata[i] = page;
    }
    to->size = from->size;
    to->used = from->used;
    forget_changes(to, from);
}

/* ---- content ---- */

ssize_t
vfs_read(VfsNode *node, void *buffer, size_t length, uint64_t offset)
{
    uint8_t *to = buffer;
    size_t done = 0;

    if (offset >= node->now.size)
        return 0;
    length = (size_t)MIN(length, node->now.size - offset);
    while (done < length) {
        uint64_t at = offset + done;
        size_t in = (size_t)(at % VFS_PAGE), n = MIN(VFS_PAGE - in, length - done);
        const VfsPage *page = vfs_page_at(&node->now, at / VFS_PAGE);
        page_read(page, to + done, in, n);
        done += n;
    }
    return (ssize_t)length;
}

static void
note_write(VfsNode *node, uint64_t end)
{
    node->now.size = MAX(node->now.size, end);
    node->dirty = true;
    vfs_touch(node, true);
}

void
vfs_write(VfsNode *node, const void *buffer, size_t length, uint64_t offset)
{
    const uint8_t *from = buffer;

    for (size_t done = 0; done < length;) {
        uint64_t at = offset + done;
        size_t in = (size_t)(at % VFS_PAGE), n = MIN(VFS_PAGE - in, length - done);
        VfsPage *old = vfs_page_at(&node->now, at / VFS_PAGE);
        if (n == VFS_PAGE && memcmp(from + done, from + done + 8, n - 8) == 0) {
            uint64_t number;
            memcpy(&number, from + done, sizeof number);
            vfs_page_put(&node->now, at / VFS_PAGE,
                         number == 0 ? vfs_page_ref(&zeros) : page_new_repeating(number));
        } else if (old != NULL && old->refs == 1 && !old->repeats) {
            memmove(old->bytes + in, from + done, n);
        } else {
            VfsPage *page = page_new();
            if (n < VFS_PAGE)
                page_read(old, page->bytes, 0, VFS_PAGE);
            memmove(page->bytes + in, from + done, n);
            vfs_page_put(&node->now, at / VFS_PAGE, page);
        }
        done += n;
    }
    note_write(node, offset + length);
}

void
vfs_fill(VfsNode *node, uint64_t offset, uint64_t length, uint64_t value)
{
    VfsContent *now = &node->now;
    VfsPage *page = page_new_repeating(value);
    guint from = (guint)(offset / VFS_PAGE), to = (guint)((offset + length) / VFS_PAGE);

    vfs_page_put(now, to - 1, page); /* as many as that there are then */
    now->changed_from = MIN(now->changed_from, from);
    page->refs += to - 1 - from;
    for (guint i = from; i + 1 < to; i++) {
        now->used += now->pages->pdata[i] == NULL;
        vfs_page_unref(now->pages->pdata[i]);
        now->pages->pdata[i] = page;
    }
    note_write(node, offset + length);
}

void
vfs_copy(VfsNode *from, uint64_t at, VfsNode *to, uint64_t to_at, uint64_t length)
{
    while (length > 0) {
        if (at % VFS_PAGE == 0 && to_at % VFS_PAGE == 0 && length >= VFS_PAGE) {
            vfs_page_put(&to->now, to_at / VFS_PAGE,
                         vfs_page_ref(vfs_page_at(&from->now, at / VFS_PAGE)));
            note_write(to, to_at + VFS_PAGE);
            at += VFS_PAGE;
            to_at += VFS_PAGE;
            length -= VFS_PAGE;
        } else {
            uint8_t bytes[VFS_PAGE];
            size_t n = (size_t)MIN(length, VFS_PAGE - at % VFS_PAGE);
            ssize_t got = vfs_read(from, bytes, n, at);
            vfs_write(to, bytes, (size_t)MAX(got, 0), to_at);
            at += n;
            to_at += n;
            length -= n;
        }
    }
}

void
vfs_truncate(VfsNode *node, uint64_t size)
{
    guint keep = (guint)((size + VFS_PAGE - 1) / VFS_PAGE);

    vfs_content_cut(&node->now, keep);
    if (size % VFS_PAGE != 0 && size < node->now.size && vfs_page_at(&node->now, size / VFS_PAGE)) {
        uint8_t bytes[VFS_PAGE] = { 0 };
        uint64_t at = size - size % VFS_PAGE;
        vfs_read(node, bytes, (size_t)(size % VFS_PAGE), at);
        vfs_write(node, bytes, VFS_PAGE, at);
    }
    node->now.size = size;
    node->dirty = true;
    vfs_touch(node, true);
}

uint64_t
vfs_allocated(const VfsNode *node)
{
    return (uint64_t)node->now.used * VFS_PAGE;
}

uint64_t
vfs_number_anywhere(const VfsNode *node, uint64_t offset)
{
    uint64_t value = 0;

    page_read(vfs_page_at(&node->now, offset / VFS_PAGE), (uint8_t *)&value, offset % VFS_PAGE,
              sizeof value);
    return value;
}
