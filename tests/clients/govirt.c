/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A client with Debian's libgovirt, as virt-viewer is one: finds the VM, starts it, asks for a
 * ticket of its display, stops it. Whatever GLib warns of ends it.
 *
 *     govirt HOST:PORT VM          LM_USER and LM_PASSWORD, or LM_TOKEN, if the manager wants to
 * know
 */
#include <govirt/govirt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
must(gboolean good, GError *error, const char *doing)
{
    if (good && error == NULL)
        return;
    fprintf(stderr, "%s: %s\n", doing, error != NULL ? error->message : "it failed");
    exit(1);
}

/* The test's manager speaks plain HTTP on purpose. */
static void
on_log(const char *domain, GLogLevelFlags level, const char *message, gpointer data)
{
    const GLogLevelFlags bad = G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING;

    if ((level & bad) == 0 || strstr(message, "plain text HTTP") != NULL)
        return;
    fprintf(stderr, "%s warns: %s\n", domain, message);
    exit(3);
}

static OvirtResource *
find(OvirtProxy *proxy, const char *name)
{
    GError *error = NULL;
    OvirtApi *api = ovirt_proxy_fetch_api(proxy, &error);

    must(api != NULL, error, "the API");
    OvirtCollection *vms = ovirt_api_get_vms(api);
    must(ovirt_collection_fetch(vms, proxy, &error), error, "the VMs");
    OvirtResource *vm = ovirt_collection_lookup_resource(vms, name);
    if (vm != NULL)
        return vm;
    fprintf(stderr, "there is no VM %s\n", name);
    exit(1);
}

static void
say_state(OvirtProxy *proxy, OvirtResource *vm)
{
    GError *error = NULL;
    OvirtVmState state;

    must(ovirt_resource_refresh(vm, proxy, &error), error, "the VM again");
    g_object_get(vm, "state", &state, NULL);
    GEnumClass *words = g_type_class_ref(OVIRT_TYPE_VM_STATE);
    printf("state %s\n", g_enum_get_value(words, (gint)state)->value_nick);
    g_type_class_unref(words);
}

static void
say_display(OvirtResource *vm)
{
    OvirtVmDisplay *display = NULL;
    char *address = NULL, *ticket = NULL;
    guint port = 0, expiry = 0;

    g_object_get(vm, "display", &display, NULL);
    g_object_get(display, "address", &address, "port", &port, "ticket", &ticket, "expiry", &expiry,
                 NULL);
    printf("display %s %u %s %u\n", address, port, ticket, expiry);
    g_free(address);
    g_free(ticket);
    g_object_unref(display);
}

int
main(int argc, char **argv)
{
    GError *error = NULL;

    if (argc != 3)
        return 2;
    g_log_set_default_handler(on_log, NULL);
    OvirtProxy *proxy = ovirt_proxy_new(argv[1]);
    if (getenv("LM_TOKEN") != NULL)
        g_object_set(proxy, "sso-token", getenv("LM_TOKEN"), NULL);
    if (getenv("LM_USER") != NULL) /* sent after the server's challenge only */
        g_object_set(proxy, "username", getenv("LM_USER"), "password", getenv("LM_PASSWORD"), NULL);
    OvirtResource *vm = find(proxy, argv[2]);
    say_state(proxy, vm);
    must(ovirt_vm_start(OVIRT_VM(vm), proxy, &error), error, "start");
    say_state(proxy, vm);
    must(ovirt_vm_get_ticket(OVIRT_VM(vm), proxy, &error), error, "ticket");
    say_display(vm);
    must(ovirt_vm_stop(OVIRT_VM(vm), proxy, &error), error, "stop");
    say_state(proxy, vm);
    g_object_unref(proxy);
    return 0;
}
