/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge vm rename|describe
 */
#include "base/text.h"
#include "cli/cli.h"
#include "cli/doc.h"
#include "cli/remote.h"
#include "cli/resolve.h"

/* The server answers when it is done. format has the VM's old name and the text. */
static bool
change(Cli *cli, const char *member, const char *done, GError **error)
{
    const char *text = option_arg(cli->options, 1);
    g_autoptr(json_t) vm = resolve_vm(cli, option_arg(cli->options, 0), error);
    g_autoptr(json_t) body = json_pack("{s:s}", member, text);

    if (vm == NULL)
        return false;
    g_autofree char *path = remote_path("vms/%s", doc_text(vm, "id"));
    g_autoptr(json_t) now = remote_send(cli, "PUT", path, body, error);
    if (now == NULL)
        return false;
    if (option_given(cli->options, OPT_JSON))
        cli_print_json(cli, now);
    else
        cli_say(cli, "VM %s %s%s%s.", doc_text(vm, "name"), done, *text != '\0' ? ": " : "", text);
    return true;
}

bool
vm_rename(Cli *cli, GError **error)
{
    return name_check("the new name", option_arg(cli->options, 1), error) &&
           change(cli, "name", "has a new name", error);
}

bool
vm_describe(Cli *cli, GError **error)
{
    return change(cli, "description", "has a new description", error);
}
