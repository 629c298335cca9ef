/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * --help, made from the tables.
 */
#include "cli/cli.h"

#include <string.h>

static const char *
argument_word(char letter)
{
    switch (letter) {
    case 'v':
        return " VM";
    case 'V':
        return " [VM]";
    case 's':
        return " SNAPSHOT";
    case 'S':
        return " SNAPSHOT...";
    case 'd':
        return " [DIR]";
    case 'j':
        return " JOB";
    case 'n':
        return " NAME";
    case 't':
        return " TEXT";
    case 'u':
        return " USER";
    case 'U':
        return " [USER]";
    case 'i':
        return " [SESSION]";
    case 'r':
        return " ROLE";
    case 'a':
        return " ADDRESS";
    default:
        return " [WORD...]";
    }
}

static void
append_synopsis(GString *text, const Command *command)
{
    g_string_append(text, command->noun);
    if (command->verb != NULL)
        g_string_append_printf(text, " %s", command->verb);
    for (const char *arg = command->args; *arg != '\0'; arg++)
        g_string_append(text, argument_word(*arg));
}

char *
help_usage(const Command *command)
{
    GString *text = g_string_new("livemerge ");

    append_synopsis(text, command);
    if (command->options != 0)
        g_string_append(text, " [OPTION...]");
    return g_string_free(text, FALSE);
}

static void
append_option(GString *text, OptionId id)
{
    const OptionRow *row = &option_rows[id];
    g_autofree char *name = g_strdup_printf("--%s%s%s", row->name, row->value != NULL ? " " : "",
                                            row->value != NULL ? row->value : "");
    char letter[] = "    ";

    if (row->letter != '\0')
        memcpy(letter, (char[]){ '-', row->letter, ',', ' ' }, 4);
    g_string_append_printf(text, "  %s%-20s %s\n", letter, name, row->help);
}

static void
append_options(GString *text, const char *title, uint64_t mask)
{
    if (mask == 0)
        return;
    g_string_append_printf(text, "\n%s:\n", title);
    for (OptionId id = 0; id < OPT_LAST; id++)
        if ((mask & OPTION(id)) != 0)
            append_option(text, id);
}

char *
help_command(const Command *command)
{
    g_autofree char *usage = help_usage(command);
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "Usage: %s\n\n%c%s.\n", usage, g_ascii_toupper(command->help[0]),
                           command->help + 1);
    if (command->detail != NULL)
        g_string_append_printf(text, "%s\n", command->detail);
    append_options(text, "Options", command->options);
    append_options(text, "Global options", GLOBAL_OPTIONS);
    return g_string_free(text, FALSE);
}

char *
help_noun(const char *noun)
{
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "Usage: livemerge %s [OPTION...]\n\n",
                           noun != NULL ? noun : "NOUN VERB [ARGUMENT...]");
    if (noun == NULL)
        g_string_append(text, "Take, list and delete snapshots of virtual machines while they "
                              "run.\n\n");
    for (const Command *c = commands; c->noun != NULL; c++) {
        g_autoptr(GString) line = g_string_new(NULL);
        if (noun != NULL && !g_str_equal(noun, c->noun))
            continue;
        append_synopsis(line, c);
        g_string_append_printf(text, "  %-32s %s\n", line->str, c->help);
    }
    append_options(text, "Global options", GLOBAL_OPTIONS);
    g_string_append(text,
                    "\nVMs, snapshots and jobs are named by id, name, or a prefix of either "
                    "that fits only one.\n"
                    "Without --connect: $LIVEMERGE_CONNECT, or "
                    "unix:/run/livemerge/manager.sock.\n"
                    "Exit codes: 0 done, 1 failed (or a plan that is not possible), 2 usage, 3 not "
                    "found,\n4 refused by a safety check, 5 still running.\n");
    return g_string_free(text, FALSE);
}

bool
help_show(Cli *cli, GError **error)
{
    const char *noun = option_arg(cli->options, 0);
    const char *verb = option_arg(cli->options, 1);
    const Command *command = command_find(noun, verb);
    bool noun_known = noun == NULL;

    for (const Command *c = commands; c->noun != NULL; c++)
        noun_known = noun_known || g_str_equal(c->noun, noun);
    if (!noun_known || (verb != NULL && command == NULL))
        return error_set(error, ERR_INVALID, "no help for '%s%s%s': there is no such command", noun,
                         verb != NULL ? " " : "", verb != NULL ? verb : "");
    g_autofree char *text = command != NULL ? help_command(command) : help_noun(noun);
    fputs(text, cli->io->out);
    return true;
}
