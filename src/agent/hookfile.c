/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/hookfile.h"

#include "base/cleanup.h"
#include "storage/files.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARK "# livemerge's start guard"

static char *
script_file(const char *hooks_dir)
{
    return g_build_filename(hooks_dir, "qemu.d", "livemerge", NULL);
}

static char *
daemon_file(const char *hooks_dir)
{
    return g_build_filename(hooks_dir, "daemon.d", "livemerge", NULL);
}

static char *
program_file(const char *hooks_dir)
{
    return g_build_filename(hooks_dir, "livemerge-hook", NULL);
}

static char *
script_text(const char *config_file)
{
    g_autofree char *quoted = config_file != NULL ? g_shell_quote(config_file) : NULL;

    return g_strdup_printf(
        "#!/bin/sh\n" MARK ": refuses to start a VM from an old leaf.\n"
        "# Made by livemerge-agent --install-hook; livemerge-agent --remove-hook takes it away.\n"
        "# Only exit code 1 of the program refuses: what is wrong with the guard itself does not.\n"
        "[ \"$2\" = prepare ] && [ \"$3\" = begin ] || exit 0\n"
        "program=${0%%/qemu.d/*}/livemerge-hook\n"
        "[ -x \"$program\" ] || exit 0\n"
        "\"$program\" %s%s%s\"$@\"\n"
        "[ $? -ne 1 ]\n",
        quoted != NULL ? "--config " : "", quoted != NULL ? quoted : "", quoted != NULL ? " " : "");
}

static const char daemon_text[] =
    "#!/bin/sh\n" MARK ": mends what libvirtd would refuse to read of VMs that run.\n"
    "# Made by livemerge-agent --install-hook; livemerge-agent --remove-hook takes it away.\n"
    "[ \"$2\" = start ] || exit 0\n"
    "program=${0%/daemon.d/*}/livemerge-hook\n"
    "[ -x \"$program\" ] || exit 0\n"
    "\"$program\" --libvirtd-starts\n"
    "exit 0\n";

/* True also if there is none. */
static bool
is_ours(const char *script, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) problem = NULL;

    if (!g_file_get_contents(script, &text, NULL, &problem))
        return g_error_matches(problem, G_FILE_ERROR, G_FILE_ERROR_NOENT) ||
               error_set(error, ERR_STORAGE, "%s", problem->message);
    return strstr(text, MARK) != NULL ||
           error_set(error, ERR_EXISTS, "%s is not livemerge's; nothing was changed", script);
}

/* What libvirtd looks for at its start: without any it never runs one. */
static bool
has_hooks(const char *hooks_dir)
{
    g_autofree char *one = g_build_filename(hooks_dir, "qemu", NULL);
    g_autofree char *folder = g_build_filename(hooks_dir, "qemu.d", NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    if (g_file_test(one, G_FILE_TEST_IS_EXECUTABLE))
        return true;
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        if (g_file_test(path, G_FILE_TEST_IS_EXECUTABLE))
            return true;
    }
    return false;
}

static bool
make_folder(const char *folder, GError **error)
{
    g_autofree char *above = g_path_get_dirname(folder);

    if (g_file_test(folder, G_FILE_TEST_IS_DIR))
        return true;
    if (!make_folder(above, error))
        return false;
    if (mkdir(folder, 0755) < 0 && errno != EEXIST)
        return error_set_errno(error, "creating %s", folder);
    return dir_sync(above, error);
}

/* Durable: who was told that the guard stands has it after a power loss, too. */
static bool
put(const char *path, const char *content, size_t length, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autoptr(GError) problem = NULL;

    if (!make_folder(folder, error))
        return false;
    if (!g_file_set_contents_full(path, content, (gssize)length, G_FILE_SET_CONTENTS_CONSISTENT,
                                  0755, &problem))
        return error_set(error, ERR_STORAGE, "%s", problem->message);
    return dir_sync(folder, error);
}

bool
hookfile_install(const char *hooks_dir, const char *program, const char *config_file,
                 bool *ret_first, GError **error)
{
    g_autofree char *script = script_file(hooks_dir);
    g_autofree char *daemon = daemon_file(hooks_dir);
    g_autofree char *copy = program_file(hooks_dir);
    g_autofree char *text = script_text(config_file);
    g_autofree char *content = NULL;
    g_autoptr(GError) problem = NULL;
    size_t length = 0;

    if (!is_ours(script, error) || !is_ours(daemon, error))
        return false;
    if (!g_file_get_contents(program, &content, &length, &problem))
        return error_set(error, ERR_NOT_FOUND, "%s", problem->message);
    *ret_first = !has_hooks(hooks_dir);
    /* the program first: a script without it does nothing */
    return put(copy, content, length, error) && put(script, text, strlen(text), error) &&
           put(daemon, daemon_text, strlen(daemon_text), error);
}

bool
hookfile_is_there(const char *hooks_dir)
{
    g_autofree char *script = script_file(hooks_dir);
    g_autofree char *program = program_file(hooks_dir);

    return access(script, X_OK) == 0 && access(program, X_OK) == 0;
}

bool
hookfile_remove(const char *hooks_dir, bool *ret_was, GError **error)
{
    g_autofree char *script = script_file(hooks_dir);
    g_autofree char *daemon = daemon_file(hooks_dir);
    g_autofree char *copy = program_file(hooks_dir);
    const char *const files[] = { script, daemon, copy };

    *ret_was = false;
    if (!is_ours(script, error) || !is_ours(daemon, error))
        return false;
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        if (g_unlink(files[i]) == 0)
            *ret_was = true;
        else if (errno != ENOENT)
            return error_set_errno(error, "removing %s", files[i]);
    }
    return true;
}
