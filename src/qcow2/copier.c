/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/copier.h"

#include "qcow2/image.h"

#include <errno.h>
#include <inttypes.h>
#include <liburing.h>
#include <stdlib.h>

enum {
    DEPTH = 16,
    PART = 1 << 20,
    ALIGNMENT = 4096,
};

/* A part on its way: first read, then written. */
typedef struct {
    CopyRange range;
    uint8_t *buffer;
    size_t done; /* of what it does now */
    bool busy, writing;
} Slot;

struct Copier {
    struct io_uring ring;
    bool has_ring;
    unsigned in_flight;
    uint8_t *buffers;
    Slot slots[DEPTH];
};

Copier *
copier_new(void)
{
    Copier *copier = g_new0(Copier, 1);

    copier->buffers = aligned_alloc(ALIGNMENT, (size_t)DEPTH * PART);
    if (copier->buffers == NULL)
        g_error("out of memory");
    for (unsigned i = 0; i < DEPTH; i++)
        copier->slots[i].buffer = copier->buffers + (size_t)i * PART;
    copier->has_ring = io_uring_queue_init(DEPTH, &copier->ring, 0) == 0;
    return copier;
}

static bool
read_failed(const Slot *slot, int number, GError **error)
{
    errno = number;
    return error_set_errno(error, "reading %s at byte %" PRIu64, slot->range.from_path,
                           slot->range.from);
}

static bool
write_failed(const Slot *slot, int number, GError **error)
{
    errno = number;
    return error_set_errno(error, "writing %s", slot->range.to_path);
}

static bool
cut_short(const Slot *slot, GError **error)
{
    return error_set(error, ERR_CORRUPT,
                     "%s became shorter while it was read: it should reach to byte %" PRIu64,
                     slot->range.from_path, slot->range.from + slot->range.length);
}

/* Without io_uring */
static bool
copy_now(Slot *slot, GError **error)
{
    size_t length = (size_t)slot->range.length;

    for (size_t done = 0; done < length;) {
        ssize_t got = pread(slot->range.from_fd, slot->buffer + done, length - done,
                            (off_t)(slot->range.from + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return read_failed(slot, errno, error);
        if (got == 0)
            return cut_short(slot, error);
        done += (size_t)got;
    }
    return image_write(slot->range.to_fd, slot->buffer, length, slot->range.to) ||
           write_failed(slot, errno, error);
}

/* The next read or write of a slot. There is room: the ring is as long as there are slots. */
static void
submit(Copier *copier, Slot *slot)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&copier->ring);
    unsigned left = (unsigned)(slot->range.length - slot->done);
    const CopyRange *range = &slot->range;

    if (slot->writing)
        io_uring_prep_write(sqe, range->to_fd, slot->buffer + slot->done, left,
                            range->to + slot->done);
    else
        io_uring_prep_read(sqe, range->from_fd, slot->buffer + slot->done, left,
                           range->from + slot->done);
    io_uring_sqe_set_data(sqe, slot);
    slot->busy = true;
    copier->in_flight++;
}

/* A read or write of a slot came back: begin its next one, if there is one. */
static bool
go_on(Copier *copier, Slot *slot, int result, GError **error)
{
    slot->busy = false;
    copier->in_flight--;
    if (result < 0 && result != -EINTR && result != -EAGAIN)
        return slot->writing ? write_failed(slot, -result, error)
                             : read_failed(slot, -result, error);
    if (result == 0)
        return slot->writing ? write_failed(slot, EIO, error) : cut_short(slot, error);
    slot->done += result > 0 ? (size_t)result : 0;
    if (slot->done == slot->range.length && slot->writing)
        return true;
    if (slot->done == slot->range.length) {
        slot->writing = true;
        slot->done = 0;
    }
    submit(copier, slot);
    return true;
}

/* Waits for at least one to come back. */
static bool
turn(Copier *copier, GError **error)
{
    struct io_uring_cqe *cqe = NULL;
    int r = io_uring_submit_and_wait(&copier->ring, 1);

    if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY) {
        errno = -r;
        return error_set_errno(error, "waiting for the disk");
    }
    while (io_uring_peek_cqe(&copier->ring, &cqe) == 0) {
        Slot *slot = io_uring_cqe_get_data(cqe);
        int result = cqe->res;

        io_uring_cqe_seen(&copier->ring, cqe);
        if (!go_on(copier, slot, result, error))
            return false;
    }
    return true;
}

static Slot *
free_slot(Copier *copier)
{
    for (unsigned i = 0; i < DEPTH; i++)
        if (!copier->slots[i].busy)
            return &copier->slots[i];
    return NULL;
}

static bool
add_part(Copier *copier, const CopyRange *part, GError **error)
{
    while (copier->in_flight == DEPTH)
        if (!turn(copier, error))
            return false;
    Slot *slot = free_slot(copier);
    slot->range = *part;
    slot->done = 0;
    slot->writing = false;
    if (!copier->has_ring)
        return copy_now(slot, error);
    submit(copier, slot);
    return true;
}

bool
copier_add(Copier *copier, const CopyRange *range, GError **error)
{
    CopyRange part = *range;

    for (uint64_t done = 0; done < range->length; done += part.length) {
        part.from = range->from + done;
        part.to = range->to + done;
        part.length = MIN(range->length - done, PART);
        if (!add_part(copier, &part, error))
            return false;
    }
    return true;
}

bool
copier_finish(Copier *copier, GError **error)
{
    while (copier->in_flight > 0)
        if (!turn(copier, error))
            return false;
    return true;
}

/* The kernel writes into the buffers until it has said that it is done. */
static void
drain(Copier *copier)
{
    while (copier->in_flight > 0) {
        struct io_uring_cqe *cqe = NULL;
        int r = io_uring_submit_and_wait(&copier->ring, 1);

        if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY)
            break;
        while (io_uring_peek_cqe(&copier->ring, &cqe) == 0) {
            io_uring_cqe_seen(&copier->ring, cqe);
            copier->in_flight--;
        }
    }
}

void
copier_free(Copier *copier)
{
    if (copier == NULL)
        return;
    if (copier->has_ring) {
        drain(copier);
        io_uring_queue_exit(&copier->ring);
    }
    free(copier->buffers);
    g_free(copier);
}
