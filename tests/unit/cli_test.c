/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The command line without a manager: parsing, texts, drawing, naming.
 */
#include "base/clock.h"
#include "cli/doc.h"
#include "cli/progress.h"
#include "cli/resolve.h"
#include "cli/table.h"
#include "cli/tree.h"
#include "cli_json.h"

#include <string.h>

/* ---- options ---- */

static void
test_parse(void)
{
    static const struct {
        const char *line;
        const char *command; /* "noun verb"; NULL = an error is wanted */
        const char *args;    /* joined by | */
        const char *error;   /* a part of it */
    } rows[] = {
        { "vm list", "vm list", "", NULL },
        { "--json vm list", "vm list", "", NULL },
        { "vm --json list", "vm list", "", NULL },
        { "vm list --json --connect unix:/x", "vm list", "", NULL },
        { "vm show a", "vm show", "a", NULL },
        { "vm show", NULL, NULL, "argument is missing" },
        { "vm show a b", NULL, NULL, "one argument too many: 'b'" },
        { "vm", NULL, NULL, "wants a verb: list, show" },
        { "vm fly", NULL, NULL, "no verb 'fly'" },
        { "cow list", NULL, NULL,
          "unknown command 'cow'; there are vm, snapshot, plan, storage, job" },
        { "vm list --frobnicate", NULL, NULL, "unknown option '--frobnicate'" },
        { "vm list -z", NULL, NULL, "unknown option '-z'" },
        { "vm list -yz", NULL, NULL, "unknown option '-yz'" },
        { "vm list --memory", NULL, NULL, "--memory means nothing here" },
        { "vm list --json=yes", NULL, NULL, "--json takes no value" },
        { "vm list --connect", NULL, NULL, "--connect wants ADDRESS" },
        { "vm list --connect=", NULL, NULL, "not an empty one" },
        { "snapshot create v n --memory --quiesce=require --disk vda --disk=vdb", "snapshot create",
          "v|n", NULL },
        { "snapshot create v n --quiesce maybe", NULL, NULL, "it knows no, auto, require" },
        { "snapshot create v -- --odd-name", "snapshot create", "v|--odd-name", NULL },
        { "snapshot create v -", "snapshot create", "v|-", NULL },
        { "snapshot delete v a b c -y --strategy commit --bandwidth 100", "snapshot delete",
          "v|a|b|c", NULL },
        { "snapshot delete v", NULL, NULL, "argument is missing" },
        { "snapshot delete v a --strategy magic", NULL, NULL, "does not know 'magic'" },
        { "snapshot delete v a --bandwidth fast", NULL, NULL, "whole number, not 'fast'" },
        { "snapshot delete v a --bandwidth -3", NULL, NULL, "whole number, not '-3'" },
        { "snapshot delete v a --disk x --disk y", NULL, NULL, "takes --disk once" },
        { "snapshot preview v a --disk x --disk y", "snapshot preview", "v|a", NULL },
        { "snapshot restore v a --disk x --disk y", "snapshot restore", "v|a", NULL },
        { "snapshot delete v a -n --verify full", "snapshot delete", "v|a", NULL },
        { "vm describe v", NULL, NULL, "usage: livemerge vm describe VM TEXT" },
        { "snapshot delete v a --verify maybe", NULL, NULL, "it knows extents, none, full" },
        { "snapshot delete v a --all-options", NULL, NULL, "--all-options means nothing here" },
        { "plan v a b --all-options --strategy graft --verify=none --disk vda", "plan", "v|a|b",
          NULL },
        { "plan v", NULL, NULL, "usage: livemerge plan VM SNAPSHOT..." },
        { "plan", NULL, NULL, "argument is missing" },
        { "plan v a --bandwidth 5", NULL, NULL, "--bandwidth means nothing here" },
        { "plan v a --disk x --disk y", NULL, NULL, "'plan' takes --disk once" },
        { "job resume 12 --wait", "job resume", "12", NULL },
        { "snapshot rename v a b", "snapshot rename", "v|a|b", NULL },
        { "snapshot rename v a", NULL, NULL, "usage: livemerge snapshot rename VM SNAPSHOT NAME" },
        { "job watch 12 --timeout 5", "job watch", "12", NULL },
        { "job watch 12 --timeout 99999999999", NULL, NULL, "whole number" },
        { "event list --max 5 --from=3", "event list", "", NULL },
        { "event follow --max 5", NULL, NULL, "--max means nothing here" },
        { "help snapshot delete", "help", "snapshot|delete", NULL },
        { "version", "version", "", NULL },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *line = g_strconcat("livemerge ", rows[i].line, NULL);
        g_auto(GStrv) argv = g_strsplit(line, " ", -1);
        g_autoptr(GError) error = NULL;
        g_autoptr(Options) o =
            options_parse((int)g_strv_length(argv), (const char *const *)argv, &error);
        g_test_message("%s", rows[i].line);
        if (rows[i].command == NULL) {
            g_assert_error(error, ERR, ERR_INVALID);
            if (strstr(error->message, rows[i].error) == NULL)
                g_error("'%s' says '%s', wanted '%s'", rows[i].line, error->message, rows[i].error);
            continue;
        }
        g_assert_no_error(error);
        g_autofree char *name =
            g_strdup_printf("%s%s%s", o->command->noun, o->command->verb != NULL ? " " : "",
                            o->command->verb != NULL ? o->command->verb : "");
        g_assert_cmpstr(name, ==, rows[i].command);
        g_ptr_array_add(o->args, NULL);
        g_autofree char *args = g_strjoinv("|", (char **)o->args->pdata);
        g_assert_cmpstr(args, ==, rows[i].args);
    }
}

static void
test_tables(void)
{
    g_autofree char *all = help_noun(NULL);

    for (int id = 0; id < OPT_LAST; id++) {
        g_assert_nonnull(option_rows[id].name);
        g_assert_nonnull(option_rows[id].help);
        g_assert_cmpint(option_find(option_rows[id].name, -1), ==, id);
        g_assert_true((option_rows[id].kind == VALUE_NONE) == (option_rows[id].value == NULL));
        g_assert_true((option_rows[id].kind == VALUE_CHOICE) == (option_rows[id].choices != NULL));
    }
    for (const Command *c = commands; c->noun != NULL; c++) {
        g_autofree char *text = help_command(c);
        g_autofree char *usage = help_usage(c);
        g_assert_true(command_find(c->noun, c->verb) == c);
        g_assert_nonnull(c->run);
        g_assert_nonnull(strstr(text, usage));
        g_assert_nonnull(strstr(all, c->help));
    }
}

static void
test_wait_options(void)
{
    static const struct {
        const char *words[4];
        bool waits;
    } rows[] = {
        { { "livemerge", "version", NULL }, true },
        { { "livemerge", "version", "--no-wait", NULL }, false },
        { { "livemerge", "--no-wait", "version", "--wait" }, true },
        { { "livemerge", "--wait", "--no-wait", "version" }, false },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        int n = 0;
        while (n < 4 && rows[i].words[n] != NULL)
            n++;
        g_autoptr(Options) o = options_parse(n, rows[i].words, NULL);
        g_assert_nonnull(o);
        g_assert_true(option_waits(o) == rows[i].waits);
    }
}

/* ---- texts ---- */

static void
test_escape(void)
{
    static const struct {
        const char *text, *wanted;
    } rows[] = {
        { "plain name", "plain name" },
        { "größe 大", "größe 大" },
        { "a\nb\tc\r", "a\\nb\\tc\\r" },
        { "\x1b[31mred", "\\x1b[31mred" },
        { "\x7f", "\\x7f" },
        { "\xc2\x9b"
          "31m",
          "\\u009b31m" }, /* CSI as one character */
        { "a\xe2\x80\xae"
          "b",
          "a\\u202eb" }, /* right-to-left override */
        { "bad\xff\xfe", "bad\\xff\\xfe" },
        { "cut\xe2\x82", "cut\\xe2\\x82" },
        { "", "" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = escape_text(rows[i].text, false);
        g_assert_cmpstr(text, ==, rows[i].wanted);
    }
    g_autofree char *lines = escape_text("a\nb\x1b", true);
    g_assert_cmpstr(lines, ==, "a\nb\\x1b");
}

static void
test_times(void)
{
    static const struct {
        int64_t seconds_ago;
        const char *age;
    } ages[] = {
        { -3600, "" },
        { -3, "just now" },
        { 0, "just now" },
        { 35, "35 s ago" },
        { 60, "1 min ago" },
        { 3599, "59 min ago" },
        { 3600, "1 h ago" },
        { 47 * 3600, "47 h ago" },
        { 2 * 86400, "2 days ago" },
        { 21 * 86400, "3 weeks ago" },
        { 90 * 86400, "3 months ago" },
        { 800 * 86400, "2 years ago" },
    };
    static const struct {
        double seconds;
        const char *text;
    } durations[] = {
        { -1, "" },  { 0, "0 s" }, { 8.4, "8 s" }, { 130, "2 min 10 s" }, { 11100, "3 h 5 min" },
        { 1e30, "" }
    };

    clock_fake(1800000000000);
    for (size_t i = 0; i < G_N_ELEMENTS(ages); i++) {
        g_autofree char *date = clock_iso8601(1800000000000 - ages[i].seconds_ago * 1000);
        g_autofree char *age = age_text(date);
        g_assert_cmpstr(age, ==, ages[i].age);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(durations); i++) {
        g_autofree char *text = duration_text(durations[i].seconds);
        g_assert_cmpstr(text, ==, durations[i].text);
    }
    g_autofree char *date = date_text("2026-01-31T12:34:56.789Z");
    g_assert_cmpstr(date, ==, "2026-01-31 12:34:56"); /* main() sets TZ=UTC */
    g_autofree char *offset = date_text("2026-01-31T12:34:56+01:00");
    g_assert_cmpstr(offset, ==, "2026-01-31 11:34:56");
    g_autofree char *nonsense = date_text("yesterday");
    g_assert_cmpstr(nonsense, ==, "");
    g_assert_cmpfloat(seconds_between("2026-01-31T12:00:00Z", "2026-01-31T12:00:01.500Z"), ==, 1.5);
    g_assert_cmpfloat(seconds_between("2026-01-31T12:00:00Z", ""), ==, -1);
}

static void
test_doc(void)
{
    g_autoptr(json_t) doc = parse("{\"n\":5,\"s\":\"7\",\"t\":true,\"u\":\"TRUE\",\"o\":{\"p\":"
                                  "\"x\"},\"d\":{\"disk\":[1,2]},\"e\":[3],\"neg\":-4}");

    g_assert_cmpuint(doc_bytes(doc, "n"), ==, 5);
    g_assert_cmpuint(doc_bytes(doc, "s"), ==, 7);
    g_assert_cmpuint(doc_bytes(doc, "neg"), ==, 0);
    g_assert_cmpuint(doc_bytes(doc, "o"), ==, 0);
    g_assert_true(doc_bool(doc, "t") && doc_bool(doc, "u") && !doc_bool(doc, "n"));
    g_assert_cmpstr(doc_text(doc, "o.p"), ==, "x");
    g_assert_cmpstr(doc_text(doc, "o.p.q"), ==, "");
    g_assert_cmpstr(doc_text(NULL, "o"), ==, "");
    g_assert_cmpuint(json_array_size(doc_items(doc, "d", "disk")), ==, 2);
    g_assert_cmpuint(json_array_size(doc_items(doc, "e", "disk")), ==, 1);
    g_assert_null(doc_items(doc, "o", "disk"));
}

static void
test_table(void)
{
    g_autoptr(Table) table = table_new("NAME", ">SIZE", "NOTE", NULL);
    table_row(table, "a", "1 B", "short");
    table_row(table, "大き", "1000 B", "this one is long and has to be wrapped somewhere");
    table_row(table, "e\x1b[2J", "", NULL);

    g_autofree char *plain = table_text(table, 0);
    g_assert_cmpstr(plain, ==,
                    "NAME        SIZE  NOTE\n"
                    "a            1 B  short\n"
                    "大き      1000 B  this one is long and has to be wrapped somewhere\n"
                    "e\\x1b[2J       -  -\n");
    g_autofree char *narrow = table_text(table, 40);
    g_assert_cmpstr(narrow, ==,
                    "NAME        SIZE  NOTE\n"
                    "a            1 B  short\n"
                    "大き      1000 B  this one is long and\n"
                    "                  has to be wrapped\n"
                    "                  somewhere\n"
                    "e\\x1b[2J       -  -\n");
}

/* ---- tree ---- */

#define SNAP(id, name, date, parent)                                                          \
    "{\"id\":\"" id "\",\"description\":\"" name "\",\"date\":\"2027-01-1" date               \
    "T08:00:00Z\",\"snapshot_type\":\"regular\",\"snapshot_status\":\"ok\",\"size\":1048576," \
    "\"persist_memorystate\":false,\"parent\":{\"id\":\"" parent "\"}}"
#define ACTIVE(id, parent)                                                                \
    "{\"id\":\"" id "\",\"description\":\"Active VM\",\"date\":\"2027-01-01T00:00:00Z\"," \
    "\"snapshot_type\":\"active\",\"snapshot_status\":\"ok\",\"parent\":{\"id\":\"" parent "\"}}"

/* Only the first column, and the status: the rest depends on dates. */
static char *
draw(const char *items, bool utf8)
{
    g_autoptr(json_t) doc = parse(items);
    g_autofree char *text = tree_text(doc, 0, utf8);
    g_auto(GStrv) lines = g_strsplit(g_strchomp(text), "\n", -1);
    GString *out = g_string_new(NULL);

    for (char **line = lines + 1; *line != NULL; line++) {
        char *gap = strstr(*line, "  id");
        g_string_append_len(out, *line, gap != NULL ? gap - *line : (gssize)strlen(*line));
        g_strchomp(out->str);
        out->len = strlen(out->str);
        g_string_append_c(out, '\n');
    }
    return g_string_free(out, FALSE);
}

static void
test_tree(void)
{
    static const struct {
        const char *items, *wanted;
    } rows[] = {
        { "[]", "" },
        { "[" ACTIVE("id0", "") "]", "└─ you are here\n" },
        { "[" ACTIVE("id0", "id2") "," SNAP("id2", "two", "2", "id1") "," SNAP("id1", "one", "1",
                                                                               "") "]",
          "┌─ one\n├─ two\n└─ you are here\n" },
        /* a branch below "one" */
        { "[" ACTIVE("id0", "id4") "," SNAP("id1", "one", "1", "") "," SNAP(
              "id2", "exp", "2", "id1") "," SNAP("id3", "exp2", "3",
                                                 "id2") "," SNAP("id4", "four", "4", "id1") "]",
          "┌─ one\n│  ├─ exp\n│  └─ exp2\n├─ four\n└─ you are here\n" },
        /* the active one grew out of an old snapshot: its line stays outermost */
        { "[" ACTIVE("id0", "id1") "," SNAP("id1", "one", "1", "") "," SNAP("id2", "two", "2",
                                                                            "id1") "]",
          "┌─ one\n│  └─ two\n└─ you are here\n" },
        /* a branch of a branch */
        { "[" ACTIVE("id0", "id1") "," SNAP("id1", "one", "1", "") "," SNAP(
              "id2", "two", "2", "id1") "," SNAP("id3", "a", "3", "id2") "," SNAP("id4", "b", "4",
                                                                                  "id2") "]",
          "┌─ one\n│  ├─ two\n│  │  └─ a\n│  └─ b\n└─ you are here\n" },
        /* parents that are a loop or unknown are drawn all the same */
        { "[" SNAP("id1", "one", "1", "id2") "," SNAP("id2", "two", "2", "id1") "," SNAP(
              "id3", "three", "3", "nobody") "," ACTIVE("id0", "id0") "]",
          "┌─ two\n└─ one\n└─ three\n└─ you are here\n" },
        /* a name that would draw */
        { "[" SNAP("id1", "x\\u001b[2Jy\\n", "1", "") "]", "└─ x\\x1b[2Jy\\n\n" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = draw(rows[i].items, true);
        g_assert_cmpstr(text, ==, rows[i].wanted);
    }
    g_autofree char *ascii = draw(rows[3].items, false);
    g_assert_cmpstr(ascii, ==, ",- one\n|  |- exp\n|  `- exp2\n|- four\n`- you are here\n");
}

static void
test_tree_columns(void)
{
    g_autoptr(json_t) items =
        parse("[{\"id\":\"0123456789\",\"description\":\"n\",\"date\":\"2026-01-31T12:34:56Z\","
              "\"snapshot_type\":\"regular\",\"snapshot_status\":\"ok\",\"size\":\"2097152\","
              "\"persist_memorystate\":\"true\",\"unusable\":\"file is missing\"}]");
    clock_fake(1800000000000);
    g_autofree char *text = tree_text(items, 0, true);

    g_assert_cmpstr(text, ==,
                    "NAME  ID        DATE                                    SIZE  MEMORY  STATUS\n"
                    "└─ n  01234567  2026-01-31 12:34:56 (11 months ago)  2.0 MiB  yes     "
                    "unusable: file is missing\n");
}

/* ---- jobs ---- */

static const char job_text[] =
    "{\"id\":\"j1\",\"status\":\"started\",\"progress\":{\"percent\":42,\"bytes_done\":440401920,"
    "\"bytes_total\":1073741824,\"rate\":104857600,\"eta\":6},\"disks\":{\"disk\":[{\"name\":"
    "\"vda\",\"phase\":\"commit\",\"strategy\":\"commit\",\"status\":\"finished\",\"bytes_copied\":"
    "1048576,\"seconds\":1.25,\"pauses\":[{\"kind\":\"pivot\",\"milliseconds\":12},{\"kind\":"
    "\"pivot\",\"milliseconds\":35}],\"volumes_removed\":[\"a\",\"b\"]},{\"name\":\"v\\u001bdb\","
    "\"phase\":\"pivot\",\"strategy\":\"commit-active\",\"status\":\"failed\",\"bytes_copied\":0,"
    "\"pauses\":[],\"volumes_removed\":[],\"error\":\"the disk is full\"}]}}";

static void
test_progress(void)
{
    g_autoptr(json_t) job = parse(job_text);
    g_autofree char *line = progress_line(job);
    g_autofree char *bar = progress_bar(job, 200, false);
    g_autofree char *cut = progress_bar(job, 40, true);
    g_autofree char *table = job_disks_text(job, 0);
    g_autoptr(json_t) nothing = json_object();
    g_autofree char *empty = job_disks_text(nothing, 0);
    g_autofree char *bare = progress_line(nothing);

    g_assert_cmpstr(line, ==,
                    "42 %, 420.0 MiB of 1.0 GiB, 100.0 MiB/s, ETA 6 s; vda: commit, "
                    "v\\x1bdb: pivot");
    g_assert_cmpstr(bar, ==,
                    "[##########..............]  42 %  420.0 MiB of 1.0 GiB  100.0 MiB/s  ETA 6 s  "
                    "vda: commit, v\\x1bdb: pivot");
    g_assert_cmpuint(text_width(cut), ==, 39);
    g_assert_cmpstr(
        table, ==,
        "DISK     STRATEGY        COPIED   TIME  LONGEST PAUSE  VOLUMES REMOVED  STATUS\n"
        "vda      commit         1.0 MiB  1.2 s          35 ms                2  finished\n"
        "v\\x1bdb  commit-active      0 B      -              -                0  the disk is "
        "full\n");
    g_assert_cmpstr(empty, ==, "");
    g_assert_cmpstr(bare, ==, "0 %");
    g_assert_false(job_ended(job) || job_finished_well(job) || job_ended(nothing));
}

/* ---- names ---- */

static void
test_resolve(void)
{
    static const ResolveKind kind = { "VM", "name", NULL, "livemerge vm list" };
    g_autoptr(json_t) items =
        parse("[{\"id\":\"aaaa1111\",\"name\":\"web\"},{\"id\":\"aaab2222\",\"name\":\"web2\"},"
              "{\"id\":\"cccc3333\",\"name\":\"db\"},{\"id\":\"dddd4444\",\"name\":\"twin\"},"
              "{\"id\":\"eeee5555\",\"name\":\"twin\"},{\"id\":\"ffff\",\"name\":\"e\\u001bvil\"},"
              "{\"id\":\"9999\",\"name\":\"Active VM\",\"snapshot_type\":\"active\"}]");
    static const struct {
        const char *word, *id;
        ErrorCode code;
        const char *message;
    } rows[] = {
        { "web", "aaaa1111", ERR_LAST, NULL }, /* exact wins over being a prefix of web2 */
        { "web2", "aaab2222", ERR_LAST, NULL },
        { "d", NULL, ERR_INVALID, "fits 2 VMs" }, /* db, and the id dddd4444 */
        { "db", "cccc3333", ERR_LAST, NULL },
        { "cccc", "cccc3333", ERR_LAST, NULL },
        { "CCCC3333", "cccc3333", ERR_LAST, NULL },
        { "aaa", NULL, ERR_INVALID, "aaab2222  web2" },
        { "twin", NULL, ERR_INVALID, "eeee5555  twin" },
        { "eeee", "eeee5555", ERR_LAST, NULL },
        { "we", NULL, ERR_INVALID, "'we' fits 2 VMs" },
        { "nobody", NULL, ERR_NOT_FOUND, "no VM 'nobody'; what there is: livemerge vm list" },
        { "no\x1b[2J", NULL, ERR_NOT_FOUND, "no\\x1b[2J" },
        { "", NULL, ERR_INVALID, "empty" },
        { "Active VM", "9999", ERR_LAST, NULL },
        { "Act", NULL, ERR_NOT_FOUND, "no VM" },
        { "../vms", NULL, ERR_NOT_FOUND, "../vms" },
        { "e\x1bv", "ffff", ERR_LAST, NULL },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(json_t) item = resolve_word(&kind, items, rows[i].word, &error);
        g_test_message("'%s'", rows[i].word);
        if (rows[i].id != NULL) {
            g_assert_no_error(error);
            g_assert_cmpstr(doc_text(item, "id"), ==, rows[i].id);
            continue;
        }
        g_assert_null(item);
        g_assert_error(error, ERR, (int)rows[i].code);
        if (strstr(error->message, rows[i].message) == NULL)
            g_error("'%s' gives '%s', wanted '%s'", rows[i].word, error->message, rows[i].message);
    }
}

int
main(int argc, char **argv)
{
    g_setenv("TZ", "UTC", TRUE);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli/parse", test_parse);
    g_test_add_func("/cli/tables", test_tables);
    g_test_add_func("/cli/wait-options", test_wait_options);
    g_test_add_func("/cli/escape", test_escape);
    g_test_add_func("/cli/doc", test_doc);
    g_test_add_func("/cli/table", test_table);
    g_test_add_func("/cli/tree", test_tree);
    g_test_add_func("/cli/progress", test_progress);
    g_test_add_func("/cli/resolve", test_resolve);
    /* last: from here on the clock stands still */
    g_test_add_func("/cli/times", test_times);
    g_test_add_func("/cli/tree-columns", test_tree_columns);
    return g_test_run();
}
