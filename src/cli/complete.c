/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/complete.h"
#include "base/clock.h"
#include "cli/doc.h"
#include "cli/remote.h"
#include "cli/resolve.h"
#include "model/role.h"

#include <string.h>

#define BUDGET_US INT64_C(900000)

typedef struct {
    Cli *cli;
    const char *current;
    GPtrArray *words; /* positional ones before the current */
    const Command *command;
    int value_of; /* the option whose value is being typed; -1 = none */
    bool only_words;
    int64_t deadline_us;
} Completion;

/* Names with control characters cannot be typed on one line: left out. */
static void
offer(const Completion *c, const char *prefix, const char *candidate)
{
    g_autofree char *full = g_strconcat(prefix, candidate, NULL);
    g_autofree char *escaped = escape_text(full, false);

    if (*candidate != '\0' && g_str_has_prefix(full, c->current) && g_str_equal(escaped, full))
        fprintf(c->cli->io->out, "%s\n", full);
}

static json_t *
ask(const Completion *c, const char *path)
{
    int64_t left_ms = (c->deadline_us - clock_mono_us()) / 1000;

    return left_ms > 0 ? remote_get_quick(c->cli, path, (unsigned)left_ms, NULL) : NULL;
}

static void
offer_all(const Completion *c, const char *prefix, const json_t *items, const char *member)
{
    size_t i;
    json_t *item;

    json_array_foreach ((json_t *)items, i, item) {
        const char *candidate = doc_text(item, member);
        offer(c, prefix, g_str_has_prefix(candidate, "/dev/") ? candidate + 5 : candidate);
    }
}

static void
offer_vms(const Completion *c, const char *prefix)
{
    g_autoptr(json_t) doc = ask(c, "vms");

    offer_all(c, prefix, doc_items(doc, NULL, "vm"), "name");
}

static void
offer_jobs(const Completion *c, const char *prefix)
{
    g_autoptr(json_t) doc = ask(c, "jobs");

    offer_all(c, prefix, doc_items(doc, NULL, "job"), "id");
}

/* How many words the command itself has. */
static unsigned
command_words(const Completion *c)
{
    return c->command != NULL && c->command->verb == NULL ? 1 : 2;
}

/* A document below the VM that the first argument means; NULL = none */
static json_t *
ask_about_vm(const Completion *c, const char *format)
{
    static const ResolveKind kind = { "VM", "name", NULL, "" };
    unsigned at = command_words(c);
    g_autoptr(json_t) vms = c->words->len > at ? ask(c, "vms") : NULL;
    g_autoptr(json_t) vm =
        vms != NULL ? resolve_word(&kind, doc_items(vms, NULL, "vm"), c->words->pdata[at], NULL)
                    : NULL;

    if (vm == NULL)
        return NULL;
    g_autofree char *id = g_uri_escape_string(doc_text(vm, "id"), NULL, FALSE);
    g_autofree char *path = g_strdup_printf("vms/%s/%s", id, format);
    return ask(c, path);
}

static void
offer_users(const Completion *c, const char *prefix)
{
    g_autoptr(json_t) doc = ask(c, "users");

    offer_all(c, prefix, doc_items(doc, NULL, "user"), "name");
}

/* Of --user: who asks is known to the manager only, and that would be a call more. */
static void
offer_sessions(const Completion *c)
{
    const char *name = option_text(c->cli->options, OPT_USER);
    g_autofree char *path = name != NULL ? remote_path("users/%s/sessions", name) : NULL;
    g_autoptr(json_t) doc = path != NULL ? ask(c, path) : NULL;

    offer_all(c, "", doc_items(doc, NULL, "session"), "id");
}

static void
offer_snapshots(const Completion *c, const char *prefix)
{
    g_autoptr(json_t) doc = ask_about_vm(c, "snapshots");
    size_t i;
    json_t *snapshot;

    json_array_foreach ((json_t *)doc_items(doc, NULL, "snapshot"), i, snapshot) {
        const char *name = doc_text(snapshot, "description");
        if (!g_str_equal(doc_text(snapshot, "snapshot_type"), "active") &&
            !g_ptr_array_find_with_equal_func(c->words, name, g_str_equal, NULL))
            offer(c, prefix, name);
    }
}

static void
offer_disks(const Completion *c, const char *prefix)
{
    g_autoptr(json_t) doc = ask_about_vm(c, "diskattachments");

    offer_all(c, prefix, doc_items(doc, NULL, "disk_attachment"), "logical_name");
}

/* words: those of the command so far */
static void
offer_commands(const Completion *c, unsigned n_words, void *const *words)
{
    const char *noun = n_words > 0 ? words[0] : NULL;
    const char *last = "";

    if (n_words > 1)
        return;
    for (const Command *command = commands; command->noun != NULL; command++) {
        if (noun != NULL && g_str_equal(noun, command->noun) && command->verb != NULL)
            offer(c, "", command->verb);
        if (noun == NULL && !g_str_equal(last, command->noun))
            offer(c, "", command->noun);
        last = command->noun;
    }
}

static void
offer_options(const Completion *c)
{
    for (OptionId id = 0; id < OPT_LAST; id++) {
        g_autofree char *name = g_strconcat("--", option_rows[id].name, NULL);
        if (option_allowed(c->command, id))
            offer(c, "", name);
    }
}

static void
offer_value(const Completion *c, int id, const char *prefix)
{
    static const char *const addresses[] = { "unix:/run/livemerge/manager.sock", "https://",
                                             "http://", NULL };
    const char *const *choices = id == OPT_CONNECT ? addresses : option_rows[id].choices;

    for (; choices != NULL && *choices != NULL; choices++)
        offer(c, prefix, *choices);
    if (option_rows[id].kind == VALUE_DISK)
        offer_disks(c, prefix);
    if (id == OPT_VM)
        offer_vms(c, prefix);
    if (id == OPT_SNAPSHOT)
        offer_snapshots(c, prefix);
    if (id == OPT_UNDO)
        offer_jobs(c, prefix);
    if (id == OPT_USER && c->command != NULL && g_str_equal(c->command->noun, "session"))
        offer_users(c, prefix);
}

static void
offer_argument(const Completion *c)
{
    switch (command_argument(c->command, c->words->len - command_words(c))) {
    case 'v':
        offer_vms(c, "");
        break;
    case 's':
        offer_snapshots(c, "");
        break;
    case 'u':
        offer_users(c, "");
        break;
    case 'i':
        offer_sessions(c);
        break;
    case 'r':
        for (Role role = ROLE_NONE; role < ROLE_LAST; role++)
            offer(c, "", role_word(role));
        break;
    case 'a':
        offer(c, "", "https://");
        break;
    case 'j':
        offer_jobs(c, "");
        break;
    case 'w': /* help */
        offer_commands(c, c->words->len - 1, c->words->pdata + 1);
        break;
    default:
        break;
    }
}

/* Reads the words before the current one: options with their values go aside, so that --connect
 * counts here too; the rest are words. */
static void
read_words(Completion *c, Options *options, int n, const char *const *words)
{
    for (int i = 0; i < n; i++) {
        const char *word = words[i];
        const char *equals = strchr(word, '=');
        if (c->only_words || word[0] != '-' || word[1] == '\0') {
            g_ptr_array_add(c->words, (char *)word);
            continue;
        }
        c->only_words = g_str_equal(word, "--");
        if (word[1] != '-')
            continue;
        int id = option_find(word + 2, equals != NULL ? equals - word - 2 : -1);
        if (id < 0 || option_rows[id].kind == VALUE_NONE)
            continue;
        const char *value = equals != NULL ? equals + 1 : i + 1 < n ? words[++i] : NULL;
        if (value == NULL) {
            c->value_of = id;
            continue;
        }
        if (options->values[id] == NULL)
            options->values[id] = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(options->values[id], g_strdup(value));
    }
}

static void
offer_current(const Completion *c)
{
    const char *equals = strchr(c->current, '=');

    if (c->value_of >= 0) {
        offer_value(c, c->value_of, "");
    } else if (!c->only_words && g_str_has_prefix(c->current, "--") && equals != NULL) {
        g_autofree char *prefix = g_strndup(c->current, (gsize)(equals + 1 - c->current));
        int id = option_find(c->current + 2, equals - c->current - 2);
        if (id >= 0)
            offer_value(c, id, prefix);
    } else if (!c->only_words && c->current[0] == '-') {
        offer_options(c);
    } else if (c->command == NULL) {
        offer_commands(c, c->words->len, c->words->pdata);
    } else {
        offer_argument(c);
    }
}

void
complete_words(const CliIo *io, int n_words, const char *const *words)
{
    g_autoptr(Options) options = g_new0(Options, 1);
    g_autoptr(GPtrArray) before = g_ptr_array_new();
    Cli cli = { .io = io, .options = options };
    Completion c = { .cli = &cli, .current = "", .words = before, .value_of = -1 };

    if (n_words < 1)
        return;
    options->args = g_ptr_array_new();
    c.current = words[n_words - 1];
    c.deadline_us = clock_mono_us() + BUDGET_US;
    read_words(&c, options, n_words - 1, words);
    if (before->len > 0)
        c.command = command_find(before->pdata[0], before->len > 1 ? before->pdata[1] : NULL);
    cli.address = cli_address(options);
    offer_current(&c);
    http_client_free(cli.client);
    g_free(cli.authorization);
    g_free(cli.address);
}
