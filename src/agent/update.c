/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What people call a VM: its name, its description, its comment, which libvirt calls a title.
 *
 *   change ─► (end)
 *
 * params: name, description, comment; what is absent stays, and "" is none.
 */
#include "agent/operation.h"

#include "base/text.h"
#include "model/verbs.h"

bool
vm_update_params(const json_t *params, GError **error)
{
    const char *name = json_text(params, "name");

    return name == NULL || name_check("the VM's name", name, error);
}

/* Is the text as it is wanted? */
static bool
is_so(const Operation *op, const char *key, const char *now)
{
    const char *wanted = op_text(op, key);

    return wanted == NULL || g_str_equal(wanted, now != NULL ? now : "");
}

/* ---- the name in the manifest: whoever must take over knows it by that, too ---- */

/* Its manifest, if there is anything to note in it. *ret_none: there is not. */
static Vm *
manifest_to_name(Operation *op, const HvDomain *hv, Domain **ret_home, bool *ret_none,
                 GError **error)
{
    const char *name = op_text(op, "name");
    g_autoptr(Vm) vm = NULL;
    bool home = false;

    *ret_none = false;
    if (name != NULL && !op_has_home(op, hv, &home, error))
        return NULL;
    *ret_none = !home;
    if (*ret_none || (vm = op_manifest(op, ret_home, error)) == NULL)
        return NULL;
    *ret_none = g_strcmp0(vm->name, name) == 0;
    return *ret_none ? NULL : g_steal_pointer(&vm);
}

static bool
note_name(Operation *op, const HvDomain *hv, GError **error)
{
    Domain *home = NULL;
    bool none = false;
    g_autoptr(Vm) vm = manifest_to_name(op, hv, &home, &none, error);

    if (vm == NULL)
        return none;
    text_replace(&vm->name, op_text(op, "name"));
    return manifest_save(home, vm, error);
}

static StepState
change_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_connected(op, error) ? op_hv(op, error) : NULL;
    Domain *home = NULL;
    bool none = false;
    g_autoptr(Vm) vm = NULL;

    if (hv == NULL)
        return STEP_UNKNOWN;
    if (!is_so(op, "name", hv->name) || !is_so(op, "description", hv->description) ||
        !is_so(op, "comment", hv->title))
        return STEP_TODO;
    vm = manifest_to_name(op, hv, &home, &none, error);
    return none ? STEP_DONE : vm != NULL ? STEP_TODO : STEP_UNKNOWN;
}

static const char *
text_or(const Operation *op, const char *key, const char *now)
{
    const char *wanted = op_text(op, key);

    return wanted != NULL ? wanted : now != NULL ? now : "";
}

static bool
rename_it(Operation *op, const HvDomain *hv, GError **error)
{
    Hypervisor *libvirt = op->agent->hv;

    return is_so(op, "name", hv->name) ||
           (libvirt->ops->rename != NULL
                ? libvirt->ops->rename(libvirt, op->row.vm_id, op_text(op, "name"), error)
                : error_set(error, ERR_UNSUPPORTED, "VMs keep their names here"));
}

static bool
describe(Operation *op, const HvDomain *hv, GError **error)
{
    Hypervisor *libvirt = op->agent->hv;

    if (is_so(op, "description", hv->description) && is_so(op, "comment", hv->title))
        return true;
    if (libvirt->ops->describe == NULL)
        return error_set(error, ERR_UNSUPPORTED, "VMs cannot be described here");
    return libvirt->ops->describe(libvirt, op->row.vm_id,
                                  text_or(op, "description", hv->description),
                                  text_or(op, "comment", hv->title), error);
}

static bool
change_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_connected(op, error) ? op_hv(op, error) : NULL;
    g_autoptr(Vm) vm = hv != NULL ? agent_vm_shown(op->agent, op->row.vm_id) : NULL;

    if (vm == NULL)
        return hv != NULL && error_set(error, ERR_NOT_FOUND, "VM %s is gone", op->row.vm_id);
    return op_allowed(op, is_so(op, "name", hv->name) ? VERB_VM_UPDATE : VERB_VM_RENAME, hv, vm,
                      error) &&
           rename_it(op, hv, error) && describe(op, hv, error) && note_name(op, hv, error) &&
           agent_look(op->agent, op->entry, error);
}

static StepState
failed_check(void *self, GError **error)
{
    return STEP_DONE;
}

/* clang-format off */
const Step vm_update_steps[] = {
    /* name     check          act         tries  cancel  if it failed  next     */
    { "change", change_check,  change_act, 3,     true,   "failed",     STEP_END },
    { "failed", failed_check,  NULL,       0,     false,  NULL,         STEP_END },
    { NULL },
};
/* clang-format on */
