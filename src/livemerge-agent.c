/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge-agent: one a host, next to libvirtd. See src/agent/agent.h.
 */
#include "agent/agent.h"
#include "agent/hookfile.h"
#include "base/config.h"
#include "base/fault.h"
#include "base/lockfile.h"
#include "base/log.h"
#include "database/database.h"

#include <glib-unix.h>
#include <grp.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#define DEFAULT_CONFIG "/etc/livemerge/agent.conf"

/* clang-format off */
static const ConfigKey keys[] = {
    { "agent",     "state_dir",         "/var/lib/livemerge/agent",  "journal; must survive a reboot" },
    { "agent",     "listen",            "unix:/run/livemerge/agent.sock", "unix:PATH or ADDR:PORT, where the manager connects" },
    { "agent",     "group",             "livemerge",                 "group that may connect to the socket besides root" },
    { "agent",     "pivot_budget_ms",   "1000",                      "longest pause of a guest for a pivot" },
    { "agent",     "quiesce_budget_s",  "10",                        "how long freezing a guest's file systems may take" },
    { "agent",     "trash_keep_days",   "7",                         "how long what fixes and recovery set aside stays in the trash; 0 = for ever" },
    { "libvirt",   "uri",               "qemu:///system",            "the hypervisor" },
    { "storage *", "path",              NULL,                        "a storage domain; directories of disks outside of all become their own" },
    { NULL },
};
/* clang-format on */

typedef struct {
    Config *config;
    AgentOptions options;
    unsigned trash_keep_days;
    GPtrArray *names, *paths;
    int lock;
} Setup;

static bool
read_numbers(Setup *s, GError **error)
{
    gint64 pivot = 0, quiesce = 0, days = 0;

    if (!config_get_number(s->config, "agent", "pivot_budget_ms", 50, 60000, &pivot, error) ||
        !config_get_number(s->config, "agent", "quiesce_budget_s", 1, 600, &quiesce, error) ||
        !config_get_number(s->config, "agent", "trash_keep_days", 0, 3650, &days, error))
        return false;
    s->trash_keep_days = (unsigned)days;
    s->options.pivot_budget_ms = (unsigned)pivot;
    s->options.quiesce_budget_s = (unsigned)quiesce;
    return true;
}

static bool
read_storage(Setup *s, GError **error)
{
    g_auto(GStrv) names = config_names(s->config, "storage");

    s->names = g_ptr_array_new_with_free_func(g_free);
    s->paths = g_ptr_array_new_with_free_func(g_free);
    for (char **name = names; *name != NULL; name++) {
        g_autofree char *group = g_strdup_printf("storage %s", *name);
        const char *path = config_get(s->config, group, "path");
        if (path == NULL || !g_path_is_absolute(path))
            return error_set(error, ERR_INVALID, "[%s] path: it must be an absolute directory",
                             group);
        g_ptr_array_add(s->names, g_strdup(*name));
        g_ptr_array_add(s->paths, g_strdup(path));
    }
    g_ptr_array_add(s->names, NULL);
    g_ptr_array_add(s->paths, NULL);
    s->options.storage_names = (const char *const *)s->names->pdata;
    s->options.storage_paths = (const char *const *)s->paths->pdata;
    return true;
}

static bool
check_listen(const char *listen, GError **error)
{
    const char *colon = strrchr(listen, ':');

    if (g_str_has_prefix(listen, "unix:/"))
        return true;
    if (colon == NULL || !g_ascii_string_to_unsigned(colon + 1, 10, 0, 65535, NULL, NULL))
        return error_set(error, ERR_INVALID,
                         "[agent] listen: '%s' is neither unix:/PATH nor ADDRESS:PORT", listen);
    if (!g_str_has_prefix(listen, "127.") && !g_str_has_prefix(listen, "[::1]:"))
        return error_set(
            error, ERR_INVALID,
            "[agent] listen: '%s': until agents have mutual TLS only a unix socket or a loopback "
            "address is accepted",
            listen);
    return true;
}

static bool
read_setup(Setup *s, const char *file, GError **error)
{

    s->config = config_load(file != NULL ? file : DEFAULT_CONFIG, file != NULL, keys, error);
    if (s->config == NULL || !read_numbers(s, error) || !read_storage(s, error))
        return false;
    s->options.state_dir = config_get(s->config, "agent", "state_dir");
    if (*s->options.state_dir != '/')
        return error_set(error, ERR_INVALID, "[agent] state_dir: '%s' is no absolute path",
                         s->options.state_dir);
    return check_listen(config_get(s->config, "agent", "listen"), error);
}

static bool
take_state(Setup *s, GError **error)
{
    g_autofree char *file = g_build_filename(s->options.state_dir, "lock", NULL);

    if (g_mkdir_with_parents(s->options.state_dir, 0700) < 0)
        return error_set_errno(error, "creating %s", s->options.state_dir);
    s->lock = lockfile_take(file, "livemerge-agent", error);
    return s->lock >= 0;
}

/* Nobody made the group: then only root may connect, which is safe and works on one host. */
static const char *
existing_group(const char *group)
{
    if (group == NULL || *group == '\0' || getgrnam(group) != NULL)
        return group;
    log_info("there is no group '%s': only root may connect", group);
    return NULL;
}

static int
quit(void *loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

static void
on_signal(GMainContext *context, int number, GMainLoop *loop)
{
    g_autoptr(GSource) source = g_unix_signal_source_new(number);

    g_source_set_callback(source, quit, loop, NULL);
    g_source_attach(source, context);
}

#define EXPIRE_EVERY_S 3600

typedef struct {
    Agent *agent;
    unsigned keep_days;
} Expiry;

static int
expire(void *expiry_)
{
    const Expiry *expiry = expiry_;

    agent_expire_kept(expiry->agent, expiry->keep_days);
    return G_SOURCE_CONTINUE;
}

/* Until a signal comes. A journal that is not to be believed any more sends one too: it cannot be
 * mended while it is used. The next start sets it aside, and systemd starts us. What is suspended
 * for a pivot runs again before we end. */
static void
run_loop(GMainContext *context, GMainLoop *loop, Agent *agent, unsigned keep_days)
{
    Expiry expiry = { agent, keep_days };
    g_autoptr(GSource) source = g_timeout_source_new_seconds(EXPIRE_EVERY_S);

    expire(&expiry);
    g_source_set_callback(source, expire, &expiry, NULL);
    g_source_attach(source, context);
    database_signal_damage(SIGTERM);
    if (journal_damage(agent->journal) == NULL)
        g_main_loop_run(loop);
    g_source_destroy(source);
}

static void
refuse(const HttpRequest *request, const GError *problem, HttpResponse *response)
{
    wire_answer_error(response, problem);
}

static bool
serve(Setup *s, GError **error)
{
    /* a context of our own: libvirt's event thread iterates the default one */
    g_autoptr(GMainContext) context = g_main_context_new();
    g_autoptr(GMainLoop) loop = g_main_loop_new(context, FALSE);
    HttpServerOptions options = { .address = config_get(s->config, "agent", "listen"),
                                  .group = existing_group(config_get(s->config, "agent", "group")),
                                  .max_connections = 64,
                                  .refuse = refuse };
    Agent *agent = agent_new(&s->options, error);
    HttpServer *server;

    if (agent == NULL)
        return false;
    agent_attach(agent, hypervisor_libvirt_new(config_get(s->config, "libvirt", "uri"),
                                               agent_on_hv_event, agent));
    if (g_str_has_prefix(options.address, "unix:")) {
        g_autofree char *dir = g_path_get_dirname(options.address + 5);
        g_mkdir_with_parents(dir, 0755);
    }
    server = http_server_start(&options, agent_serve, agent, error);
    if (server == NULL)
        return false;
    log_info("version %s listens on %s, libvirt is %s", LIVEMERGE_VERSION, options.address,
             config_get(s->config, "libvirt", "uri"));
    on_signal(context, SIGTERM, loop);
    on_signal(context, SIGINT, loop);
    sd_notify(0, "READY=1");
    run_loop(context, loop, agent, s->trash_keep_days);
    sd_notify(0, "STOPPING=1");
    log_info("ends; guests and jobs go on");
    agent_stop(agent);
    http_server_stop(server);
    if (journal_damage(agent->journal) != NULL)
        return error_set(error, ERR_CORRUPT,
                         "%s; it is not written any more: the next start sets it aside and goes on",
                         journal_damage(agent->journal));
    return true; /* the process ends right after: threads may still wait inside libvirt */
}

/* ---- the start guard ---- */

static bool
install_hook(const char *hooks_dir, const char *config_file, GError **error)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *dir = g_path_get_dirname(self != NULL ? self : "./");
    g_autofree char *program = g_build_filename(dir, "livemerge-hook", NULL);
    g_autofree char *absolute =
        config_file != NULL ? g_canonicalize_filename(config_file, NULL) : NULL;
    bool first = false;

    if (!hookfile_install(hooks_dir, program, absolute, &first, error))
        return false;
    printf("installed %s/qemu.d/livemerge, %s/daemon.d/livemerge and %s/livemerge-hook: libvirt "
           "asks before it starts a VM, and finds every VM again when it starts itself\n%s",
           hooks_dir, hooks_dir, hooks_dir,
           first ? "it is the first hook: restart libvirtd once, or it is not seen (systemctl "
                   "restart libvirtd; running VMs go on)\n"
                 : "");
    return true;
}

static bool
remove_hook(const char *hooks_dir, GError **error)
{
    bool was = false;

    if (!hookfile_remove(hooks_dir, &was, error))
        return false;
    printf(was ? "removed the start guard from %s\n" : "there is no start guard in %s\n",
           hooks_dir);
    return true;
}

int
main(int argc, char **argv)
{
    g_autofree char *file = NULL, *hooks_dir = g_strdup(HOOKS_DIR);
    gboolean check = FALSE, version = FALSE, install = FALSE, unhook = FALSE;
    const GOptionEntry entries[] = {
        { "config", 0, 0, G_OPTION_ARG_FILENAME, &file, "Configuration file", "FILE" },
        { "check-config", 0, 0, G_OPTION_ARG_NONE, &check, "Read the configuration and exit",
          NULL },
        { "install-hook", 0, 0, G_OPTION_ARG_NONE, &install,
          "Install the start guard for libvirt and exit", NULL },
        { "remove-hook", 0, 0, G_OPTION_ARG_NONE, &unhook, "Remove the start guard and exit",
          NULL },
        { "hooks-dir", 0, 0, G_OPTION_ARG_FILENAME, &hooks_dir,
          "Where libvirt's hooks are (" HOOKS_DIR ")", "DIR" },
        { "version", 0, 0, G_OPTION_ARG_NONE, &version, "Print the version and exit", NULL },
        { NULL },
    };
    g_autoptr(GOptionContext) options = g_option_context_new("- livemerge's host agent");
    g_autoptr(GError) error = NULL;
    Setup setup = { .lock = -1 };

    mallopt(M_ARENA_MAX, 2); /* a few threads, small memory */
    log_init("livemerge-agent");
    fault_init();
    signal(SIGPIPE, SIG_IGN); /* libvirt's client writes to a libvirtd that may just have died */
    g_option_context_add_main_entries(options, entries, NULL);
    if (!g_option_context_parse(options, &argc, &argv, &error) || argc > 1) {
        fprintf(stderr, "livemerge-agent: %s\n",
                error != NULL ? error->message : "unexpected argument; see --help");
        return 2;
    }
    if (version) {
        puts("livemerge-agent " LIVEMERGE_VERSION);
        return 0;
    }
    if (install || unhook) {
        if (install ? install_hook(hooks_dir, file, &error) : remove_hook(hooks_dir, &error))
            return 0;
        fprintf(stderr, "livemerge-agent: %s\n", error->message);
        return 1;
    }
    setup.options.hooks_dir = hooks_dir;
    if (!read_setup(&setup, file, &error) ||
        (!check && (!take_state(&setup, &error) || !serve(&setup, &error)))) {
        fprintf(stderr, "livemerge-agent: %s\n", error->message);
        return 1;
    }
    if (check)
        puts("The configuration is good.");
    /* threads that still wait inside libvirt must not hold up the end: all that matters is in the
     * journal */
    fflush(NULL);
    _exit(0);
}
