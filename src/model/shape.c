/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model/shape.h"

#include "model/vm.h"

/* clang-format off */
#define TEXT(type, name)      { #name, offsetof(type, name), NULL, MEMBER_TEXT }
#define NEEDED(type, name)    { #name, offsetof(type, name), NULL, MEMBER_NEEDED }
#define FORMAT(type, name)    { #name, offsetof(type, name), NULL, MEMBER_FORMAT }
#define SIZE(type, name)      { #name, offsetof(type, name), NULL, MEMBER_SIZE }
#define NUMBER(type, name)    { #name, offsetof(type, name), NULL, MEMBER_NUMBER }
#define COUNT(type, name)     { #name, offsetof(type, name), NULL, MEMBER_COUNT }
#define FLAG(type, name)      { #name, offsetof(type, name), NULL, MEMBER_FLAG }
#define MARK(type, name)      { #name, offsetof(type, name), NULL, MEMBER_MARK }
#define STATE(type, name)     { #name, offsetof(type, name), NULL, MEMBER_STATE }
#define LIST(type, name, of)  { #name, offsetof(type, name), &(of), MEMBER_LIST }
#define OBJECT(type, name, of) { #name, offsetof(type, name), &(of), MEMBER_OBJECT }
#define PASSES(type, name, kind) { #name, offsetof(type, name), NULL, kind, MEMBER_PASSES }
#define DRIFTS(type, name, kind) { #name, offsetof(type, name), NULL, kind, MEMBER_DRIFTS }
#define NOTED(type, name, kind)  { #name, offsetof(type, name), NULL, kind, MEMBER_NOTED }
#define END                   { NULL, 0, NULL, MEMBER_TEXT }

static const Member volume_members[] = {
    NEEDED(Volume, id),
    NEEDED(Volume, path),
    FORMAT(Volume, format),
    SIZE(Volume, virtual_size),
    DRIFTS(Volume, allocated, MEMBER_SIZE),
    FLAG(Volume, read_only),
    TEXT(Volume, used_by),
    FLAG(Volume, internal_snapshots),
    FLAG(Volume, bitmaps),
    FLAG(Volume, foreign),
    NOTED(Volume, seen, MEMBER_TEXT),
    END,
};

static const Member disk_members[] = {
    NEEDED(Disk, id),
    NEEDED(Disk, target),
    TEXT(Disk, bus),
    FLAG(Disk, read_only),
    FLAG(Disk, boot),
    FLAG(Disk, copies_on_read),
    TEXT(Disk, unmanaged),
    PASSES(Disk, busy, MEMBER_TEXT),
    LIST(Disk, volumes, volume_shape),
    LIST(Disk, branches, volume_shape),
    END,
};

static const Member snapshot_disk_members[] = {
    NEEDED(SnapshotDisk, disk_id),
    NEEDED(SnapshotDisk, volume_id),
    FLAG(SnapshotDisk, unusable),
    END,
};

static const Member snapshot_members[] = {
    NEEDED(Snapshot, id),
    TEXT(Snapshot, name),
    TEXT(Snapshot, parent),
    NUMBER(Snapshot, date),
    LIST(Snapshot, disks, snapshot_disk_shape),
    TEXT(Snapshot, memory),
    SIZE(Snapshot, memory_size),
    FLAG(Snapshot, quiesced),
    MARK(Snapshot, config_only),
    TEXT(Snapshot, config),
    TEXT(Snapshot, comment),
    TEXT(Snapshot, record),
    END,
};

static const Member leftover_members[] = {
    NEEDED(Leftover, path),
    END,
};
static const Member operation_record_members[] = {
    NEEDED(OperationRecord, id),
    NEEDED(OperationRecord, kind),
    TEXT(OperationRecord, disk_id),
    TEXT(OperationRecord, base),
    TEXT(OperationRecord, top),
    TEXT(OperationRecord, strategy),
    TEXT(OperationRecord, instance),
    END,
};

static const Member preview_disk_members[] = {
    NEEDED(PreviewDisk, disk_id),
    NEEDED(PreviewDisk, old_leaf),
    NEEDED(PreviewDisk, leaf),
    END,
};

static const Member preview_members[] = {
    NEEDED(Preview, snapshot),
    NUMBER(Preview, date),
    TEXT(Preview, former),
    FLAG(Preview, memory),
    TEXT(Preview, begun_by),
    LIST(Preview, disks, preview_disk_shape),
    END,
};

static const Member vm_members[] = {
    NEEDED(Vm, id),
    NEEDED(Vm, name),
    PASSES(Vm, host, MEMBER_TEXT),
    PASSES(Vm, state, MEMBER_STATE),
    PASSES(Vm, state_detail, MEMBER_TEXT),
    PASSES(Vm, instance, MEMBER_TEXT),
    TEXT(Vm, unmanaged),
    PASSES(Vm, home, MEMBER_TEXT),
    PASSES(Vm, description, MEMBER_TEXT),
    PASSES(Vm, comment, MEMBER_TEXT),
    PASSES(Vm, firmware, MEMBER_TEXT),
    SIZE(Vm, memory),
    COUNT(Vm, vcpus),
    PASSES(Vm, ballooning, MEMBER_FLAG),
    PASSES(Vm, created, MEMBER_NUMBER),
    PASSES(Vm, started, MEMBER_NUMBER),
    PASSES(Vm, stopped, MEMBER_NUMBER),
    TEXT(Vm, frozen),
    PASSES(Vm, foreign_job, MEMBER_TEXT),
    PASSES(Vm, agent_connected, MEMBER_FLAG),
    PASSES(Vm, fqdn, MEMBER_TEXT),
    TEXT(Vm, graphics),
    TEXT(Vm, display_address),
    COUNT(Vm, display_port),
    COUNT(Vm, display_tls_port),
    NOTED(Vm, generation, MEMBER_NUMBER),
    LIST(Vm, disks, disk_shape),
    LIST(Vm, snapshots, snapshot_shape),
    LIST(Vm, operations, operation_record_shape),
    LIST(Vm, leftovers, leftover_shape),
    OBJECT(Vm, preview, preview_shape),
    TEXT(Vm, goes_on_from),
    END,
};
/* clang-format on */

static void
free_snapshot_disk(void *object)
{
    shape_free(&snapshot_disk_shape, object);
}

static void
free_preview_disk(void *object)
{
    shape_free(&preview_disk_shape, object);
}

/* clang-format off */
const Shape volume_shape = { "volume", sizeof(Volume), volume_members, (GDestroyNotify)volume_free };
const Shape disk_shape = { "disk", sizeof(Disk), disk_members, (GDestroyNotify)disk_free };
const Shape snapshot_disk_shape = { "disk of a snapshot", sizeof(SnapshotDisk), snapshot_disk_members, free_snapshot_disk };
const Shape snapshot_shape = { "snapshot", sizeof(Snapshot), snapshot_members, (GDestroyNotify)snapshot_free };
const Shape operation_record_shape = { "operation", sizeof(OperationRecord), operation_record_members, (GDestroyNotify)operation_record_free };
const Shape leftover_shape = { "leftover", sizeof(Leftover), leftover_members, (GDestroyNotify)leftover_free };
const Shape preview_disk_shape = { "disk of a preview", sizeof(PreviewDisk), preview_disk_members, free_preview_disk };
const Shape preview_shape = { "preview", sizeof(Preview), preview_members, (GDestroyNotify)preview_free };
const Shape vm_shape = { "VM", sizeof(Vm), vm_members, (GDestroyNotify)vm_free };
/* clang-format on */

static bool
is_text(MemberKind kind)
{
    return kind == MEMBER_TEXT || kind == MEMBER_NEEDED || kind == MEMBER_FORMAT;
}

void *
shape_new(const Shape *shape)
{
    void *object = g_malloc0(shape->size);

    for (const Member *m = shape->members; m->name != NULL; m++)
        if (m->kind == MEMBER_LIST)
            *AT(GPtrArray *, object, m) = g_ptr_array_new_with_free_func(m->of->free);
    return object;
}

void
shape_free(const Shape *shape, void *object)
{
    if (object == NULL)
        return;
    for (const Member *m = shape->members; m->name != NULL; m++) {
        if (is_text(m->kind))
            g_free(*AT(char *, object, m));
        else if (m->kind == MEMBER_LIST && *AT(GPtrArray *, object, m) != NULL)
            g_ptr_array_unref(*AT(GPtrArray *, object, m));
        else if (m->kind == MEMBER_OBJECT)
            shape_free(m->of, *AT(void *, object, m));
    }
    g_free(object);
}

GPtrArray *
shape_copy_list(const Shape *of, const GPtrArray *list)
{
    GPtrArray *copy = g_ptr_array_new_with_free_func(of->free);

    for (guint i = 0; list != NULL && i < list->len; i++)
        g_ptr_array_add(copy, shape_copy(of, list->pdata[i]));
    return copy;
}

void *
shape_copy(const Shape *shape, const void *object)
{
    void *copy;

    if (object == NULL)
        return NULL;
    copy = g_memdup2(object, shape->size);
    for (const Member *m = shape->members; m->name != NULL; m++) {
        if (is_text(m->kind))
            *AT(char *, copy, m) = g_strdup(*AT_CONST(char *, object, m));
        else if (m->kind == MEMBER_LIST)
            *AT(GPtrArray *, copy, m) = shape_copy_list(m->of, *AT_CONST(GPtrArray *, object, m));
        else if (m->kind == MEMBER_OBJECT)
            *AT(void *, copy, m) = shape_copy(m->of, *AT_CONST(void *, object, m));
    }
    return copy;
}

static bool
lists_equal(const Shape *of, ShapePart part, const GPtrArray *a, const GPtrArray *b)
{
    guint n = a != NULL ? a->len : 0;
    bool equal = n == (b != NULL ? b->len : 0);

    for (guint i = 0; equal && i < n; i++)
        equal = shape_equal(of, part, a->pdata[i], b->pdata[i]);
    return equal;
}

static bool
members_equal(const Member *m, ShapePart part, const void *a, const void *b)
{
    switch (m->kind) {
    case MEMBER_TEXT:
    case MEMBER_NEEDED:
    case MEMBER_FORMAT:
        return g_strcmp0(*AT_CONST(char *, a, m), *AT_CONST(char *, b, m)) == 0;
    case MEMBER_SIZE:
        return *AT_CONST(uint64_t, a, m) == *AT_CONST(uint64_t, b, m);
    case MEMBER_NUMBER:
        return *AT_CONST(int64_t, a, m) == *AT_CONST(int64_t, b, m);
    case MEMBER_COUNT:
        return *AT_CONST(unsigned, a, m) == *AT_CONST(unsigned, b, m);
    case MEMBER_FLAG:
    case MEMBER_MARK:
        return *AT_CONST(bool, a, m) == *AT_CONST(bool, b, m);
    case MEMBER_STATE:
        return *AT_CONST(VmState, a, m) == *AT_CONST(VmState, b, m);
    case MEMBER_LIST:
        return lists_equal(m->of, part, *AT_CONST(GPtrArray *, a, m), *AT_CONST(GPtrArray *, b, m));
    case MEMBER_OBJECT:
        return shape_equal(m->of, part, *AT_CONST(void *, a, m), *AT_CONST(void *, b, m));
    }
    return false;
}

bool
shape_equal(const Shape *shape, ShapePart part, const void *a, const void *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    for (const Member *m = shape->members; m->name != NULL; m++)
        if (member_is_in(m, part) && !members_equal(m, part, a, b))
            return false;
    return true;
}
