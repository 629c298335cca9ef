/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Compressed clusters. Nobody outside the folder includes it.
 *
 * Threads: any; nothing is shared.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The header's compression_type */
enum { PACKED_ZLIB = 0, PACKED_ZSTD = 1 };

/* Fills "plain" wholly, as QEMU does: false if the data do not make a whole cluster. What follows
 * them in "packed" is ignored. Memory does not depend on what the data say. */
bool packed_inflate(unsigned type, const uint8_t *packed, size_t length, uint8_t *plain,
                    size_t size);

/* Where the L2 entry of a compressed cluster says that its data lie. They end somewhere within
 * these bytes, which end with a sector, maybe beyond the end of the file. */
static inline void
packed_place(uint64_t entry, unsigned cluster_bits, uint64_t *ret_at, uint32_t *ret_length)
{
    unsigned shift = 62 - (cluster_bits - 8);
    uint64_t sectors = ((entry & ~(UINT64_C(3) << 62)) >> shift) + 1;

    *ret_at = entry & ((UINT64_C(1) << shift) - 1);
    *ret_length = (uint32_t)(sectors * 512 - (*ret_at & 511));
}
