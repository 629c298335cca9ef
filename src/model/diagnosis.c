/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model/diagnosis.h"

#include "model/vm.h"

#include <stdarg.h>

static const struct {
    const char *word;
    Severity severity;
    const char *text;
} rows[] = {
#define X(class, word, severity, text) { word, severity, text },
    DIAGNOSIS_TABLE(X)
#undef X
};

static const char *const severity_words[] = { "notice", "warning", "error" };
static const char *const fix_words[] = { "no", "asked", "yes" };

const char *
severity_word(Severity severity)
{
    return severity_words[severity];
}

const char *
diagnosis_word(Diagnosis class)
{
    return class < DIAG_LAST ? rows[class].word : "";
}

const char *
diagnosis_text(Diagnosis class)
{
    return class < DIAG_LAST ? rows[class].text : "";
}

Severity
diagnosis_severity(Diagnosis class)
{
    return class < DIAG_LAST ? rows[class].severity : SEVERITY_NOTICE;
}

Diagnosis
diagnosis_from_word(const char *word)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (g_strcmp0(rows[i].word, word) == 0)
            return (Diagnosis)i;
    return DIAG_LAST;
}

Finding *
finding_new(Diagnosis class, const char *vm_id, const char *vm_name, const char *disk,
            const char *file)
{
    Finding *finding = g_new0(Finding, 1);

    finding->class = class;
    finding->vm_id = g_strdup(vm_id);
    finding->vm_name = g_strdup(vm_name);
    finding->disk = g_strdup(disk);
    finding->file = file != NULL ? g_utf8_make_valid(file, -1) : NULL;
    return finding;
}

void
finding_free(Finding *finding)
{
    if (finding == NULL)
        return;
    g_free(finding->vm_id);
    g_free(finding->vm_name);
    g_free(finding->disk);
    g_free(finding->file);
    g_free(finding->text);
    g_free(finding->fix);
    g_free(finding->help);
    g_free(finding);
}

/* Names of files come from directories: they may be anything. */
static void G_GNUC_PRINTF(2, 0) put_text(char **at, const char *format, va_list args)
{
    g_autofree char *text = g_strdup_vprintf(format, args);

    g_free(*at);
    *at = g_utf8_make_valid(text, -1);
}

void
finding_say(Finding *finding, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    put_text(&finding->text, format, args);
    va_end(args);
}

void
finding_can(Finding *finding, FixKind kind, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    put_text(&finding->fix, format, args);
    va_end(args);
    finding->fix_kind = kind;
}

void
finding_help(Finding *finding, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    put_text(&finding->help, format, args);
    va_end(args);
}

json_t *
finding_to_json(const Finding *finding)
{
    json_t *json = json_pack("{s:s, s:s, s:s}", "class", diagnosis_word(finding->class), "severity",
                             severity_word(diagnosis_severity(finding->class)), "can_fix",
                             fix_words[finding->fix_kind]);

    json_put_text(json, "vm_id", finding->vm_id);
    json_put_text(json, "vm", finding->vm_name);
    json_put_text(json, "disk", finding->disk);
    json_put_text(json, "file", finding->file);
    json_put_text(json, "text", finding->text);
    json_put_text(json, "fix", finding->fix);
    json_put_text(json, "help", finding->help);
    return json;
}

Finding *
finding_from_json(const json_t *json, GError **error)
{
    const char *word = json_text(json, "class"), *can = json_text(json, "can_fix");
    Diagnosis class = diagnosis_from_word(word);
    Finding *finding;

    if (class == DIAG_LAST) {
        error_set(error, ERR_INVALID, "'%s' is no class of the doctor's", word != NULL ? word : "");
        return NULL;
    }
    finding = finding_new(class, json_text(json, "vm_id"), json_text(json, "vm"),
                          json_text(json, "disk"), json_text(json, "file"));
    for (unsigned i = 0; i < G_N_ELEMENTS(fix_words); i++)
        if (g_strcmp0(can, fix_words[i]) == 0)
            finding->fix_kind = (FixKind)i;
    finding->text = g_strdup(json_text(json, "text"));
    finding->fix = g_strdup(json_text(json, "fix"));
    finding->help = g_strdup(json_text(json, "help"));
    return finding;
}

bool
finding_same(const Finding *a, const Finding *b)
{
    return a->class == b->class && g_strcmp0(a->vm_id, b->vm_id) == 0 &&
           g_strcmp0(a->disk, b->disk) == 0 && g_strcmp0(a->file, b->file) == 0;
}

int
finding_compare(const void *a, const void *b)
{
    const Finding *x = *(Finding *const *)a, *y = *(Finding *const *)b;
    int worse = (int)diagnosis_severity(y->class) - (int)diagnosis_severity(x->class);
    int order = worse != 0 ? worse : g_strcmp0(x->vm_name, y->vm_name);

    if (order == 0)
        order = g_strcmp0(x->vm_id, y->vm_id);
    if (order == 0)
        order = g_strcmp0(x->disk, y->disk);
    if (order == 0)
        order = (int)x->class - (int)y->class;
    return order != 0 ? order : g_strcmp0(x->file, y->file);
}

bool
finding_wanted(const Finding *finding, const char *const *classes)
{
    if (finding->fix_kind == FIX_NONE)
        return false;
    if (classes == NULL || *classes == NULL)
        return finding->fix_kind == FIX_SAFE;
    return g_strv_contains(classes, diagnosis_word(finding->class));
}
