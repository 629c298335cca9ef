/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hook/hook.h"

#include "base/text.h"
#include "hypervisor/instance.h"
#include "storage/guard.h"

#include <string.h>

/* Whatever the guard has no say in: not a file, not written. */
static bool
is_guarded(const HvDisk *disk)
{
    return g_strcmp0(disk->device, "disk") == 0 && g_strcmp0(disk->type, "file") == 0 &&
           disk->source != NULL && g_path_is_absolute(disk->source) && !disk->read_only &&
           g_utf8_validate(disk->source, -1, NULL);
}

json_t *
hook_question(const GPtrArray *disks)
{
    json_t *list = json_array();

    for (guint i = 0; i < disks->len; i++) {
        const HvDisk *disk = disks->pdata[i];
        if (!is_guarded(disk))
            continue;
        json_t *one = json_object();
        json_put_text(one, "target", disk->target);
        json_put_text(one, "source", disk->source);
        json_put_text(one, "format", disk->format);
        json_array_append_new(list, one);
    }
    return json_pack("{s:o}", "disks", list);
}

static char *
refusal(const GuardManifest *manifest, const GuardFinding *finding, const char *target)
{
    g_autofree char *name = shell_word(manifest->vm->name);

    if (finding->verdict == GUARD_STALE)
        return g_strdup_printf(
            "%s. Nothing is lost. livemerge-agent corrects the definition when it runs (systemctl "
            "start livemerge-agent), then start the VM again; or do it yourself: virsh edit %s, "
            "source of %s: %s",
            finding->reason, name, target, finding->leaf);
    return g_strdup_printf("%s. Nothing is lost. livemerge-agent decides it when it runs: "
                           "systemctl start livemerge-agent, then start the VM again",
                           finding->reason);
}

char *
hook_judge(const char *vm_id, const json_t *question, GError **error)
{
    const json_t *disks = json_object_get(question, "disks");
    g_autoptr(GPtrArray) sources = g_ptr_array_new();
    g_auto(GuardManifest) manifest = { 0 };
    g_autoptr(GError) problem = NULL;
    size_t i;
    json_t *disk;

    json_array_foreach (disks, i, disk)
        g_ptr_array_add(sources, (char *)json_text(disk, "source"));
    g_ptr_array_add(sources, NULL);
    if (!guard_load(vm_id, (const char *const *)sources->pdata, &manifest, &problem)) {
        if (g_error_matches(problem, ERR, ERR_STORAGE))
            return g_strdup_printf("%s. From which of its volumes the VM may start is not known. "
                                   "Nothing is lost: start it again when its storage answers",
                                   problem->message);
        g_propagate_error(error, g_steal_pointer(&problem));
        return NULL;
    }
    json_array_foreach (disks, i, disk) {
        g_auto(GuardFinding) finding = { 0 };
        const char *target = json_text(disk, "target");
        guard_look(&manifest, target, json_text(disk, "source"), json_text(disk, "format"),
                   &finding);
        if (finding.verdict != GUARD_FINE)
            return refusal(&manifest, &finding, target);
    }
    return NULL;
}

char *
hook_lost(const char *vm_id, const char *name)
{
    g_autofree char *instance = instance_look(vm_id, NULL);

    if (instance == NULL)
        return NULL;
    g_autofree char *process = g_strndup(instance, strcspn(instance, "."));
    return g_strdup_printf("libvirt takes VM '%s' for off, but its QEMU runs, as process %s "
                           "(libvirtd was killed and has lost it): there must not be two. Nothing "
                           "is lost. Shut it down from inside, or end that process (kill %s); then "
                           "start the VM again",
                           name, process, process);
}
