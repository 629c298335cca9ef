/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model/shape.h"
#include "model/vm.h"

#include <limits.h>

const char *
json_text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

int64_t
json_number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

bool
json_flag(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

void
json_put_text(json_t *object, const char *key, const char *text)
{
    json_t *value;

    if (text == NULL)
        return;
    value = json_string(text);
    if (value == NULL) { /* not UTF-8: a file name can be anything */
        g_autofree char *valid = g_utf8_make_valid(text, -1);
        value = json_string(valid);
    }
    json_object_set_new(object, key, value);
}

static json_t *
list_to_json(const Member *m, ShapePart part, const GPtrArray *list)
{
    json_t *array = json_array();

    for (guint i = 0; list != NULL && i < list->len; i++)
        json_array_append_new(array, shape_to_json(m->of, part, list->pdata[i]));
    return array;
}

static void
put_member(json_t *json, const Member *m, ShapePart part, const void *object)
{
    switch (m->kind) {
    case MEMBER_TEXT:
    case MEMBER_NEEDED:
    case MEMBER_FORMAT:
        json_put_text(json, m->name, *AT_CONST(char *, object, m));
        break;
    case MEMBER_SIZE:
        json_object_set_new(json, m->name,
                            json_integer((json_int_t)*AT_CONST(uint64_t, object, m)));
        break;
    case MEMBER_NUMBER:
        json_object_set_new(json, m->name, json_integer(*AT_CONST(int64_t, object, m)));
        break;
    case MEMBER_COUNT:
        json_object_set_new(json, m->name, json_integer(*AT_CONST(unsigned, object, m)));
        break;
    case MEMBER_FLAG:
        json_object_set_new(json, m->name, json_boolean(*AT_CONST(bool, object, m)));
        break;
    case MEMBER_MARK:
        if (*AT_CONST(bool, object, m))
            json_object_set_new(json, m->name, json_true());
        break;
    case MEMBER_STATE:
        json_put_text(json, m->name, vm_state_word(*AT_CONST(VmState, object, m)));
        break;
    case MEMBER_LIST:
        json_object_set_new(json, m->name,
                            list_to_json(m, part, *AT_CONST(GPtrArray *, object, m)));
        break;
    case MEMBER_OBJECT:
        if (*AT_CONST(void *, object, m) != NULL)
            json_object_set_new(json, m->name,
                                shape_to_json(m->of, part, *AT_CONST(void *, object, m)));
        break;
    }
}

json_t *
shape_to_json(const Shape *shape, ShapePart part, const void *object)
{
    json_t *json = json_object();

    for (const Member *m = shape->members; m->name != NULL; m++)
        if (member_is_in(m, part))
            put_member(json, m, part, object);
    return json;
}

static bool
read_text(const Shape *shape, const Member *m, const json_t *value, char **ret_text, GError **error)
{
    const char *text = json_string_value(value);

    if (value != NULL && text == NULL)
        return error_set(error, ERR_CORRUPT, "%s: '%s' is not text", shape->what, m->name);
    if (m->kind != MEMBER_TEXT && (text == NULL || *text == '\0'))
        return error_set(error, ERR_CORRUPT, "%s: '%s' is missing", shape->what, m->name);
    if (m->kind == MEMBER_FORMAT && !g_str_equal(text, "qcow2") && !g_str_equal(text, "raw"))
        return error_set(error, ERR_CORRUPT, "%s: '%s' is '%s', neither qcow2 nor raw", shape->what,
                         m->name, text);
    *ret_text = g_strdup(text);
    return true;
}

static bool
read_number(const Shape *shape, const Member *m, const json_t *value, void *object, GError **error)
{
    json_int_t low = m->kind == MEMBER_NUMBER ? INT64_MIN : 0;
    json_int_t high = m->kind == MEMBER_COUNT ? (json_int_t)UINT_MAX : INT64_MAX;
    json_int_t number = json_integer_value(value);

    if (value != NULL && (!json_is_integer(value) || number < low || number > high))
        return error_set(error, ERR_CORRUPT, "%s: '%s' is not a number that makes sense",
                         shape->what, m->name);
    if (m->kind == MEMBER_SIZE)
        *AT(uint64_t, object, m) = (uint64_t)number;
    else if (m->kind == MEMBER_NUMBER)
        *AT(int64_t, object, m) = number;
    else
        *AT(unsigned, object, m) = (unsigned)number;
    return true;
}

static bool
read_state(const Shape *shape, const json_t *value, VmState *ret_state, GError **error)
{
    const char *word = json_string_value(value);
    VmState state = vm_state_from_word(word);

    if (value != NULL && g_strcmp0(vm_state_word(state), word) != 0)
        return error_set(error, ERR_CORRUPT, "%s: unknown state '%s'", shape->what,
                         word != NULL ? word : "(not text)");
    *ret_state = state;
    return true;
}

static bool
read_list(const Shape *shape, const Member *m, const json_t *value, GPtrArray *list, GError **error)
{
    if (value != NULL && !json_is_array(value))
        return error_set(error, ERR_CORRUPT, "%s: '%s' is not a list", shape->what, m->name);
    for (size_t i = 0; i < json_array_size(value); i++) {
        void *item = shape_from_json(m->of, json_array_get(value, i), error);
        if (item == NULL)
            return false;
        g_ptr_array_add(list, item);
    }
    return true;
}

static bool
read_member(const Shape *shape, const Member *m, const json_t *value, void *object, GError **error)
{
    switch (m->kind) {
    case MEMBER_TEXT:
    case MEMBER_NEEDED:
    case MEMBER_FORMAT:
        return read_text(shape, m, value, AT(char *, object, m), error);
    case MEMBER_SIZE:
    case MEMBER_NUMBER:
    case MEMBER_COUNT:
        return read_number(shape, m, value, object, error);
    case MEMBER_FLAG:
    case MEMBER_MARK:
        if (value != NULL && !json_is_boolean(value))
            return error_set(error, ERR_CORRUPT, "%s: '%s' is neither true nor false", shape->what,
                             m->name);
        *AT(bool, object, m) = json_is_true(value);
        return true;
    case MEMBER_STATE:
        return read_state(shape, value, AT(VmState, object, m), error);
    case MEMBER_LIST:
        return read_list(shape, m, value, *AT(GPtrArray *, object, m), error);
    case MEMBER_OBJECT:
        if (value != NULL)
            *AT(void *, object, m) = shape_from_json(m->of, value, error);
        return value == NULL || *AT(void *, object, m) != NULL;
    }
    g_assert_not_reached();
}

void *
shape_from_json(const Shape *shape, const json_t *json, GError **error)
{
    void *object;

    if (!json_is_object(json)) {
        error_set(error, ERR_CORRUPT, "%s: is not a JSON object", shape->what);
        return NULL;
    }
    object = shape_new(shape);
    for (const Member *m = shape->members; m->name != NULL; m++)
        if (!read_member(shape, m, json_object_get(json, m->name), object, error)) {
            shape_free(shape, object);
            return NULL;
        }
    return object;
}

json_t *
vm_to_json(const Vm *vm)
{
    return shape_to_json(&vm_shape, SHAPE_WHOLE, vm);
}

json_t *
vm_to_stored_json(const Vm *vm)
{
    return shape_to_json(&vm_shape, SHAPE_STORED, vm);
}

/* One that has a disk is not of the configuration alone, whoever wrote that: it would be taken for
 * sound once all of it was merged away. */
static void
judge_marks(Vm *vm)
{
    for (guint i = 0; i < vm->snapshots->len; i++) {
        Snapshot *snapshot = vm->snapshots->pdata[i];
        snapshot->config_only = snapshot_is_config_only(snapshot);
    }
}

Vm *
vm_from_json(const json_t *json, GError **error)
{
    Vm *vm = shape_from_json(&vm_shape, json, error);

    if (vm != NULL)
        judge_marks(vm);
    return vm;
}
