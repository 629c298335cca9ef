/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/gzip.h"

#include <string.h>
#include <zlib.h>

#define SMALL 4096
#define GZIP_WINDOW (15 + 16) /* zlib's way to ask for gzip's frame */

bool
gzip_accepted(const char *accept_encoding)
{
    g_auto(GStrv) codings = g_strsplit(accept_encoding != NULL ? accept_encoding : "", ",", -1);

    for (char **coding = codings; *coding != NULL; coding++) {
        const char *weight = strstr(*coding, "q=");
        size_t length = strcspn(g_strstrip(*coding), "; \t");
        if (length == strlen("gzip") && g_ascii_strncasecmp(*coding, "gzip", length) == 0)
            return weight == NULL || g_ascii_strtod(weight + 2, NULL) > 0;
    }
    return false;
}

GBytes *
gzip_pack(GBytes *plain)
{
    gsize size = 0;
    const void *data = g_bytes_get_data(plain, &size);
    z_stream stream = { 0 };

    if (size < SMALL || size > G_MAXUINT / 2 ||
        deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return NULL;
    uLong room = deflateBound(&stream, size);
    guint8 *packed = g_malloc(room);
    stream.next_in = (Bytef *)data;
    stream.avail_in = (uInt)size;
    stream.next_out = packed;
    stream.avail_out = (uInt)room;
    bool done = deflate(&stream, Z_FINISH) == Z_STREAM_END;
    gsize used = stream.total_out;
    deflateEnd(&stream);
    if (!done) {
        g_free(packed);
        return NULL;
    }
    return g_bytes_new_take(g_realloc(packed, used), used);
}
