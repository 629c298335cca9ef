/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/verify.h"

#include "qcow2/compare.h"

#include <inttypes.h>

static bool
is_left_out(const Pair *p, uint64_t guest, GError **error)
{
    return error_set(error, ERR_CORRUPT,
                     "%s lacks what %s holds: the first difference found is at byte %" PRIu64
                     " of the disk, where it should have data of its own",
                     pair_name_b(p), pair_name_a(p), guest);
}

/* a: in the volumes above, b: in the base */
static bool
check_cluster(Pair *p, uint64_t guest, const MergedCluster *a, const MergedCluster *b,
              GError **error)
{
    bool shows_below = b->kind == MERGED_HOLE && guest < p->b.zero_from;

    if (a->kind == MERGED_HOLE || merged_has_data(b))
        return true;
    if (shows_below)
        return is_left_out(p, guest, error);
    return a->kind == MERGED_ZERO || pair_compare_cluster(p, guest, a, b, error);
}

bool
qcow2_verify_commit(const Qcow2Source *upper, unsigned n, const Qcow2Source *base,
                    const Qcow2Verify *how, Qcow2Compared *ret_compared, GError **error)
{
    g_auto(Pair) p = { .size = how->virtual_size, .progress = how->progress, .data = how->data };

    if (!pair_open(&p, upper, n, base, 1, error))
        return false;
    for (uint64_t slice = 0; slice < p.a.slices; slice++) {
        uint64_t guest = slice << l2_span_bits(p.a.bits, false);
        size_t count = merged_count(&p.a, slice);
        bool a_empty = false, b_empty = false;

        if (!pair_tell(&p, guest, error) || !merged_slice(&p.a, slice, p.in_a, &a_empty, error) ||
            (!a_empty && !merged_slice(&p.b, slice, p.in_b, &b_empty, error)))
            return false;
        for (size_t i = 0; i < count && !a_empty; i++)
            if (!check_cluster(&p, guest + ((uint64_t)i << p.a.bits), &p.in_a[i], &p.in_b[i],
                               error))
                return false;
    }
    if (ret_compared != NULL)
        *ret_compared = p.compared;
    return true;
}
