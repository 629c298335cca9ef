/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The display of a VM: where it is, and tickets for it.
 */
#include "api/media.h"
#include "api/routes.h"

#include <string.h>
#include <unistd.h>

#define DEFAULT_EXPIRY_S 120
#define LONGEST_EXPIRY_S (7 * 24 * 3600)
#define VNC_MOST 8 /* bytes that its protocol compares */
#define SPICE_MOST 60

/* ---- documents ---- */

void
display_put(json_t *doc, const Vm *vm)
{
    if (vm->display_port == 0 && vm->display_tls_port == 0)
        return;
    doc_text(doc, "address", vm->display_address);
    if (vm->display_port != 0)
        doc_number(doc, "port", vm->display_port);
    if (vm->display_tls_port != 0)
        doc_number(doc, "secure_port", vm->display_tls_port);
}

/* The hexadecimal form of its name, as oVirt has it. */
static char *
console_id(const char *protocol)
{
    GString *id = g_string_new(NULL);

    for (const char *p = protocol; *p != '\0'; p++)
        g_string_append_printf(id, "%02x", (unsigned char)*p);
    return g_string_free(id, FALSE);
}

static json_t *
console_document(const Vm *vm)
{
    g_autofree char *id = console_id(vm->graphics);
    json_t *doc = doc_new(id, "/vms/%s/graphicsconsoles/%s", vm->id, id);

    doc_action(doc, "ticket", "/vms/%s/graphicsconsoles/%s/ticket", vm->id, id);
    doc_action(doc, "remoteviewerconnectionfile",
               "/vms/%s/graphicsconsoles/%s/remoteviewerconnectionfile", vm->id, id);
    doc_text(doc, "protocol", vm->graphics);
    if (vm->display_port != 0 || vm->display_tls_port != 0)
        doc_text(doc, "address", vm->display_address);
    if (vm->display_port != 0)
        doc_number(doc, "port", vm->display_port);
    if (vm->display_tls_port != 0)
        doc_number(doc, "tls_port", vm->display_tls_port);
    doc_ref(doc, "vm", vm->id, "/vms/%s", vm->id);
    return doc;
}

bool
get_consoles(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);
    json_t *list;

    if (vm == NULL)
        return false;
    list = json_array();
    if (vm->graphics != NULL)
        json_array_append_new(list, console_document(vm));
    return reply_part(call, reply, "graphics_console", list, error);
}

/* The VM that has this console. */
static Vm *
vm_of_console(const Call *call, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);

    if (vm == NULL)
        return NULL;
    g_autofree char *id = vm->graphics != NULL ? console_id(vm->graphics) : NULL;
    if (g_strcmp0(id, call->sub_id) == 0)
        return g_steal_pointer(&vm);
    error_set(error, ERR_NOT_FOUND, "VM '%s' has no graphics console '%s'", vm->name, call->sub_id);
    return NULL;
}

bool
get_console(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = vm_of_console(call, error);

    if (vm == NULL)
        return false;
    reply->body = console_document(vm);
    return true;
}

/* ---- tickets ---- */

static char *
new_password(void)
{
    static const char letters[] = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    unsigned char random[VNC_MOST];
    char *password = g_malloc0(VNC_MOST + 1);

    if (getentropy(random, sizeof random) != 0)
        g_error("the kernel gives no random numbers");
    for (size_t i = 0; i < sizeof random; i++)
        password[i] = letters[random[i] % (sizeof letters - 1)];
    return password;
}

static bool
read_expiry(const json_t *ticket, unsigned *ret_seconds, GError **error)
{
    g_autofree char *text = NULL;
    gint64 seconds = DEFAULT_EXPIRY_S;

    if (!body_text(ticket, "expiry", &text, error))
        return false;
    if (text != NULL && !g_ascii_string_to_signed(text, 10, 1, LONGEST_EXPIRY_S, &seconds, NULL))
        return error_set(error, ERR_INVALID, "expiry is in seconds, from 1 to %d, not '%.40s'",
                         LONGEST_EXPIRY_S, text);
    *ret_seconds = (unsigned)seconds;
    return true;
}

static bool
read_ticket(const Vm *vm, const json_t *body, char **ret_value, unsigned *ret_seconds,
            GError **error)
{
    const json_t *ticket = json_object_get(body, "ticket");
    size_t most = g_strcmp0(vm->graphics, "spice") == 0 ? SPICE_MOST : VNC_MOST;

    if (!json_is_object(ticket))
        ticket = NULL;
    if (!read_expiry(ticket, ret_seconds, error) || !body_text(ticket, "value", ret_value, error))
        return false;
    if (*ret_value == NULL || **ret_value == '\0') {
        g_free(*ret_value);
        *ret_value = new_password();
    }
    return strlen(*ret_value) <= most ||
           error_set(error, ERR_INVALID, "value: a ticket for %s has at most %zu characters",
                     vm->graphics, most);
}

static bool
set_ticket(Call *call, const Vm *vm, char **ret_value, unsigned *ret_seconds, GError **error)
{
    call->in_body = true;
    if (vm->graphics == NULL)
        return error_set(error, ERR_REFUSED, "VM '%s' has no display", vm->name);
    if (vm->instance == NULL && vm->state != VM_UNKNOWN)
        return error_set(error, ERR_REFUSED, "VM '%s' does not run, so its display is off",
                         vm->name);
    return read_ticket(vm, call->body, ret_value, ret_seconds, error) &&
           manager_vm_ticket(call->manager, vm->id, *ret_value, *ret_seconds, call->correlation_id,
                             call->user, error);
}

static bool
reply_ticket(Call *call, Reply *reply, const Vm *vm, GError **error)
{
    g_autofree char *value = NULL;
    unsigned seconds = 0;

    if (!set_ticket(call, vm, &value, &seconds, error))
        return false;
    reply->body = json_pack("{s:s, s:{s:s, s:i}}", "status", "complete", "ticket", "value", value,
                            "expiry", (int)seconds);
    return true;
}

bool
post_vm_ticket(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);

    return vm != NULL && reply_ticket(call, reply, vm, error);
}

bool
post_console_ticket(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = vm_of_console(call, error);

    return vm != NULL && reply_ticket(call, reply, vm, error);
}

/* What remote-viewer opens. */
static char *
viewer_file(const Vm *vm, const char *password)
{
    GString *file = g_string_new("[virt-viewer]\n");

    g_string_append_printf(file, "type=%s\n", vm->graphics);
    g_string_append_printf(file, "host=%s\n",
                           vm->display_address != NULL ? vm->display_address : "localhost");
    if (vm->display_port != 0)
        g_string_append_printf(file, "port=%u\n", vm->display_port);
    if (vm->display_tls_port != 0)
        g_string_append_printf(file, "tls-port=%u\n", vm->display_tls_port);
    g_string_append_printf(file, "password=%s\ndelete-this-file=1\nfullscreen=0\ntitle=%s:%%d\n",
                           password, vm->name);
    return g_string_free(file, FALSE);
}

bool
post_viewer_file(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = vm_of_console(call, error);
    g_autofree char *value = NULL;
    unsigned seconds = 0;

    if (vm == NULL || !set_ticket(call, vm, &value, &seconds, error))
        return false;
    g_autofree char *file = viewer_file(vm, value);
    reply->body =
        json_pack("{s:s, s:s}", "status", "complete", "remote_viewer_connection_file", file);
    return true;
}
