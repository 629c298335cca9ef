/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/host.h"
#include "cli/doc.h"
#include "cli/remote.h"

void
host_say_silent(Cli *cli)
{
    g_autoptr(json_t) doc = remote_get(cli, "hosts", NULL);
    size_t i;
    json_t *host;

    json_array_foreach ((json_t *)doc_items(doc, NULL, "host"), i, host) {
        const char *why = doc_text(host, "status_detail");
        if (!g_str_equal(doc_text(host, "status"), "up"))
            cli_say(cli, "Host '%s' does not answer, its VMs are shown as last seen%s%s",
                    doc_text(host, "name"), *why != '\0' ? ": " : "", why);
    }
}

void
host_say_silent_of(Cli *cli, const json_t *vm)
{
    if (g_str_equal(doc_text(vm, "status"), "unknown"))
        host_say_silent(cli);
}
