/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Events that other programs report.
 */
#include "api/media.h"
#include "api/routes.h"

#include "base/text.h"

#include <string.h>

#define MOST_TEXT 1000

static const struct {
    const char *severity;
    int code; /* oVirt's EXTERNAL_EVENT_... */
} severities[] = { { "normal", 9801 }, { "warning", 9802 }, { "error", 9803 }, { "alert", 9804 } };

static bool
required(const Call *call, Reply *reply, const char *key, char **ret_text, GError **error)
{
    if (!body_text(call->body, key, ret_text, error))
        return false;
    if (*ret_text == NULL || **ret_text == '\0') {
        reply->reason = "Incomplete parameters";
        return error_set(error, ERR_INVALID, "Event [%s] required for add", key);
    }
    if (strlen(*ret_text) > MOST_TEXT)
        return error_set(error, ERR_INVALID, "%s has more than %d bytes", key, MOST_TEXT);
    return true;
}

static bool
code_of(const char *severity, int *ret_code, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(severities); i++) {
        if (!g_str_equal(severities[i].severity, severity))
            continue;
        *ret_code = severities[i].code;
        return true;
    }
    return error_set(error, ERR_INVALID, "severity is normal, warning, error or alert, not '%.40s'",
                     severity);
}

static bool
find_vm(Call *call, char **ret_vm_id, GError **error)
{
    const json_t *ref = json_object_get(call->body, "vm");
    g_autofree char *id = NULL;

    if (ref == NULL)
        return true;
    if (json_is_object(ref) && !body_text(ref, "id", &id, error))
        return false;
    if (id == NULL)
        return error_set(error, ERR_INVALID, "vm must have an id");
    g_autoptr(Vm) vm = manager_vm(call->manager, id, error);
    *ret_vm_id = vm != NULL ? g_strdup(vm->id) : NULL;
    return vm != NULL;
}

bool
post_event(Call *call, Reply *reply, GError **error)
{
    g_autofree char *text = NULL, *origin = NULL, *severity = NULL, *custom_id = NULL,
                    *vm_id = NULL;
    gint64 number;
    int64_t id = 0;
    int code = 0;

    call->in_body = true;
    if (!required(call, reply, "description", &text, error) ||
        !required(call, reply, "origin", &origin, error) ||
        !required(call, reply, "severity", &severity, error) ||
        !required(call, reply, "custom_id", &custom_id, error) ||
        !code_of(severity, &code, error) || !find_vm(call, &vm_id, error))
        return false;
    if (!g_ascii_string_to_signed(custom_id, 10, G_MININT32, G_MAXINT32, &number, NULL))
        return error_set(error, ERR_INVALID, "custom_id is a whole number, not '%.40s'", custom_id);
    g_autofree char *about = g_strdup_printf("%" G_GINT64_FORMAT " %s", number, origin);
    if (!manager_event_report(call->manager, code, severity, vm_id, about, call->correlation_id,
                              call->user, text, &id, error))
        return false;
    g_autofree char *path = g_strdup_printf("/events/%" G_GINT64_FORMAT, (gint64)id);
    const char *root;
    reply->status = 201;
    return api_read(call, path, &root, &reply->body, error);
}
