/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A VM's name, description and comment: one operation of the agent.
 *
 * params: name, description, comment (absent = as it is), host, vm_name, user.
 */
#include "flow/agent_call.h"

#include "base/text.h"

#include <string.h>

#define MOST_TEXT 4096

static const char *const texts[] = { "name", "description", "comment" };

/* ---- steps ---- */

static json_t *
body_of(const Flow *flow)
{
    json_t *body = json_pack("{s:s}", "kind", "vm-update");

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
        json_put_text(body, texts[i], flow_param(flow, texts[i]));
    return body;
}

static bool
is_so(const char *wanted, const char *now)
{
    return wanted == NULL || g_str_equal(wanted, now != NULL ? now : "");
}

/* The agent lost its journal: the VM says what it is called. */
static StepState
look_at_texts(Flow *flow, GError **error)
{
    g_autoptr(Vm) vm = flow_look_at_vm(flow, error);

    if (vm == NULL || vm->state == VM_UNKNOWN)
        return STEP_UNKNOWN;
    if (is_so(flow_param(flow, "name"), vm->name) &&
        is_so(flow_param(flow, "description"), vm->description) &&
        is_so(flow_param(flow, "comment"), vm->comment))
        return STEP_DONE;
    error_set(error, ERR_GONE,
              "the agent of VM '%s' lost its journal, and not all was changed; try again",
              vm->name);
    return STEP_FAILED;
}

const OneCall update_vm_call = { "update", body_of, look_at_texts };

/* ---- the way in ---- */

static bool
check_text(const char *what, const char *text, GError **error)
{
    if (text == NULL)
        return true;
    if (strlen(text) > MOST_TEXT)
        return error_set(error, ERR_INVALID, "%s has %zu bytes; at most %d are allowed", what,
                         strlen(text), MOST_TEXT);
    for (const char *p = text; *p != '\0'; p++)
        if (g_ascii_iscntrl(*p) && *p != '\n' && *p != '\t')
            return error_set(error, ERR_INVALID, "%s contains a control character (byte %td)", what,
                             p - text + 1);
    return true;
}

static bool
check_texts(Manager *m, const VmUpdate *what, const Vm *vm, GError **error)
{
    if (!check_text("description", what->description, error) ||
        !check_text("comment", what->comment, error))
        return false;
    if (what->comment != NULL && strchr(what->comment, '\n') != NULL)
        return error_set(error, ERR_INVALID, "comment has more than one line");
    return is_so(what->name, vm->name) || door_check_vm_name(m, what->name, error);
}

static char *
begin(Manager *m, const void *what_, const Vm *vm, GError **error)
{
    const VmUpdate *what = what_;
    bool renames = !is_so(what->name, vm->name);
    json_t *params;

    if (!check_texts(m, what, vm, error) ||
        !manager_allowed(m, renames ? VERB_VM_RENAME : VERB_VM_UPDATE, vm, NULL, error))
        return NULL;
    params = door_params(vm, what->user);
    json_put_text(params, "name", renames ? what->name : NULL);
    json_put_text(params, "description", what->description);
    json_put_text(params, "comment", what->comment);
    return door_begin(m, flow_row_new("update-vm", vm->id, NULL, params), what->correlation_id,
                      renames ? g_strdup_printf("Renaming VM '%s' to '%s'", vm->name, what->name)
                              : g_strdup_printf("Changing the description of VM '%s'", vm->name),
                      error);
}

char *
manager_vm_update(Manager *m, const VmUpdate *what, GError **error)
{
    const DoorDeed deed = {
        "update-vm", what->vm_id, what->correlation_id, what->user, begin, what
    };

    return door_pass(m, &deed, error);
}
