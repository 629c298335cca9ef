/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the test guest writes, shared by the writer inside (gw.c) and the checker outside
 * (check.c): every block of 4 KiB names its seed, its place and the number of the write
 * that made it, so a lost, stale or misplaced write cannot look right.
 */
#pragma once

#include <stdint.h>

enum { BLOCK = 4096, BLOCK_WORDS = BLOCK / 8 };
#define PATTERN_MAGIC 0x4c4d504154544e31ULL

/* splitmix64 */
static inline uint64_t
mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

static inline void
pattern_fill(uint64_t *block, uint64_t seed, uint64_t number, uint64_t seq)
{
    uint64_t state = mix(seed ^ mix(number ^ mix(seq)));

    block[0] = PATTERN_MAGIC;
    block[1] = seed;
    block[2] = number;
    block[3] = seq;
    for (int i = 4; i < BLOCK_WORDS; i++) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        block[i] = state;
    }
}

/* The block that write number seq of a stream goes to. */
static inline uint64_t
stream_block(uint64_t seed, uint64_t seq, uint64_t n_blocks)
{
    return mix(seed ^ mix(seq)) % n_blocks;
}
