/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/cli.h"
#include "cli/complete.h"
#include "cli/doc.h"
#include "cli/remote.h"

#include <errno.h>

#define DEFAULT_ADDRESS "unix:/run/livemerge/manager.sock"

char *
cli_address(const Options *options)
{
    const char *named = option_text(options, OPT_CONNECT);
    const char *set = g_getenv("LIVEMERGE_CONNECT");

    return g_strdup(named != NULL ? named : set != NULL && *set != '\0' ? set : DEFAULT_ADDRESS);
}

void
cli_say(Cli *cli, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    g_autofree char *text = g_strdup_vprintf(format, list);
    va_end(list);
    g_autofree char *safe = escape_text(text, true);
    fprintf(cli->io->err, "%s%s\n", cli->bar_drawn ? "\r\033[K" : "", safe);
    fflush(cli->io->err);
    cli->bar_drawn = false;
}

void
cli_print_json(Cli *cli, const json_t *doc)
{
    json_dumpf(doc, cli->io->out, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    fputc('\n', cli->io->out);
}

char *
cli_command(const Cli *cli, const char *format, ...)
{
    const char *connect = option_text(cli->options, OPT_CONNECT);
    g_autofree char *quoted = connect != NULL ? g_shell_quote(connect) : NULL;
    va_list list;

    va_start(list, format);
    g_autofree char *rest = g_strdup_vprintf(format, list);
    va_end(list);
    if (connect == NULL)
        return g_strconcat("livemerge ", rest, NULL);
    return g_strconcat("livemerge --connect ", quoted, " ", rest, NULL);
}

bool
cli_confirm(Cli *cli, const char *question, GError **error)
{
    autolibc char *line = NULL;
    size_t size = 0;

    if (option_given(cli->options, OPT_YES))
        return true;
    if (!cli->io->in_terminal)
        return error_set(error, ERR_INVALID,
                         "a yes is wanted, and there is no terminal to ask on; use -y");
    fprintf(cli->io->err, "%s [y/N] ", question);
    fflush(cli->io->err);
    ssize_t n = getline(&line, &size, cli->io->in);
    g_autofree char *answer = g_ascii_strdown(n > 0 ? g_strstrip(line) : "", -1);
    if (g_str_equal(answer, "y") || g_str_equal(answer, "yes"))
        return true;
    return error_set(error, ERR_CANCELLED, "nothing was done");
}

bool
cli_can_ask(Cli *cli, GError **error)
{
    return option_given(cli->options, OPT_YES) || cli->io->in_terminal ||
           cli_confirm(cli, "", error);
}

bool
version_show(Cli *cli, GError **error)
{
    g_autoptr(json_t) root = remote_get_quick(cli, "", 1000, NULL);
    const char *manager = doc_text(root, "product_info.version.full_version");

    if (option_given(cli->options, OPT_JSON)) {
        g_autoptr(json_t) doc = json_pack("{s:s, s:s?}", "livemerge", LIVEMERGE_VERSION, "manager",
                                          *manager != '\0' ? manager : NULL);
        cli_print_json(cli, doc);
        return true;
    }
    fprintf(cli->io->out, "livemerge %s\n", LIVEMERGE_VERSION);
    if (*manager != '\0') {
        g_autofree char *safe = escape_text(manager, false);
        fprintf(cli->io->out, "manager %s\n", safe);
    }
    return true;
}

static CliExit
exit_of_error(const GError *error)
{
    if (g_error_matches(error, ERR, ERR_CANCELLED)) /* the user's own no */
        return EXIT_FAILED;
    if (g_error_matches(error, ERR, ERR_NO_SPACE)) /* before anything was begun */
        return EXIT_REFUSED;
    switch (error_http_status(error)) {
    case 400:
        return EXIT_USAGE;
    case 404:
        return EXIT_NOT_FOUND;
    case 409:
        return EXIT_REFUSED;
    default:
        return EXIT_FAILED;
    }
}

static CliExit
run_command(Cli *cli)
{
    g_autoptr(GError) error = NULL;

    if (option_given(cli->options, OPT_INSECURE) && g_str_has_prefix(cli->address, "https:"))
        cli_say(cli, "Warning: --insecure: the manager's certificate is not verified.");
    if (cli->options->command->run(cli, &error))
        return cli->exit_code;
    cli_say(cli, "livemerge: %s", error->message);
    return cli->error_exit != EXIT_DONE ? cli->error_exit : exit_of_error(error);
}

static CliExit
show_help(const CliIo *io, const Options *options)
{
    g_autofree char *text = NULL;

    if (option_given(options, OPT_VERSION) && !option_given(options, OPT_HELP))
        text = g_strdup("livemerge " LIVEMERGE_VERSION "\n");
    else if (options->command != NULL)
        text = help_command(options->command);
    else
        text = help_noun(options->noun);
    fputs(text, io->out);
    return EXIT_DONE;
}

/* What was meant, as far as that can be told of words that could not be read. */
static const char *
noun_of(int argc, const char *const *argv)
{
    for (int at = 1; at < argc; at++)
        for (const Command *c = commands; c->noun != NULL; c++)
            if (g_str_equal(c->noun, argv[at]))
                return c->noun;
    return NULL;
}

static CliExit
usage_error(const CliIo *io, const GError *error, int argc, const char *const *argv)
{
    g_autofree char *safe = escape_text(error->message, true);
    const char *noun = noun_of(argc, argv);

    if (argc < 2) {
        g_autofree char *text = help_noun(NULL);
        fputs(text, io->err);
    } else {
        fprintf(io->err, "livemerge: %s\nTry 'livemerge %s%s'.\n", safe,
                noun != NULL ? "help " : "--help", noun != NULL ? noun : "");
    }
    return EXIT_USAGE;
}

/* What was written must have arrived, or a script believes what it never got. */
static CliExit
finish_output(const CliIo *io, CliExit code)
{
    bool lost = ferror(io->out) != 0;

    errno = 0;
    if ((fflush(io->out) == 0 && !lost) || code != EXIT_DONE)
        return code;
    fprintf(io->err, "livemerge: could not write the output%s%s\n", errno != 0 ? ": " : "",
            errno != 0 ? g_strerror(errno) : "");
    return EXIT_FAILED;
}

CliExit
cli_run(int argc, const char *const *argv, const CliIo *io)
{
    g_autoptr(GError) error = NULL;

    if (argc > 1 && g_str_equal(argv[1], "__complete")) {
        complete_words(io, argc - 2, argv + 2);
        return EXIT_DONE;
    }
    g_autoptr(Options) options = options_parse(argc, argv, &error);
    if (options == NULL)
        return usage_error(io, error, argc, argv);
    if (option_given(options, OPT_HELP) || option_given(options, OPT_VERSION))
        return finish_output(io, show_help(io, options));

    Cli cli = { .io = io, .options = options, .address = cli_address(options) };
    CliExit code = run_command(&cli);
    http_client_free(cli.client);
    g_free(cli.authorization);
    g_free(cli.address);
    return finish_output(io, code);
}
