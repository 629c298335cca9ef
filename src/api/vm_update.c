/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * PUT vms/V: a VM's name, description and comment. oVirt's clients send whole objects back, so what
 * they send of the rest must be what GET tells; what oVirt lets one change and we do not is refused
 * by name. What changes by itself (status, sizes) and what nobody knows is not looked at.
 */
#include "api/media.h"
#include "api/routes.h"

#include <string.h>

/* ---- what cannot be changed here ---- */

/* oVirt's, and with which a client would otherwise believe to have changed something. */
static const char *const fixed[] = {
    "id",
    "auto_pinning_policy",
    "bios",
    "cluster",
    "console",
    "cpu",
    "cpu_pinning_policy",
    "cpu_profile",
    "cpu_shares",
    "custom_compatibility_version",
    "custom_cpu_model",
    "custom_emulated_machine",
    "custom_properties",
    "delete_protected",
    "domain",
    "high_availability",
    "initialization",
    "instance_type",
    "io",
    "large_icon",
    "lease",
    "memory",
    "memory_policy",
    "migration",
    "migration_downtime",
    "multi_queues_enabled",
    "numa_tune_mode",
    "os",
    "placement_policy",
    "quota",
    "rng_device",
    "serial_number",
    "small_icon",
    "soundcard_enabled",
    "sso",
    "start_paused",
    "stateless",
    "storage_error_resume_behaviour",
    "template",
    "time_zone",
    "tpm_enabled",
    "tunnel_migration",
    "type",
    "usb",
    "use_latest_template_version",
    "virtio_scsi",
    "virtio_scsi_multi_queues",
};

static char *
scalar_text(const json_t *value)
{
    if (json_is_string(value))
        return g_strdup(json_string_value(value));
    if (json_is_boolean(value))
        return g_strdup(json_is_true(value) ? "true" : "false");
    return json_dumps(value, JSON_ENCODE_ANY);
}

/* Says "sent" nothing that "now" does not? In XML all scalars are texts, and a list of one may be
 * an object. */
static bool
agrees(const json_t *sent, const json_t *now)
{
    const char *key;
    json_t *value;
    size_t i;

    if (json_is_object(sent)) {
        json_object_foreach ((json_t *)sent, key, value)
            if (!g_str_equal(key, "href") && !agrees(value, json_object_get(now, key)))
                return false;
        return true;
    }
    if (json_is_array(sent)) {
        json_array_foreach (sent, i, value)
            if (!agrees(value, json_array_get(now, i)))
                return false;
        return true;
    }
    if (json_is_array(now) && json_array_size(now) == 1)
        now = json_array_get(now, 0);
    if (json_is_null(sent) || now == NULL)
        return json_is_null(sent);
    g_autofree char *a = scalar_text(sent), *b = scalar_text(now);
    return g_strcmp0(a, b) == 0;
}

static bool
check_fixed(const Call *call, Reply *reply, const json_t *now, const char *name, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++) {
        const json_t *sent = json_object_get(call->body, fixed[i]);
        if (sent == NULL || agrees(sent, json_object_get(now, fixed[i])))
            continue;
        reply->reason = "Broken immutability constraint";
        return error_set(error, ERR_REFUSED,
                         "%s cannot be changed here, only name, description and comment; nothing "
                         "was changed. With libvirt: virsh edit %s",
                         fixed[i], name);
    }
    return true;
}

/* ---- what can ---- */

typedef struct {
    char *name, *description, *comment; /* NULL = as it is */
} Texts;

static void
texts_clear(Texts *texts)
{
    g_free(texts->name);
    g_free(texts->description);
    g_free(texts->comment);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Texts, texts_clear)

/* An empty element, or a null, takes a text away: it is there, and says nothing. */
static bool
read_text(const json_t *body, const char *key, const char *now, char **ret_text, GError **error)
{
    g_autofree char *text = NULL;

    if (!body_text(body, key, &text, error))
        return false;
    if (text == NULL && json_object_get(body, key) != NULL)
        text = g_strdup("");
    if (g_strcmp0(text, now != NULL ? now : "") != 0)
        *ret_text = g_steal_pointer(&text);
    return true;
}

static bool
read_texts(const json_t *body, const Vm *vm, Texts *texts, GError **error)
{
    return read_text(body, "name", vm->name, &texts->name, error) &&
           read_text(body, "description", vm->description, &texts->description, error) &&
           read_text(body, "comment", vm->comment, &texts->comment, error);
}

static bool
begin(const Call *call, Reply *reply, const Vm *vm, const Texts *texts, GError **error)
{
    const VmUpdate what = { .vm_id = vm->id,
                            .name = texts->name,
                            .description = texts->description,
                            .comment = texts->comment,
                            .correlation_id = call->correlation_id,
                            .user = call->user };
    bool same = texts->name == NULL && texts->description == NULL && texts->comment == NULL;

    if (same)
        return true;
    reply->job_id = manager_vm_update(call->manager, &what, error);
    reply->waits = true;
    return reply->job_id != NULL;
}

bool
change_vm(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);
    g_autofree char *path = vm != NULL ? g_strdup_printf("/vms/%s", vm->id) : NULL;
    g_auto(Texts) texts = { 0 };
    const char *root;

    if (vm == NULL || !api_read(call, path, &root, &reply->body, error))
        return false;
    call->in_body = true;
    return read_texts(call->body, vm, &texts, error) &&
           check_fixed(call, reply, reply->body, vm->name, error) &&
           begin(call, reply, vm, &texts, error);
}
