/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Actions on a VM's power, and on its guest's file systems.
 */
#include "api/media.h"
#include "api/routes.h"

/* What oVirt can do beside a plain start. Who asks for it and gets a plain one is misled. */
static bool
refuse_extras(const json_t *body, GError **error)
{
    static const char *const flags[] = { "use_cloud_init", "use_sysprep", "use_ignition",
                                         "use_initialization", "volatile" };

    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
        bool wanted = false;
        if (!body_flag(body, flags[i], &wanted, error))
            return false;
        if (wanted)
            return error_set(error, ERR_INVALID, "%s is not supported", flags[i]);
    }
    if (json_object_size(json_object_get(body, "vm")) > 0)
        return error_set(error, ERR_INVALID,
                         "vm: a VM cannot be run once with another configuration than its own");
    return true;
}

/* oVirt reads force as "even during a backup"; here nothing depends on it. */
static bool
check_common(const json_t *body, GError **error)
{
    g_autofree char *reason = NULL;
    bool force = false;

    return body_flag(body, "force", &force, error) && body_text(body, "reason", &reason, error);
}

static bool
act(Call *call, Reply *reply, Verb verb, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);
    VmPower what = { .verb = verb, .correlation_id = call->correlation_id, .user = call->user };
    g_autofree char *job_id = NULL;

    if (vm == NULL)
        return false;
    call->in_body = true;
    if (!check_common(call->body, error) || !body_flag(call->body, "pause", &what.paused, error) ||
        (verb == VERB_VM_START && !refuse_extras(call->body, error)))
        return false;
    what.paused = what.paused && verb == VERB_VM_START;
    what.vm_id = vm->id;
    job_id = manager_vm_power(call->manager, &what, error);
    if (job_id == NULL)
        return false;
    reply_job(reply, job_id);
    return true;
}

/* Who asks for these needs to know when it is so. */
static bool
act_and_wait(Call *call, Reply *reply, Verb verb, GError **error)
{
    reply->waits = true;
    return act(call, reply, verb, error);
}

bool
post_vm_start(Call *call, Reply *reply, GError **error)
{
    return act(call, reply, VERB_VM_START, error);
}

bool
post_vm_stop(Call *call, Reply *reply, GError **error)
{
    return act(call, reply, VERB_VM_STOP, error);
}

bool
post_vm_shutdown(Call *call, Reply *reply, GError **error)
{
    return act(call, reply, VERB_VM_SHUTDOWN, error);
}

bool
post_vm_reboot(Call *call, Reply *reply, GError **error)
{
    return act(call, reply, VERB_VM_REBOOT, error);
}

bool
post_vm_reset(Call *call, Reply *reply, GError **error)
{
    return act(call, reply, VERB_VM_RESET, error);
}

bool
post_vm_suspend(Call *call, Reply *reply, GError **error)
{
    return act(call, reply, VERB_VM_SUSPEND, error);
}

bool
post_vm_freeze(Call *call, Reply *reply, GError **error)
{
    return act_and_wait(call, reply, VERB_VM_FREEZE, error);
}

bool
post_vm_thaw(Call *call, Reply *reply, GError **error)
{
    return act_and_wait(call, reply, VERB_VM_THAW, error);
}
