/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The thread behind verify.c: some comparisons, one after the other, up to the first difference.
 *
 * Shares nothing with the operation. Ownership: a VerifyWork is freed by verify_work_free(), which
 * ends the thread first (within the time that a few MiB take to read). Threads: all functions but
 * the thread's own are for one thread.
 */
#pragma once

#include "qcow2/verify.h"

/* Of a MAP: a run of volumes and the one built of it; of a COMMIT: the upper volumes and the base;
 * of CONTENT: two chains; of LINKS: a chain as it should be, and the size of its disk. */
typedef enum { COMPARE_MAP, COMPARE_COMMIT, COMPARE_CONTENT, COMPARE_LINKS } What;

typedef struct {
    What what;
    GArray *a, *b; /* of Qcow2Source */
    uint64_t virtual_size;
    bool maps_only;
} Comparison;

typedef struct VerifyWork VerifyWork;
/* twice: a difference is looked at again after a second, since a QEMU that has just ended its job
 * may still have to write down its mapping tables */
VerifyWork *verify_work_new(bool twice);
void verify_work_free(VerifyWork *work);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VerifyWork, verify_work_free)

Comparison *verify_work_add(VerifyWork *work, What what, uint64_t virtual_size);
/* list: a or b of a comparison of this work */
void verify_work_source(VerifyWork *work, GArray *list, const char *path, const char *format);
/* layers: of Qcow2Layer, from [from] up to before [to] */
void verify_work_layers(VerifyWork *work, GArray *list, GPtrArray *layers, guint from, guint to);

void verify_work_start(VerifyWork *work);
/* Has it ended? Waits for that until then (monotonic µs). Progress in bytes of the disk. */
bool verify_work_wait(VerifyWork *work, int64_t until_us, uint64_t *ret_done, uint64_t *ret_total);
/* After the end: NULL = no difference; else owned by the caller. */
GError *verify_work_result(VerifyWork *work, Qcow2Compared *ret_compared);
