/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Shapes: what the structs of vm.h consist of, as tables. Copying, freeing and both
 * directions of JSON follow the tables, so a member that is added to a struct and its
 * table is nowhere forgotten. Used inside model/ only.
 *
 * Threads: the tables are constant; the objects belong to whoever calls.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#include <stddef.h>

typedef enum {
    MEMBER_TEXT,   /* char *, NULL = absent */
    MEMBER_NEEDED, /* char *, refused when absent or empty */
    MEMBER_FORMAT, /* the same, "qcow2" or "raw" */
    MEMBER_SIZE,   /* uint64_t */
    MEMBER_NUMBER, /* int64_t */
    MEMBER_COUNT,  /* unsigned */
    MEMBER_FLAG,   /* bool */
    MEMBER_MARK,   /* bool, left out where it is false */
    MEMBER_STATE,  /* VmState; absent = unknown */
    MEMBER_LIST,   /* GPtrArray of "of"; absent = empty */
    MEMBER_OBJECT, /* pointer to one "of", NULL = absent */
} MemberKind;

typedef enum {
    MEMBER_LASTS,  /* is in manifests */
    MEMBER_NOTED,  /* the same, but says nothing of the VM: no reason to write one */
    MEMBER_PASSES, /* is in none: can be seen anew at any time, or differs from host to host */
    MEMBER_DRIFTS, /* the same, and becomes another while a guest just runs */
} MemberStay;

/* Which members count */
typedef enum {
    SHAPE_WHOLE,   /* all */
    SHAPE_KEPT,    /* what a manager has to remember of it */
    SHAPE_STORED,  /* what is in manifests */
    SHAPE_LASTING, /* what is worth writing one */
} ShapePart;

typedef struct Shape Shape;

typedef struct {
    const char *name; /* of the struct member and in JSON; a table ends with NULL */
    size_t offset;
    const Shape *of;
    MemberKind kind;
    MemberStay stay;
} Member;

struct Shape {
    const char *what; /* for messages: "volume" */
    size_t size;
    const Member *members;
    GDestroyNotify free;
};

/* Where a member of an object is. */
#define AT(type, object, member) ((type *)((char *)(object) + (member)->offset))
#define AT_CONST(type, object, member) ((type const *)((const char *)(object) + (member)->offset))

static inline bool
member_is_in(const Member *m, ShapePart part)
{
    switch (m->stay) {
    case MEMBER_LASTS:
        return true;
    case MEMBER_NOTED:
        return part != SHAPE_LASTING;
    case MEMBER_PASSES:
        return part == SHAPE_WHOLE || part == SHAPE_KEPT;
    case MEMBER_DRIFTS:
        return part == SHAPE_WHOLE;
    }
    return true;
}

/* An object of zeros and empty lists. */
void *shape_new(const Shape *shape);
void shape_free(const Shape *shape, void *object);
void *shape_copy(const Shape *shape, const void *object);
GPtrArray *shape_copy_list(const Shape *of, const GPtrArray *list);
/* In all members that the part has; none is equal to none. */
bool shape_equal(const Shape *shape, ShapePart part, const void *a, const void *b);

/* Text that is not UTF-8 (which JSON cannot hold) is written with replacement characters. */
json_t *shape_to_json(const Shape *shape, ShapePart part, const void *object);
/* ERR_CORRUPT names the object and the member. */
void *shape_from_json(const Shape *shape, const json_t *json, GError **error);

extern const Shape volume_shape, disk_shape, snapshot_disk_shape, snapshot_shape,
    operation_record_shape, leftover_shape, preview_disk_shape, preview_shape, vm_shape;
