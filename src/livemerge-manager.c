/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge-manager: what users and their programs talk to.
 */
#include "api/api.h"
#include "base/config.h"
#include "base/fault.h"
#include "base/lockfile.h"
#include "base/log.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#define DEFAULT_CONFIG "/etc/livemerge/manager.conf"

/* clang-format off */
static const ConfigKey keys[] = {
    { "manager", "state_dir", "/var/lib/livemerge/manager", "directory of the database and the certificate" },
    { "manager", "listen", "127.0.0.1:8443", "ADDRESS:PORT of the REST API; empty = none" },
    { "manager", "tls", "yes", "HTTPS on listen" },
    { "manager", "tls_cert", NULL, "certificate (PEM file); unset = one of its own, in state_dir" },
    { "manager", "tls_key", NULL, "its key (PEM file)" },
    { "manager", "tls_ca", NULL, "the authority of tls_cert (PEM file), for clients to fetch" },
    { "manager", "names", NULL, "names and addresses for the certificate of its own; unset = this machine's" },
    { "manager", "socket", "/run/livemerge/manager.sock", "local socket of the REST API, for the command line" },
    { "manager", "group", "livemerge", "who may use the socket besides root" },
    { "manager", "group_role", "administrator", "what the group may do: administrator, operator, viewer, none" },
    { "people", "password", "own", "where passwords are: own, or pam" },
    { "people", "pam_service", "livemerge", "the service that PAM is asked for" },
    { "people", "pam_dir", NULL, "directory of the service's file; unset = the system's" },
    { "host *", "address", NULL, "where the host's agent listens: unix:PATH or https://HOST:PORT" },
    { "host *", "ca", NULL, "certificate authority (PEM file) of the agent's certificate" },
    { NULL },
};
/* clang-format on */

typedef struct {
    ApiOptions api;
    GArray *hosts; /* of HostConfig; strings borrowed but for the name */
    char **names;
} Settings;

static void
settings_clear(Settings *settings)
{
    if (settings->hosts != NULL)
        g_array_unref(settings->hosts);
    g_strfreev(settings->names);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Settings, settings_clear)

/* One agent under two names would be asked for everything twice. */
static bool
add_host(Settings *settings, const HostConfig *host, GError **error)
{
    for (guint i = 0; i < settings->hosts->len; i++) {
        const HostConfig *other = &g_array_index(settings->hosts, HostConfig, i);
        if (g_str_equal(other->address, host->address))
            return error_set(error, ERR_INVALID, "[host %s] address: '%s' is that of host '%s'",
                             host->name, host->address, other->name);
    }
    if (host->ca_file != NULL && *host->ca_file != '\0' && g_access(host->ca_file, R_OK) < 0)
        return error_set(error, ERR_INVALID, "[host %s] ca: %s: %s", host->name, host->ca_file,
                         g_strerror(errno));
    g_array_append_val(settings->hosts, *host);
    return true;
}

static bool
read_hosts(const Config *config, Settings *settings, GError **error)
{
    settings->names = config_names(config, "host");
    if (settings->names[0] == NULL) { /* one machine, no configuration */
        g_strfreev(settings->names);
        settings->names = g_strsplit(g_get_host_name(), "\n", 2);
        HostConfig here = { settings->names[0], "unix:/run/livemerge/agent.sock", NULL };
        g_array_append_val(settings->hosts, here);
        return true;
    }
    for (char **name = settings->names; *name != NULL; name++) {
        g_autofree char *group = g_strconcat("host ", *name, NULL);
        HostConfig host = { *name, config_get(config, group, "address"),
                            config_get(config, group, "ca") };
        if (host.address == NULL || (!g_str_has_prefix(host.address, "unix:/") &&
                                     !g_str_has_prefix(host.address, "https://")))
            return error_set(error, ERR_INVALID,
                             "[%s] address: '%s' is neither unix:/PATH nor https://HOST:PORT",
                             group, host.address != NULL ? host.address : "");
        if (!add_host(settings, &host, error))
            return false;
    }
    return true;
}

static bool
read_settings(const Config *config, Settings *settings, GError **error)
{
    ApiOptions *api = &settings->api;

    api->state_dir = config_get(config, "manager", "state_dir");
    api->listen = config_get(config, "manager", "listen");
    api->tls_cert = config_get(config, "manager", "tls_cert");
    api->tls_key = config_get(config, "manager", "tls_key");
    api->tls_ca = config_get(config, "manager", "tls_ca");
    api->names = config_get(config, "manager", "names");
    api->socket = config_get(config, "manager", "socket");
    api->group = config_get(config, "manager", "group");
    api->group_role = config_get(config, "manager", "group_role");
    api->password = config_get(config, "people", "password");
    api->pam_service = config_get(config, "people", "pam_service");
    api->pam_dir = config_get(config, "people", "pam_dir");
    if (*api->state_dir != '/')
        return error_set(error, ERR_INVALID, "[manager] state_dir: '%s' is no absolute path",
                         api->state_dir);
    return config_get_bool(config, "manager", "tls", &api->tls, error) &&
           api_options_check(api, error) && read_hosts(config, settings, error);
}

/* ---- running ---- */

static void
say_ready(const ApiServer *server, const ApiOptions *api)
{
    log_info("listening on %s", api_server_where(server));
    if (!api_server_can_sign_in(server))
        log_info(
            "no administrator has a password yet, so nobody can sign in on %s; set one as root: "
            "livemerge user passwd admin",
            *api->listen != '\0' ? api->listen : "TCP");
    if (*api->socket != '\0')
        log_info("%s is open to root and, if there is one, group '%s'", api->socket, api->group);
    sd_notifyf(0, "READY=1\nSTATUS=Listening on %s", api_server_where(server));
}

/* A database that is not to be believed any more sends one too: the next start sets it aside, and
 * systemd starts us. */
static bool
wait_for_signal(const sigset_t *signals, Store *store, GError **error)
{
    siginfo_t info = { 0 };

    store_signal_damage(SIGTERM);
    while (store_damage(store) == NULL && sigwaitinfo(signals, &info) < 0)
        ; /* interrupted */
    sd_notify(0, "STOPPING=1");
    if (store_damage(store) != NULL)
        return error_set(error, ERR_CORRUPT,
                         "%s; it is not written any more: the next start sets it aside and goes on",
                         store_damage(store));
    log_info("stopping (%s); jobs go on where they are when it is started again",
             strsignal(info.si_signo));
    return true;
}

static bool
serve(Store *store, const Settings *settings, const sigset_t *signals, GError **error)
{
    Manager *manager =
        manager_new(store, (const HostConfig *)settings->hosts->data, settings->hosts->len, error);
    ApiServer *server = NULL;
    bool good = false;

    if (manager == NULL)
        return false;
    server = api_server_start(manager, &settings->api, error);
    if (server != NULL) {
        say_ready(server, &settings->api);
        good = wait_for_signal(signals, store, error);
        api_server_stop(server);
    }
    manager_free(manager);
    return good;
}

static bool
run(const Settings *settings, const sigset_t *signals, GError **error)
{
    const char *directory = settings->api.state_dir;
    g_autofree char *lock_file = g_build_filename(directory, "lock", NULL);
    g_autofree char *database = g_build_filename(directory, "manager.db", NULL);

    if (g_mkdir_with_parents(directory, 0700) < 0)
        return error_set_errno(error, "making the state directory %s", directory);
    autofd int lock = lockfile_take(lock_file, "livemerge-manager", error);
    if (lock < 0)
        return false;
    g_autoptr(Store) store = store_open(database, error);
    return store != NULL && serve(store, settings, signals, error);
}

int
main(int argc, char **argv)
{
    g_autofree char *file = NULL;
    gboolean check = FALSE, version = FALSE;
    const GOptionEntry entries[] = { { "config", 0, 0, G_OPTION_ARG_FILENAME, &file,
                                       "Read FILE instead of " DEFAULT_CONFIG, "FILE" },
                                     { "check-config", 0, 0, G_OPTION_ARG_NONE, &check,
                                       "Check the configuration and exit", NULL },
                                     { "version", 0, 0, G_OPTION_ARG_NONE, &version,
                                       "Print the version and exit", NULL },
                                     { NULL } };
    g_autoptr(GOptionContext) options = g_option_context_new("- the manager of livemerge");
    g_autoptr(GError) error = NULL;
    g_auto(Settings) settings = { .hosts = g_array_new(FALSE, TRUE, sizeof(HostConfig)) };
    sigset_t signals;

    mallopt(M_ARENA_MAX, 2); /* many threads that wait, little memory */
    mallopt(M_MXFAST, 0);    /* a list is many small pieces: they are joined when they are freed */
    g_option_context_add_main_entries(options, entries, NULL);
    if (!g_option_context_parse(options, &argc, &argv, &error) || argc > 1) {
        fprintf(stderr, "livemerge-manager: %s; --help tells more\n",
                error != NULL ? error->message : "it takes no arguments");
        return 2;
    }
    if (version) {
        puts("livemerge-manager " LIVEMERGE_VERSION);
        return 0;
    }
    log_init("livemerge-manager");
    fault_init();
    /* before any thread: all of them leave these signals to us */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);

    g_autoptr(Config) config =
        config_load(file != NULL ? file : DEFAULT_CONFIG, file != NULL, keys, &error);
    bool good = config != NULL && read_settings(config, &settings, &error);
    if (good && check)
        puts("The configuration is good.");
    else if (good)
        good = run(&settings, &signals, &error);
    if (!good)
        fprintf(stderr, "livemerge-manager: %s\n", error->message);
    return good ? 0 : 1;
}
