/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * docs/states.md, as the table of verbs_table.c says.
 */
#include "model/verbs.h"

#include <string.h>

static int
http_status(ErrorCode code)
{
    g_autoptr(GError) error = NULL;

    error_set(&error, code, "x");
    return error_http_status(error);
}

static const char *
code_word(ErrorCode code)
{
    g_autoptr(GError) error = NULL;

    error_set(&error, code, "x");
    return error_word(error);
}

/* The refusals that the table of states names, each once. */
typedef struct {
    Refusal list[64];
    size_t n;
} Notes;

static size_t
note_number(Notes *notes, const Refusal *refusal)
{
    size_t i = 0;

    while (i < notes->n &&
           (notes->list[i].why != refusal->why || notes->list[i].help != refusal->help ||
            !g_str_equal(notes->list[i].key, refusal->key)))
        i++;
    if (i == notes->n) {
        g_assert(notes->n < G_N_ELEMENTS(notes->list));
        notes->list[notes->n++] = *refusal;
    }
    return i + 1;
}

static void
put_refusal(GString *out, const Refusal *refusal)
{
    g_string_append_printf(out, "| %d %s | %s%s%s | %s%s%s |", http_status(refusal->code),
                           code_word(refusal->code), *refusal->key != '\0' ? "`" : "", refusal->key,
                           *refusal->key != '\0' ? "`" : "", refusal->why,
                           *refusal->help != '\0' ? "; " : "", refusal->help);
}

static void
put_states(GString *out)
{
    Notes notes = { 0 };

    g_string_append(out, "| operation |");
    for (VmState state = 0; state < VM_STATE_LAST; state++)
        g_string_append_printf(out, " %s |", vm_state_word(state));
    g_string_append(out, "\n| --- |");
    for (VmState state = 0; state < VM_STATE_LAST; state++)
        g_string_append(out, " --- |");
    for (Verb verb = 0; verb < VERB_LAST; verb++) {
        if (verb_subject(verb) == SUBJECT_JOB)
            continue;
        g_string_append_printf(out, "\n| `%s` |", verb_name(verb));
        for (VmState state = 0; state < VM_STATE_LAST; state++) {
            Refusal refusal;
            if (verb_state_refuses(verb, state, &refusal))
                g_string_append_printf(out, " %zu |", note_number(&notes, &refusal));
            else
                g_string_append(out, " yes |");
        }
    }
    g_string_append(out, "\n\n| | status, code | oVirt's key | why, and what helps |\n"
                         "| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < notes.n; i++) {
        g_string_append_printf(out, "| %zu ", i + 1);
        put_refusal(out, &notes.list[i]);
        g_string_append_c(out, '\n');
    }
}

/* For each refusal of the condition, who gets it: most conditions have one. */
static void
put_condition(GString *out, Condition condition)
{
    const char *said[VERB_LAST] = { NULL };
    Refusal refusal, other;

    for (Verb verb = 0; verb < VERB_LAST; verb++) {
        if (said[verb] != NULL || !verb_condition_refuses(verb, condition, &refusal))
            continue;
        g_string_append_printf(out, "| %s ", condition_text(condition));
        put_refusal(out, &refusal);
        for (Verb same = verb; same < VERB_LAST; same++) {
            if (!verb_condition_refuses(same, condition, &other) || other.key != refusal.key ||
                other.why != refusal.why)
                continue;
            g_string_append_printf(out, "%s`%s`", same == verb ? " " : ", ", verb_name(same));
            said[same] = refusal.key;
        }
        g_string_append(out, " |\n");
    }
}

char *
states_document(void)
{
    GString *out = g_string_new(
        "# What can be done in which state\n\n"
        "Written by `make docs` from the table that manager and agent ask "
        "(`src/model/verbs_table.c`). "
        "A refusal is a fault with this\n"
        "status, `code`, `key`, `why` and `help` ([api.md](api.md)); `?operations=true` tells it "
        "before anything is tried.\n\n"
        "## By the state of the VM\n\n");

    put_states(out);
    g_string_append(out, "\n## By what else is so\n\n"
                         "The first that applies is told. What is in braces is filled in.\n\n"
                         "| if | status, code | oVirt's key | why, and what helps | refused |\n"
                         "| --- | --- | --- | --- | --- |\n");
    for (Condition condition = 0; condition < CONDITION_LAST; condition++) {
        if (condition == COND_STATE)
            g_string_append_printf(out, "| %s | | | | |\n", condition_text(condition));
        put_condition(out, condition);
    }
    return g_string_free(out, FALSE);
}
