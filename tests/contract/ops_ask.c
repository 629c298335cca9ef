/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Questions: what libvirt says, what the files hold, and until when to wait.
 */
#include "ops_parts.h"

#include "qcow2/qcow2.h"

#include <string.h>

static const char *
state_word(const HvDomain *domain)
{
    return domain->state == VM_UP          ? "up"
           : domain->state == VM_PAUSED    ? "paused"
           : domain->state == VM_DOWN      ? "off"
           : domain->state == VM_SUSPENDED ? "saved"
           : domain->state == VM_UNKNOWN   ? "lost"
                                           : "changing";
}

static void
append_chain(GString *text, const char *word, const HvDisk *disk)
{
    g_autofree char *leaf = short_name(disk->source);

    g_string_append_printf(text, " %s=%s", word, leaf);
    for (guint i = 0; disk->backing != NULL && i < disk->backing->len; i++) {
        g_autofree char *name = short_name(disk->backing->pdata[i]);
        g_string_append_printf(text, ">%s", name);
    }
}

static const HvDisk *
find_target(const GPtrArray *disks, const char *target)
{
    for (guint i = 0; disks != NULL && i < disks->len; i++)
        if (strcmp(((HvDisk *)disks->pdata[i])->target, target) == 0)
            return disks->pdata[i];
    return NULL;
}

/* "paused live=a2>a1>a0 def=a2 mirror=active-commit:a0:yes": state, chain of the running VM, what
 * its definition says, the mirror if there is one ("lost-pivot" instead: HvDisk.lost_pivot); and
 * "hidden=a2": HvDisk.hidden_leaf */
char *
do_look(Ops *ops, char **args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = OPS->look(stage.hv, ID, &error);

    if (domain == NULL)
        return word_of(ops, false, error);
    const HvDisk *live = find_target(domain->disks, target_of(args[1]));
    const HvDisk *stored = find_target(domain->inactive, target_of(args[1]));
    g_autoptr(GString) text = g_string_new(state_word(domain));
    if (live == NULL || stored == NULL)
        return g_strdup("no disk");
    if (domain->instance != NULL)
        append_chain(text, "live", live);
    append_chain(text, "def", stored);
    if (live->lost_pivot)
        g_string_append(text, " lost-pivot");
    if (live->hidden_leaf != NULL) {
        g_autofree char *name = short_name(live->hidden_leaf);
        g_string_append_printf(text, " hidden=%s", name);
    }
    if (live->mirror_job != NULL || live->mirror_path != NULL) {
        g_autofree char *path = short_name(live->mirror_path);
        g_string_append_printf(text, " mirror=%s:%s:%s", live->mirror_job, path,
                               live->mirror_ready != NULL ? live->mirror_ready : "no");
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static const char *const job_words[] = {
    [HV_JOB_NONE] = "none", [HV_JOB_COMMIT] = "commit", [HV_JOB_ACTIVE_COMMIT] = "active-commit",
    [HV_JOB_COPY] = "copy", [HV_JOB_PULL] = "pull",     [HV_JOB_OTHER] = "other",
};

char *
do_job(Ops *ops, char **args)
{
    g_autoptr(GError) error = NULL;
    HvJob job = { 0 };

    if (!OPS->job_look(stage.hv, ID, target_of(args[1]), &job, &error))
        return word_of(ops, false, error);
    return g_strdup_printf("%s%s", job_words[job.type],
                           job.bandwidth == 0      ? ""
                           : job.bandwidth == SLOW ? " slow"
                                                   : " limited");
}

static char *
mirror_word(Ops *ops, const char *disk)
{
    g_autoptr(HvDomain) domain = OPS->look(stage.hv, ID, NULL);
    const HvDisk *live = domain != NULL ? hv_domain_disk(domain, target_of(disk)) : NULL;

    (void)ops;
    if (live == NULL)
        return g_strdup("unknown");
    if (live->mirror_job == NULL)
        return g_strdup("none");
    return g_strdup(live->mirror_ready != NULL ? live->mirror_ready : "no");
}

/* Until the mirror is ready or there is none. */
char *
do_ready(Ops *ops, char **args)
{
    int64_t until = g_get_monotonic_time() + LONGEST_US;

    for (;;) {
        g_autofree char *word = mirror_word(ops, args[1]);
        if (strcmp(word, "yes") == 0 || strcmp(word, "none") == 0 || g_get_monotonic_time() > until)
            return g_steal_pointer(&word);
        g_usleep(1000);
    }
}

/* The chain below this file, by the headers */
char *
do_headers(Ops *ops, char **args)
{
    g_autofree char *path = stage_path(args[1]);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) chain = qcow2_chain_walk(path, "qcow2", NULL, &error);
    g_autoptr(GString) text = g_string_new(NULL);

    if (chain == NULL)
        return word_of(ops, false, error);
    for (guint i = chain->len; i-- > 0;) {
        g_autofree char *name = short_name(((Qcow2Layer *)chain->pdata[i])->path);
        g_string_append_printf(text, "%s%s", text->len > 0 ? ">" : "", name);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* libvirt says what the headers say. */
static bool
chain_is_true(Ops *ops, const char *disk)
{
    g_autoptr(HvDomain) domain = OPS->look(stage.hv, ID, NULL);
    const HvDisk *live = domain != NULL ? hv_domain_disk(domain, target_of(disk)) : NULL;
    g_autoptr(GString) said = g_string_new(NULL);

    if (live == NULL)
        return false;
    if (domain->instance == NULL)
        return true;
    append_chain(said, "live", live);
    g_autofree char *name = short_name(live->source);
    char *args[] = { NULL, name, NULL };
    g_autofree char *headers = do_headers(ops, args);
    return strcmp(said->str + strlen(" live="), headers) == 0;
}

/* Until nobody speaks of a job of this disk, and (for a while) libvirt knows what became of the
 * chain. */
char *
do_ended(Ops *ops, char **args)
{
    int64_t until = g_get_monotonic_time() + LONGEST_US;

    for (;;) {
        g_autofree char *job = do_job(ops, args), *mirror = mirror_word(ops, args[1]);
        bool none = strcmp(job, "none") == 0 && strcmp(mirror, "none") == 0;
        if (none && chain_is_true(ops, args[1]))
            return g_strdup("ended");
        if (none)
            until = MIN(until, g_get_monotonic_time() + LAG_US);
        if (g_get_monotonic_time() >= until)
            return g_strdup_printf("job %s mirror %s", job, mirror);
        g_usleep(5000);
    }
}

char *
do_off(Ops *ops, char **args)
{
    int64_t until = g_get_monotonic_time() + LONGEST_US;

    (void)ops;
    (void)args;
    while (g_get_monotonic_time() < until) {
        g_autoptr(HvDomain) domain = OPS->look(stage.hv, ID, NULL);
        if (domain != NULL && (domain->state == VM_DOWN || domain->state == VM_SUSPENDED))
            return g_strdup("off");
        g_usleep(1000);
    }
    return g_strdup("still on");
}

char *
do_connected(Ops *ops, char **args)
{
    int64_t until = g_get_monotonic_time() + LONGEST_US;
    bool wanted = args[1] == NULL;

    (void)ops;
    while (OPS->is_connected(stage.hv) != wanted && g_get_monotonic_time() < until)
        g_usleep(1000);
    return g_strdup(OPS->is_connected(stage.hv) ? "connected" : "not connected");
}

/* Does this chain hold what the guest wrote? */
char *
do_content(Ops *ops, char **args)
{
    unsigned disk = disk_number(args[1]), values[STAGE_CLUSTERS] = { 0 };

    if (!stage_read(args[1], values))
        return g_strdup("broken");
    if (memcmp(values, ops->wanted[disk], sizeof values) == 0)
        return g_strdup("same");
    for (unsigned c = 0; c < STAGE_CLUSTERS; c++)
        g_string_append_printf(ops->said, "        (cluster %u: %u, was written: %u)\n", c,
                               values[c], ops->wanted[disk][c]);
    return g_strdup("differs");
}

/* The same of the leaf that the VM has, or would start with. */
char *
do_verify(Ops *ops, char **args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = OPS->look(stage.hv, ID, &error);

    if (domain == NULL)
        return word_of(ops, false, error);
    const HvDisk *disk = hv_domain_disk(domain, target_of(args[1]));
    g_autofree char *leaf = short_name(disk->source);
    char *leaf_args[] = { NULL, leaf, NULL };
    return do_content(ops, leaf_args);
}
