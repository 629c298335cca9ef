/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * docs/livemerge.1.md: every command stands in its synopsis with its options, and every option is
 * explained.
 */
#include "cli/options.h"

#include <string.h>

static char *
manual(void)
{
    g_autofree char *path =
        g_test_build_filename(G_TEST_DIST, "..", "..", "docs", "livemerge.1.md", NULL);
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, &error);
    g_assert_no_error(error);
    return text;
}

/* Its line, which may be that of several: "livemerge vm stop|shutdown VM". NULL = none. */
static char *
line_of(const char *text, const Command *command)
{
    g_autofree char *pattern =
        command->verb == NULL
            ? g_strdup_printf("^    livemerge %s( .*)?$", command->noun)
            : g_strdup_printf("^    livemerge %s ([a-z|]+\\|)?%s(\\|[a-z|]+)?( .*)?$",
                              command->noun, command->verb);
    g_autoptr(GRegex) regex = g_regex_new(pattern, G_REGEX_MULTILINE, 0, NULL);
    g_autoptr(GMatchInfo) match = NULL;

    g_regex_match(regex, text, 0, &match);
    return g_match_info_matches(match) ? g_match_info_fetch(match, 0) : NULL;
}

/* By either of its names. */
static bool
names_option(const char *line, const OptionRow *row)
{
    const char letter[] = { '[', '-', row->letter, ']', '\0' };
    g_autofree char *name = g_strconcat("--", row->name, NULL);

    return strstr(line, name) != NULL || (row->letter != 0 && strstr(line, letter) != NULL);
}

static void
test_commands(void)
{
    g_autofree char *text = manual();

    for (const Command *command = commands; command->noun != NULL; command++) {
        g_autofree char *line = line_of(text, command);
        if (line == NULL)
            g_error("no synopsis of '%s %s'", command->noun,
                    command->verb != NULL ? command->verb : "");
        for (int id = 0; id < OPT_LAST; id++)
            if ((command->options & OPTION(id)) != 0 && !names_option(line, &option_rows[id]))
                g_error("--%s is not in '%s'", option_rows[id].name, line);
    }
}

static void
test_options(void)
{
    g_autofree char *text = manual();

    for (int id = 0; id < OPT_LAST; id++) {
        g_autofree char *name = g_strdup_printf("`--%s", option_rows[id].name);
        if (strstr(text, name) == NULL)
            g_error("%s` is not explained", name);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/manual/commands", test_commands);
    g_test_add_func("/manual/options", test_options);
    return g_test_run();
}
