/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Definitions: what that of the VM says, and VMs that are defined and undefined. Beside the VM that
 * runs there is at most one more, which is off: a clone, or one that stands on the same base.
 */
#include "libvirt.h"

#include <string.h>

/* ---- the definition of the VM ---- */

bool
libvirt_names_leaf(const SimDisk *disk)
{
    return strcmp(disk->defined, disk->live.source) == 0;
}

void
libvirt_define(SimDisk *disk, const char *source, GPtrArray *backing)
{
    if (backing == NULL && strcmp(disk->defined, source) == 0 && disk->defined_backing == NULL)
        return;
    if (fiber_now_us() - disk->defined_us > 5 * G_TIME_SPAN_SECOND)
        g_strlcpy(disk->defined_durable, disk->defined, sizeof disk->defined_durable);
    disk->defined_us = fiber_now_us();
    g_strlcpy(disk->defined, source, sizeof disk->defined);
    if (disk->defined_backing != NULL)
        g_ptr_array_unref(disk->defined_backing);
    disk->defined_backing = backing;
    stranger_defined(disk);
    world_trace("the definition of %s names %s", disk->target, source);
}

static void
define_config(unsigned config)
{
    if (config == vm.config)
        return;
    if (fiber_now_us() - vm.config_us > 5 * G_TIME_SPAN_SECOND)
        vm.config_durable = vm.config;
    vm.config_us = fiber_now_us();
    vm.config = config;
    world_trace("the VM is configured as %u", config);
}

static bool
do_redefine(Call *call, GError **error)
{
    fiber_point("libvirt is about to redefine");
    if (!vm.there)
        return error_set(error, ERR_NOT_FOUND, "no domain %s", vm.id);
    for (unsigned i = 0; i < call->n; i++)
        libvirt_define(qemu_disk(call->targets[i]), call->sources[i], NULL);
    for (unsigned i = 0; i < vm.n_disks; i++)
        libvirt_define(&vm.disks[i], vm.disks[i].defined, NULL);
    if (call->config != NULL)
        define_config((unsigned)g_ascii_strtoull(call->config + strlen("<domain>"), NULL, 10));
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
    return true;
}

void
libvirt_name_disks(Call *call, const char *const *targets, const char *const *sources, unsigned n)
{
    char **t = g_new0(char *, n + 1), **s = g_new0(char *, n + 1);

    for (unsigned i = 0; i < n; i++) {
        t[i] = g_strdup(targets[i]);
        s[i] = g_strdup(sources[i]);
    }
    call->targets = (const char *const *)t;
    call->sources = (const char *const *)s;
    call->n = n;
}

bool
libvirt_op_reconfigure(Hypervisor *hv, const char *vm_id, const char *config,
                       const char *const *targets, const char *const *sources,
                       const char *const *formats, unsigned n, GError **error)
{
    Call call = { .func = do_redefine, .config = g_strdup(config) };

    (void)formats;
    if (libvirt_is_other(vm_id)) /* its definition is right */
        return true;
    libvirt_name_disks(&call, targets, sources, n);
    return libvirt_do((Client *)hv, config != NULL ? "reconfigure" : "redefine", &call, error);
}

bool
libvirt_op_redefine(Hypervisor *hv, const char *vm_id, const char *const *targets,
                    const char *const *sources, const char *const *formats, unsigned n,
                    GError **error)
{
    return libvirt_op_reconfigure(hv, vm_id, NULL, targets, sources, formats, n, error);
}

/* ---- what people say of the VM ---- */

static void
define_texts(VmTexts texts)
{
    if (memcmp(&texts, &vm.texts, sizeof texts) == 0)
        return;
    if (fiber_now_us() - vm.texts_us > 5 * G_TIME_SPAN_SECOND)
        vm.texts_durable = vm.texts;
    vm.texts_us = fiber_now_us();
    vm.texts = texts;
    world_trace("the VM is called '%s', described as '%s'", texts.name, texts.description);
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
}

static bool
do_rename(Call *call, GError **error)
{
    VmTexts texts = vm.texts;

    fiber_point("libvirt is about to rename");
    if (!vm.there)
        return error_set(error, ERR_NOT_FOUND, "no domain %s", vm.id);
    if (libvirt_sees_vm() || vm.starting)
        return error_set(error, ERR_HYPERVISOR, "cannot rename active domain");
    memset(texts.name, 0, sizeof texts.name);
    g_strlcpy(texts.name, call->base, sizeof texts.name);
    define_texts(texts);
    return true;
}

bool
libvirt_op_rename(Hypervisor *hv, const char *vm_id, const char *name, GError **error)
{
    (void)vm_id;
    return libvirt_do((Client *)hv, "rename", &(Call){ .func = do_rename, .base = g_strdup(name) },
                      error);
}

static bool
do_describe(Call *call, GError **error)
{
    VmTexts texts = { 0 };

    fiber_point("libvirt is about to describe");
    if (!vm.there)
        return error_set(error, ERR_NOT_FOUND, "no domain %s", vm.id);
    memcpy(texts.name, vm.texts.name, sizeof texts.name);
    g_strlcpy(texts.description, call->base, sizeof texts.description);
    g_strlcpy(texts.title, call->top, sizeof texts.title);
    define_texts(texts);
    return true;
}

bool
libvirt_op_describe(Hypervisor *hv, const char *vm_id, const char *description, const char *title,
                    GError **error)
{
    (void)vm_id;
    return libvirt_do(
        (Client *)hv, "describe",
        &(Call){ .func = do_describe, .base = g_strdup(description), .top = g_strdup(title) },
        error);
}

/* ---- the other VM ---- */

SimOther second;

static const char *
format_of(const char *path)
{
    return g_str_has_suffix(path, ".raw") ? "raw" : "qcow2";
}

static HvDisk *
other_disk(unsigned i)
{
    HvDisk *hv = g_new0(HvDisk, 1);

    hv->target = g_strdup(second.targets[i]);
    hv->bus = g_strdup("virtio");
    hv->device = g_strdup("disk");
    hv->type = g_strdup("file");
    hv->format = g_strdup(format_of(second.sources[i]));
    hv->source = g_strdup(second.sources[i]);
    return hv;
}

HvDomain *
libvirt_look_at_other(void)
{
    HvDomain *domain = hv_domain_new();

    domain->id = g_strdup(second.id);
    domain->name = g_strdup(second.name);
    domain->state = VM_DOWN;
    domain->persistent = true;
    domain->memory = 1 << 28;
    domain->vcpus = 1;
    domain->xml = g_strdup("<domain/>");
    domain->inactive_xml = g_strdup("<domain/>");
    if (domain->disks == NULL)
        domain->disks = g_ptr_array_new_with_free_func((GDestroyNotify)hv_disk_free);
    if (domain->inactive == NULL)
        domain->inactive = g_ptr_array_new_with_free_func((GDestroyNotify)hv_disk_free);
    for (unsigned i = 0; i < second.n_disks; i++) {
        g_ptr_array_add(domain->disks, other_disk(i));
        g_ptr_array_add(domain->inactive, other_disk(i));
    }
    return domain;
}

bool
libvirt_is_other(const char *vm_id)
{
    return second.there && strcmp(vm_id, second.id) == 0;
}

/* ---- undefine ---- */

static bool
do_undefine(Call *call, GError **error)
{
    if (libvirt_is_other(call->base)) {
        second.there = false;
        libvirt_send_domain(second.id);
        return true;
    }
    if (strcmp(call->base, vm.id) != 0 || !vm.there)
        return true;
    if (libvirt_sees_vm() || vm.starting)
        return error_set(error, ERR_REFUSED, "VM '%s' is not off; it was not removed",
                         vm.texts.name);
    if (vm.lost)
        return error_set(error, ERR_HYPERVISOR, "its QEMU is not known");
    vm.there = vm.saved.there = false;
    world_trace("the VM is undefined");
    fiber_point("libvirt has undefined the VM");
    libvirt_send_domain(vm.id);
    return true;
}

bool
libvirt_op_undefine(Hypervisor *hv, const char *vm_id, bool all, GError **error)
{
    (void)all;
    mutant_before_undefine(vm_id);
    return libvirt_do((Client *)hv, "undefine",
                      &(Call){ .func = do_undefine, .base = g_strdup(vm_id) }, error);
}

/* ---- clone ---- */

static bool
do_clone(Call *call, GError **error)
{
    const char *id = call->base, *name = call->top;

    if (second.there && strcmp(id, second.id) != 0)
        return error_set(error, ERR_HYPERVISOR, "domain '%s' already exists", second.name);
    g_strlcpy(second.id, id, sizeof second.id);
    g_strlcpy(second.name, name, sizeof second.name);
    second.n_disks = call->n;
    for (unsigned i = 0; i < call->n; i++) {
        g_strlcpy(second.targets[i], call->targets[i], sizeof second.targets[i]);
        g_strlcpy(second.sources[i], call->sources[i], sizeof second.sources[i]);
    }
    second.there = true;
    check_cloned();
    fiber_point("libvirt has defined the clone");
    libvirt_send_domain(id);
    return true;
}

bool
libvirt_op_clone(Hypervisor *hv, const char *vm_id, const HvClone *clone, GPtrArray *left,
                 GError **error)
{
    char **targets = g_new0(char *, clone->n + 1), **sources = g_new0(char *, clone->n + 1);

    (void)left;
    if (strcmp(vm_id, vm.id) != 0 || !vm.there)
        return error_set(error, ERR_NOT_FOUND, "no domain %s", vm_id);
    for (unsigned i = 0; i < clone->n; i++) {
        targets[i] = g_strdup(clone->targets[i]);
        sources[i] = g_strdup(clone->sources[i]);
    }
    return libvirt_do((Client *)hv, "define a clone",
                      &(Call){ .func = do_clone,
                               .base = g_strdup(clone->id),
                               .top = g_strdup(clone->name),
                               .targets = (const char *const *)targets,
                               .sources = (const char *const *)sources,
                               .n = clone->n },
                      error);
}
