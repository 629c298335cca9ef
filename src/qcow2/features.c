/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the writer of new volumes cannot carry over.
 */
#include "qcow2/build.h"

const char *
qcow2_uncarried(unsigned features)
{
    /* clang-format off */
    static const struct { unsigned feature; const char *text; } rows[] = {
        { QCOW2_EXTERNAL_DATA, "keeps its data in another file (data_file), which cannot be carried over" },
        { QCOW2_ENCRYPTED, "is encrypted, which cannot be carried over" },
        { QCOW2_EXTENDED_L2, "has extended L2 entries (subclusters), which cannot be carried over" },
        { QCOW2_UNKNOWN_INCOMPATIBLE, "has features that are unknown here, which cannot be carried over" },
        { QCOW2_CORRUPT, "is marked as corrupt: repair it with qemu-img check -r all" },
        { QCOW2_DIRTY, "is marked as dirty (not closed): qemu-img check -r all clears that" },
        { QCOW2_INTERNAL_SNAPSHOTS, "has internal snapshots, which cannot be carried over" },
        { QCOW2_BITMAPS, "has persistent dirty bitmaps, which cannot be carried over" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        if (features & rows[i].feature)
            return rows[i].text;
    return NULL;
}
