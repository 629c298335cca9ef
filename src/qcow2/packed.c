/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/packed.h"

#include <zlib.h>
#include <zstd.h>

/* Raw deflate with a window of 4 KiB, which is what QEMU writes and reads. */
static bool
inflate_zlib(const uint8_t *packed, size_t length, uint8_t *plain, size_t size)
{
    z_stream stream = {
        .next_in = (uint8_t *)packed, /* zlib only reads it */
        .avail_in = (uInt)length,
        .next_out = plain,
        .avail_out = (uInt)size,
    };

    if (inflateInit2(&stream, -12) != Z_OK)
        return false;
    int result = inflate(&stream, Z_FINISH);
    bool whole = (result == Z_STREAM_END || result == Z_BUF_ERROR) && stream.avail_out == 0;
    inflateEnd(&stream);
    return whole;
}

/* In one piece: zstd then needs no window of its own, whose size the data would tell. */
static bool
inflate_zstd(const uint8_t *packed, size_t length, uint8_t *plain, size_t size)
{
    size_t frame = ZSTD_findFrameCompressedSize(packed, length);

    return !ZSTD_isError(frame) && ZSTD_decompress(plain, size, packed, frame) == size;
}

bool
packed_inflate(unsigned type, const uint8_t *packed, size_t length, uint8_t *plain, size_t size)
{
    return type == PACKED_ZSTD ? inflate_zstd(packed, length, plain, size)
                               : inflate_zlib(packed, length, plain, size);
}
