/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/model/diagnosis.c: the table of classes, and a finding's way as JSON.
 */
#include "model/diagnosis.h"

static void
test_table(void)
{
    for (unsigned i = 0; i < DIAG_LAST; i++) {
        const char *word = diagnosis_word((Diagnosis)i);
        g_assert_cmpint(diagnosis_from_word(word), ==, i); /* so words are unique */
        g_assert_true(g_regex_match_simple("^[a-z]+(-[a-z]+)*$", word, 0, 0));
        g_assert_cmpstr(diagnosis_text((Diagnosis)i), !=, "");
    }
    g_assert_cmpint(diagnosis_from_word("headache"), ==, DIAG_LAST);
    g_assert_cmpint(diagnosis_from_word(NULL), ==, DIAG_LAST);
    g_assert_cmpstr(severity_word(diagnosis_severity(DIAG_LOOP)), ==, "error");
    g_assert_cmpstr(severity_word(diagnosis_severity(DIAG_LEFTOVER_BUILD)), ==, "notice");
}

static void
test_json(void)
{
    g_autoptr(Finding) finding = finding_new(DIAG_STALE_LEAF, "id", "web", "vda", "/x/\xff.qcow2");
    g_autoptr(Finding) other = finding_new(DIAG_STALE_LEAF, "id", "renamed", "vda", "/x/y");
    g_autoptr(GError) error = NULL;

    finding_say(finding, "said %s", "first");
    finding_say(finding, "it is \xff %s", "so");
    finding_can(finding, FIX_ASKED, "does %d", 7);
    g_autoptr(json_t) json = finding_to_json(finding);
    g_assert_nonnull(json);
    g_autoptr(Finding) back = finding_from_json(json, &error);
    g_assert_no_error(error);
    g_assert_true(finding_same(finding, back));
    g_assert_cmpint(back->fix_kind, ==, FIX_ASKED);
    g_assert_cmpstr(back->text, ==, "it is \xef\xbf\xbd so");
    g_assert_cmpstr(back->fix, ==, "does 7");
    g_assert_null(back->help);
    g_autoptr(json_t) again = finding_to_json(back);
    g_assert_true(json_equal(json, again));
    g_assert_false(finding_same(finding, other));
    g_free(other->file);
    other->file = g_strdup(finding->file);
    g_assert_true(finding_same(finding, other)); /* a VM's new name is no other finding */

    json_object_set_new(json, "class", json_string("headache"));
    g_assert_null(finding_from_json(json, &error));
    g_assert_error(error, ERR, ERR_INVALID);
}

static void
test_order(void)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)finding_free);
    static const struct {
        Diagnosis class;
        const char *vm, *disk;
    } rows[] = {
        { DIAG_ABSOLUTE_PATH, "a", "vda" },
        { DIAG_LOOP, "b", "vdb" },
        { DIAG_LOOP, "b", "vda" },
        { DIAG_LEFTOVER_BUILD, NULL, NULL },
        { DIAG_FOREIGN_OVERLAY, "a", "vda" },
        { DIAG_STALE_LEAF, "a", "vda" },
    };
    static const unsigned wanted[] = { 5, 2, 1, 4, 3, 0 };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *number = g_strdup_printf("%zu", i);
        g_ptr_array_add(list,
                        finding_new(rows[i].class, rows[i].vm, rows[i].vm, rows[i].disk, number));
    }
    g_ptr_array_sort(list, finding_compare);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *number = g_strdup_printf("%u", wanted[i]);
        g_assert_cmpstr(((Finding *)list->pdata[i])->file, ==, number);
    }
}

static void
test_wanted(void)
{
    const char *const none[] = { NULL }, *const job[] = { "foreign-job", NULL },
                      *const other[] = { "loop", "leftover-trash", NULL };
    static const struct {
        FixKind kind;
        bool plain, named, otherwise;
    } rows[] = {
        { FIX_NONE, false, false, false },
        { FIX_ASKED, false, true, false },
        { FIX_SAFE, true, true, false },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Finding) finding = finding_new(DIAG_FOREIGN_JOB, NULL, NULL, NULL, NULL);
        finding->fix_kind = rows[i].kind;
        g_assert_cmpint(finding_wanted(finding, NULL), ==, rows[i].plain);
        g_assert_cmpint(finding_wanted(finding, none), ==, rows[i].plain);
        g_assert_cmpint(finding_wanted(finding, job), ==, rows[i].named);
        g_assert_cmpint(finding_wanted(finding, other), ==, rows[i].otherwise);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/diagnosis/table", test_table);
    g_test_add_func("/diagnosis/json", test_json);
    g_test_add_func("/diagnosis/order", test_order);
    g_test_add_func("/diagnosis/wanted", test_wanted);
    return g_test_run();
}
