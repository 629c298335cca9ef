/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * check RAW SEED BLOCKS ACKED: does the raw image hold every acknowledged write of a stream?
 *
 * Writes 0 to ACKED-1 are known to be acknowledged: each block must hold the last of them that went
 * to it, or a later write of the same stream (it was on its way, or its acknowledgement
 * was still in the serial line when the VM died). Prints "ok=N lost=N", exits 1 if any is lost.
 */
#include "pattern.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LATER = 1000 }; /* so many writes may be acknowledged and not known of */

static bool
is_write(const uint64_t *found, uint64_t seed, uint64_t number, uint64_t seq)
{
    static uint64_t want[BLOCK_WORDS];

    pattern_fill(want, seed, number, seq);
    return memcmp(found, want, BLOCK) == 0;
}

static bool
is_later_write(const uint64_t *found, uint64_t seed, uint64_t number, uint64_t n_blocks,
               uint64_t acked)
{
    uint64_t seq = found[3];

    return seq >= acked && seq < acked + LATER && stream_block(seed, seq, n_blocks) == number &&
           is_write(found, seed, number, seq);
}

int
main(int argc, char **argv)
{
    static uint64_t found[BLOCK_WORDS];
    long ok = 0, lost = 0;

    if (argc != 5) {
        fprintf(stderr, "usage: check RAW SEED BLOCKS ACKED\n");
        return 2;
    }
    int fd = open(argv[1], O_RDONLY);
    uint64_t seed = strtoull(argv[2], NULL, 10), n_blocks = strtoull(argv[3], NULL, 10);
    uint64_t acked = strtoull(argv[4], NULL, 10);
    int64_t *last = malloc(n_blocks * sizeof(*last));
    if (fd < 0 || last == NULL) {
        perror(argv[1]);
        return 2;
    }

    memset(last, -1, n_blocks * sizeof(*last));
    for (uint64_t seq = 0; seq < acked; seq++)
        last[stream_block(seed, seq, n_blocks)] = seq;
    for (uint64_t i = 0; i < n_blocks; i++) {
        if (last[i] < 0)
            continue;
        memset(found, 0, BLOCK);
        if (pread(fd, found, BLOCK, i * BLOCK) == BLOCK &&
            (is_write(found, seed, i, last[i]) ||
             is_later_write(found, seed, i, n_blocks, acked))) {
            ok++;
            continue;
        }
        if (lost++ < 4)
            printf("block %lu: write %ld is lost, there is %s, write %ld of seed %ld\n",
                   (unsigned long)i, (long)last[i],
                   found[0] == PATTERN_MAGIC ? "a pattern" : "rubbish", (long)found[3],
                   (long)found[1]);
    }
    printf("ok=%ld lost=%ld\n", ok, lost);
    return lost != 0;
}
