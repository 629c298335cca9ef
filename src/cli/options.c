/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/options.h"

#include <string.h>

void
options_free(Options *options)
{
    if (options == NULL)
        return;
    g_ptr_array_unref(options->args);
    for (int id = 0; id < OPT_LAST; id++)
        if (options->values[id] != NULL)
            g_ptr_array_unref(options->values[id]);
    g_free(options);
}

bool
option_given(const Options *options, OptionId id)
{
    return options->values[id] != NULL;
}

const char *
option_text(const Options *options, OptionId id)
{
    const GPtrArray *values = options->values[id];

    return values != NULL ? values->pdata[values->len - 1] : NULL;
}

uint64_t
option_number(const Options *options, OptionId id, uint64_t otherwise)
{
    const char *text = option_text(options, id);

    return text != NULL ? g_ascii_strtoull(text, NULL, 10) : otherwise; /* checked by the parser */
}

const char *
option_arg(const Options *options, unsigned index)
{
    return index < options->args->len ? options->args->pdata[index] : NULL;
}

bool
option_waits(const Options *options)
{
    return !option_given(options, OPT_NO_WAIT);
}

const Command *
command_find(const char *noun, const char *verb)
{
    for (const Command *c = commands; c->noun != NULL; c++)
        if (g_strcmp0(c->noun, noun) == 0 && (c->verb == NULL || g_strcmp0(c->verb, verb) == 0))
            return c;
    return NULL;
}

int
option_find(const char *name, gssize length)
{
    size_t n = length < 0 ? strlen(name) : (size_t)length;

    for (int id = 0; id < OPT_LAST; id++)
        if (strlen(option_rows[id].name) == n && strncmp(option_rows[id].name, name, n) == 0)
            return id;
    return -1;
}

int
option_find_letter(char letter)
{
    for (int id = 0; id < OPT_LAST; id++)
        if (letter != '\0' && option_rows[id].letter == letter)
            return id;
    return -1;
}

bool
option_allowed(const Command *command, OptionId id)
{
    uint64_t allowed = GLOBAL_OPTIONS | (command != NULL ? command->options : 0);

    return (allowed & OPTION(id)) != 0;
}

char
command_argument(const Command *command, unsigned index)
{
    size_t n = strlen(command->args);

    if (index < n)
        return g_ascii_tolower(command->args[index]);
    if (n > 0 && command->args[n - 1] == 'S')
        return 's';
    return n > 0 && command->args[n - 1] == 'w' ? 'w' : '\0';
}

static bool
check_value(const OptionRow *row, const char *value, GError **error)
{
    guint64 number;

    if (row->kind == VALUE_NUMBER) {
        if (g_ascii_string_to_unsigned(value, 10, 0, G_MAXINT32, &number, NULL))
            return true;
        return error_set(error, ERR_INVALID, "--%s wants a whole number, not '%s'", row->name,
                         value);
    }
    if (row->kind == VALUE_CHOICE && !g_strv_contains(row->choices, value)) {
        g_autofree char *known = g_strjoinv(", ", (char **)row->choices);
        return error_set(error, ERR_INVALID, "--%s does not know '%s'; it knows %s", row->name,
                         value, known);
    }
    if (*value == '\0')
        return error_set(error, ERR_INVALID, "--%s wants a value, not an empty one", row->name);
    return true;
}

static void
forget(Options *options, OptionId id)
{
    if (options->values[id] != NULL)
        g_ptr_array_unref(g_steal_pointer(&options->values[id]));
}

static bool
take_value(Options *options, int id, const char *value, GError **error)
{
    if (value != NULL && !check_value(&option_rows[id], value, error))
        return false;
    if (id == OPT_WAIT || id == OPT_NO_WAIT) /* the last one counts */
        forget(options, id == OPT_WAIT ? OPT_NO_WAIT : OPT_WAIT);
    if (options->values[id] == NULL)
        options->values[id] = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(options->values[id], g_strdup(value != NULL ? value : ""));
    return true;
}

/* Which option is this word, and has it its value with it ("--max=3")? */
static int
look_up(const char *word, const char **ret_value)
{
    const char *equals = strchr(word, '=');

    *ret_value = NULL;
    if (word[1] != '-') /* one letter only; none of them has a value */
        return word[2] == '\0' ? option_find_letter(word[1]) : -1;
    if (equals == NULL)
        return option_find(word + 2, -1);
    *ret_value = equals + 1;
    return option_find(word + 2, equals - word - 2);
}

/* Takes the option at argv[*at], and its value, and moves *at behind what it took. */
static bool
take_option(Options *options, int argc, const char *const *argv, int *at, GError **error)
{
    const char *word = argv[(*at)++];
    const char *value;
    int id = look_up(word, &value);

    if (id < 0)
        return error_set(error, ERR_INVALID, "unknown option '%s'", word);
    if (option_rows[id].kind == VALUE_NONE) {
        if (value != NULL)
            return error_set(error, ERR_INVALID, "--%s takes no value", option_rows[id].name);
        return take_value(options, id, NULL, error);
    }
    if (value == NULL && *at >= argc)
        return error_set(error, ERR_INVALID, "--%s wants %s", option_rows[id].name,
                         option_rows[id].value);
    return take_value(options, id, value != NULL ? value : argv[(*at)++], error);
}

static bool
unknown_command(const char *noun, const char *verb, GError **error)
{
    g_autoptr(GString) known = g_string_new(NULL);
    const char *last = "";
    bool noun_known = false;

    for (const Command *c = commands; c->noun != NULL; c++)
        noun_known = noun_known || g_str_equal(c->noun, noun);
    for (const Command *c = commands; c->noun != NULL; c++) {
        const char *word = noun_known ? c->verb : c->noun;
        if ((noun_known && !g_str_equal(c->noun, noun)) || g_str_equal(word, last))
            continue;
        g_string_append_printf(known, "%s%s", known->len > 0 ? ", " : "", word);
        last = word;
    }
    if (!noun_known)
        return error_set(error, ERR_INVALID, "unknown command '%s'; there are %s", noun,
                         known->str);
    if (verb == NULL)
        return error_set(error, ERR_INVALID, "'%s' wants a verb: %s", noun, known->str);
    return error_set(error, ERR_INVALID, "'%s' has no verb '%s'; it has %s", noun, verb,
                     known->str);
}

/* The first words name the command; they leave args. */
static bool
take_command(Options *options, GError **error)
{
    const char *noun = option_arg(options, 0);
    const char *verb = option_arg(options, 1);
    bool needs_none = option_given(options, OPT_HELP) || option_given(options, OPT_VERSION);

    if (noun == NULL)
        return needs_none || error_set(error, ERR_INVALID, "what to do? There is no command");
    options->command = command_find(noun, verb);
    for (const Command *c = commands; c->noun != NULL; c++)
        if (g_str_equal(c->noun, noun))
            options->noun = c->noun;
    if (options->command == NULL)
        return (needs_none && options->noun != NULL && verb == NULL) ||
               unknown_command(noun, verb, error);
    g_ptr_array_remove_range(options->args, 0, options->command->verb != NULL ? 2 : 1);
    return true;
}

static bool
check_arguments(const Options *options, GError **error)
{
    const Command *command = options->command;
    g_autofree char *usage = help_usage(command);
    size_t wanted = strlen(command->args);
    bool open_end = wanted > 0 && strchr("Sw", command->args[wanted - 1]) != NULL;

    bool optional = wanted == 1 && strchr("VdUi", *command->args) != NULL;
    size_t needed = optional ? 0 : wanted;

    if (g_str_equal(command->args, "w"))
        wanted = needed = 0;
    if (options->args->len < needed)
        return error_set(error, ERR_INVALID, "an argument is missing; usage: %s", usage);
    if (options->args->len > wanted && !open_end)
        return error_set(error, ERR_INVALID, "one argument too many: '%s'; usage: %s",
                         option_arg(options, (unsigned)wanted), usage);
    if (options->values[OPT_DISK] != NULL && options->values[OPT_DISK]->len > 1 &&
        (command->run == snapshot_delete || command->run == plan_show))
        return error_set(error, ERR_INVALID, "'%s%s%s' takes --disk once (without it: all disks)",
                         command->noun, command->verb != NULL ? " " : "",
                         command->verb != NULL ? command->verb : "");
    for (int id = 0; id < OPT_LAST; id++)
        if (option_given(options, id) && !option_allowed(command, id))
            return error_set(error, ERR_INVALID, "--%s means nothing here; usage: %s",
                             option_rows[id].name, usage);
    return true;
}

Options *
options_parse(int argc, const char *const *argv, GError **error)
{
    g_autoptr(Options) options = g_new0(Options, 1);
    bool only_words = false;

    options->args = g_ptr_array_new_with_free_func(g_free);
    for (int at = 1; at < argc;) {
        if (!only_words && g_str_equal(argv[at], "--")) {
            only_words = true;
            at++;
        } else if (!only_words && argv[at][0] == '-' && argv[at][1] != '\0') {
            if (!take_option(options, argc, argv, &at, error))
                return NULL;
        } else {
            g_ptr_array_add(options->args, g_strdup(argv[at++]));
        }
    }
    if (!take_command(options, error))
        return NULL;
    if (options->command != NULL && !option_given(options, OPT_HELP) &&
        !option_given(options, OPT_VERSION) && !check_arguments(options, error))
        return NULL;
    return g_steal_pointer(&options);
}
