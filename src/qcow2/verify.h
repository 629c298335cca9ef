/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Is a merged volume what the volumes were that it replaces? Asked before those are deleted.
 *
 * Reads, and changes nothing: the files may be open in a QEMU that does not write to them. Each
 * function is true, or false with ERR_CORRUPT that names the files and the first difference; other
 * errors (those of qcow2.h; ERR_UNSUPPORTED; ERR_CANCELLED) mean that it could not tell.
 *
 * Threads: any; callbacks come in the caller's thread, at least every few MiB that are read.
 */
#pragma once

#include "qcow2/build.h"

typedef struct {
    uint64_t virtual_size; /* compare the first so many bytes of the disk, as if every volume were
                              as large (what it lacks reads zero); 0 = the sizes must agree */
    bool maps_only;        /* data in both are not read, but where only one file has a hole */
    Qcow2Progress progress;
    void *data;
} Qcow2Verify;

/* qcow2_same_map() and qcow2_same_content() of build.h in a certain way. */
bool qcow2_verify_map(const Qcow2Source *layers, unsigned n, const char *dest,
                      const Qcow2Verify *how, Qcow2Compared *ret_compared, GError **error);
bool qcow2_verify_content(const Qcow2Source *a, unsigned n_a, const Qcow2Source *b, unsigned n_b,
                          const Qcow2Verify *how, Qcow2Compared *ret_compared, GError **error);

/* After a commit: has the base everything that the volumes above it (lowest first) hold? Wherever
 * one of them has data or zeros, the base must not show what is below it. Data are not compared,
 * but where the base has none: there they must be zeros. */
bool qcow2_verify_commit(const Qcow2Source *upper, unsigned n, const Qcow2Source *base,
                         const Qcow2Verify *how, Qcow2Compared *ret_compared, GError **error);
