/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge-hook [--config FILE] VM OPERATION SUBOPERATION EXTRA
 * livemerge-hook --libvirtd-starts [FOLDER]
 *
 * The start guard: libvirt runs it (by way of hooks/qemu.d/livemerge) with the domain's XML on
 * standard input before it starts a VM. Exit 1 with a reason on standard error refuses the start;
 * everything else lets it go on. See src/hook/hook.h.
 *
 * And libvirtd runs it (hooks/daemon.d/livemerge) before it reads what an earlier one has noted of
 * VMs that run: a note that it would refuse is mended.
 */
#include "base/text.h"
#include "hook/hook.h"

#include <stdio.h>
#include <string.h>
#include <syslog.h>

#define BUDGET_MS 10000
#define MAX_XML (16 << 20)

static char *
read_xml(void)
{
    g_autoptr(GString) text = g_string_new(NULL);
    char part[16384];
    ssize_t n;

    while (text->len < MAX_XML && (n = read(STDIN_FILENO, part, sizeof part)) > 0)
        g_string_append_len(text, part, n);
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* libvirt shows standard error only if the start is refused. */
static void
warn(const char *vm, const char *problem)
{
    fprintf(stderr, "livemerge: the start of VM '%s' is not guarded: %s\n", vm, problem);
    openlog("livemerge-hook", LOG_PID, LOG_DAEMON);
    syslog(LOG_WARNING, "the start of VM '%s' is not guarded: %s", vm, problem);
}

/* The reason why the VM must not start; NULL = it may. */
static char *
decide(const char *config, const HvDomain *domain, const json_t *question)
{
    g_autofree char *address = hook_agent_address(config);
    g_autoptr(GError) no_agent = NULL;
    g_autoptr(GError) problem = NULL;
    char *refusal = NULL;

    if (hook_ask(address, domain->id, question, BUDGET_MS, &refusal, &no_agent))
        return refusal;
    refusal = hook_judge(domain->id, question, &problem);
    if (problem != NULL)
        warn(domain->name, problem->message);
    return refusal;
}

static bool
may_start(const char *config)
{
    g_autofree char *xml = read_xml();
    g_autoptr(HvDomain) domain = hv_domain_new();
    g_autoptr(json_t) question = NULL;
    g_autoptr(GError) error = NULL;

    if (!hv_parse_domain(xml, domain, &domain->disks, &error)) {
        warn("?", error->message);
        return true;
    }
    question = hook_question(domain->disks);
    if (!id_is_valid(domain->id) || json_array_size(json_object_get(question, "disks")) == 0)
        return true; /* the guard has no say in it */
    g_autofree char *refusal = hook_lost(domain->id, domain->name);
    if (refusal == NULL)
        refusal = decide(config, domain, question);
    if (refusal != NULL)
        fprintf(stderr, "livemerge: %s\n", refusal);
    return refusal == NULL;
}

static void
tell_mended(const char *path, const GError *error, void *data)
{
    (void)data;
    if (error != NULL)
        syslog(LOG_WARNING, "libvirt's note of a VM that runs: %s", error->message);
    else
        syslog(LOG_NOTICE, "libvirtd would not have read %s and would have lost the VM: mended",
               path);
}

int
main(int argc, char **argv)
{
    const char *config = NULL;
    int at = 1;

    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        puts("livemerge-hook " LIVEMERGE_VERSION);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--libvirtd-starts") == 0) {
        openlog("livemerge-hook", LOG_PID, LOG_DAEMON);
        hv_mend_status_files(argc > 2 ? argv[2] : HV_STATUS_DIR, tell_mended, NULL);
        return 0;
    }
    if (argc > 2 && strcmp(argv[1], "--config") == 0) {
        config = argv[2];
        at = 3;
    }
    if (argc - at < 3 || strcmp(argv[at + 1], "prepare") != 0 || strcmp(argv[at + 2], "begin") != 0)
        return 0;
    return may_start(config) ? 0 : 1;
}
