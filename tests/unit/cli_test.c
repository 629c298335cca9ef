/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The command line: parsing, drawing, naming, and whole runs against a fake manager.
 */
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/complete.h"
#include "cli/doc.h"
#include "cli/plan.h"
#include "cli/progress.h"
#include "cli/resolve.h"
#include "cli/table.h"
#include "cli/tree.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static json_t *
parse(const char *text)
{
    json_error_t problem;
    json_t *doc = json_loads(text, JSON_DECODE_ANY, &problem);

    if (doc == NULL)
        g_error("the test's own JSON is wrong at %d: %s", problem.position, problem.text);
    return doc;
}

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
        { "snapshot delete v a -n --verify full", "snapshot delete", "v|a", NULL },
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
                    "ok, unusable: file is missing\n");
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

/* ---- plans ---- */

#define COSTS(written, peak, freed, seconds, pauses)                                \
    "\"bytes_read\":" written ",\"bytes_written\":" written ",\"space_peak\":" peak \
    ",\"space_freed\":" freed ",\"seconds\":" seconds ",\"pauses\":" pauses ",\"pause_ms\":30.0"
#define VOLUME(name) "{\"id\":\"" name "\",\"path\":\"/x/" name ".qcow2\"}"

static const char plan_good[] =
    "{\"vm\":{\"name\":\"web\"},\"possible\":true,\"wanted\":\"auto\",\"verify\":\"extents\","
    "\"exact\":true,\"totals\":{" COSTS(
        "3145728", "1048576", "1048576", "1.5",
        "1") "},"
             "\"runs\":{\"run\":[{\"disk\":{\"id\":\"d1\",\"name\":\"vda\"},\"strategy\":"
             "\"commit\","
             "\"volumes\":[" VOLUME("a") "," VOLUME("b") "," VOLUME("c") "]," COSTS(
                 "1048576", "1048576", "2097152", "0.5",
                 "0") ",\"options\":[{\"strategy\":\"commit\","
                      "\"possible\":true," COSTS(
                          "1048576", "1048576", "2097152", "0.5",
                          "0") "},{\"strategy\":"
                               "\"graft\",\"possible\":false,\"why\":\"/x cannot share "
                               "blocks\"},{\"strategy\":\"copy\","
                               "\"possible\":true," COSTS(
                                   "4194304", "4194304", "-1048576", "2.0",
                                   "1") "}]},"
                                        "{\"disk\":{\"id\":\"d2\",\"name\":\"vdb\"},\"strategy\":"
                                        "\"copy\",\"volumes\":[" VOLUME("a") "," VOLUME("b") "," VOLUME(
                                            "c") "," VOLUME("d") "],\"kept\":[\"/x/"
                                                                 "a.qcow2\"]," COSTS(
                                                                     "2097152", "2097152",
                                                                     "-1048576", "1.0",
                                                                     "1") ",\"optio"
                                                                          "ns\":[{"
                                                                          "\"strate"
                                                                          "gy\":"
                                                                          "\"copy\""
                                                                          ","
                                                                          "\"possib"
                                                                          "le\":"
                                                                          "true"
                                                                          "," COSTS("2097"
                                                                                    "152",
                                                                                    "2097"
                                                                                    "152",
                                                                                    "-104"
                                                                                    "857"
                                                                                    "6",
                                                                                    "1.0",
                                                                                    "1") "}]}]}}";

static const char plan_bad[] =
    "{\"possible\":false,\"why\":\"disk vda of VM 'web': VM we\\u001bb2 stands on it\","
    "\"code\":\"refused\",\"exact\":true,\"totals\":{" COSTS(
        "0", "0", "0", "0",
        "0") "},"
             "\"runs\":{\"run\":[{\"disk\":{\"id\":\"d1\",\"name\":\"vda\"},\"strategy\":"
             "\"commit\","
             "\"volumes\":[" VOLUME("a") "," VOLUME("b") "]," COSTS(
                 "5", "5", "5", "5",
                 "0") ",\"options\":[{\"strategy\":\"commit\",\"possible\":false,\"why\":\"VM "
                      "we\\u001bb2 stands on "
                      "it\"}]},{\"disk\":{\"id\":\"d2\",\"name\":\"vdb\"},\"strategy\":\"commit\","
                      "\"volumes\":[" VOLUME("c") "," VOLUME("d") "]," COSTS(
                          "5", "5", "5", "5",
                          "0") ",\"options\":[{\"strategy\":\"commit\",\"possible\":false,\"why\":"
                               "\"c is read-only\"}]}]}}";

static void
test_plan_text(void)
{
    static const char none[] = "{\"possible\":true,\"exact\":false,\"runs\":{\"run\":[]}}";
    static const struct {
        const char *plan;
        bool utf8, all;
        const char *wanted;
    } rows[] = {
        { plan_good, true, false,
          "DISK   STRATEGY   COPIES  EXTRA SPACE     FREED    TIME     PAUSES  MERGES\n"
          "vda    commit    1.0 MiB      1.0 MiB   2.0 MiB  500 ms       none  "
          "a.qcow2 \u2190 b.qcow2 \u2190 c.qcow2\n"
          "vdb    copy      2.0 MiB      2.0 MiB  -1.0 MiB   1.0 s  1 x 30 ms  "
          "a.qcow2 \u2190 \u2026 \u2190 d.qcow2 (4 volumes)\n"
          "total  -         3.0 MiB      1.0 MiB   1.0 MiB   1.5 s  1 x 30 ms  -\n"
          "\n"
          "/x/a.qcow2 stays: others stand on it.\n" },
        { plan_good, false, true,
          "DISK   STRATEGY   COPIES  EXTRA SPACE     FREED    TIME     PAUSES  MERGES\n"
          "vda    commit    1.0 MiB      1.0 MiB   2.0 MiB  500 ms       none  "
          "a.qcow2 <- b.qcow2 <- c.qcow2\n"
          "vdb    copy      2.0 MiB      2.0 MiB  -1.0 MiB   1.0 s  1 x 30 ms  "
          "a.qcow2 <- ... <- d.qcow2 (4 volumes)\n"
          "total  -         3.0 MiB      1.0 MiB   1.0 MiB   1.5 s  1 x 30 ms  -\n"
          "\n"
          "vda: a.qcow2 <- b.qcow2 <- c.qcow2\n"
          "OPTION   COPIES  EXTRA SPACE     FREED    TIME     PAUSES  VERDICT\n"
          "commit  1.0 MiB      1.0 MiB   2.0 MiB  500 ms       none  chosen\n"
          "graft         -            -         -       -          -  /x cannot share blocks\n"
          "copy    4.0 MiB      4.0 MiB  -1.0 MiB   2.0 s  1 x 30 ms  possible\n"
          "\n"
          "vdb: a.qcow2 <- ... <- d.qcow2 (4 volumes)\n"
          "OPTION   COPIES  EXTRA SPACE     FREED   TIME     PAUSES  VERDICT\n"
          "copy    2.0 MiB      2.0 MiB  -1.0 MiB  1.0 s  1 x 30 ms  chosen\n"
          "\n"
          "/x/a.qcow2 stays: others stand on it.\n" },
        { plan_bad, false, false,
          "DISK  STRATEGY  COPIES  EXTRA SPACE  FREED  TIME  PAUSES  MERGES\n"
          "vda   none           -            -      -     -       -  a.qcow2 <- b.qcow2\n"
          "vdb   none           -            -      -     -       -  c.qcow2 <- d.qcow2\n"
          "\n"
          "Not possible: disk vda of VM 'web': VM we\\x1bb2 stands on it.\n"
          "Disk vdb: c is read-only.\n" },
        { none, false, true, "No disk has to be merged; only the snapshots' entries go.\n" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(json_t) plan = parse(rows[i].plan);
        g_autofree char *text = plan_text(plan, 0, rows[i].utf8, rows[i].all);
        g_assert_cmpstr(text, ==, rows[i].wanted);
    }
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
        { "nobody", NULL, ERR_NOT_FOUND, "no VM 'nobody'; 'livemerge vm list'" },
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

/* ---- a fake manager ---- */

typedef struct {
    GMutex mutex;
    HttpServer *server;
    char *dir;
    char *address; /* unix:DIR/s */
    int refuse;    /* status for POST removesnapshots; 0 = accept */
    int polls;     /* long polls of the job so far */
    int interrupt_at;
    bool never_ends;
    bool fails;
    const char *plan;   /* answer to a dry run */
    const char *doctor; /* what the doctor finds; its job mends it */
    int paused_polls;   /* so many polls say that the job has paused */
    char *last_body;    /* of the last POST or PUT */
    char *last_path;
} Fake;

#define VM_ID "11111111-0000-4000-8000-000000000001"
#define JOB_ID "22222222-0000-4000-8000-000000000002"
#define S1 "33333333-0000-4000-8000-000000000003"
#define S2 "44444444-0000-4000-8000-000000000004"

static char *
job_document(Fake *fake, bool ended)
{
    return g_strdup_printf(
        "{\"id\":\"" JOB_ID "\",\"description\":\"Deleting 2 snapshots of web\",\"status\":\"%s\","
        "\"rev\":%d,\"start_time\":\"2026-01-31T12:00:00Z\",\"end_time\":\"%s\",\"vm\":{\"id\":"
        "\"" VM_ID "\",\"name\":\"web\"},\"progress\":{\"percent\":%d,\"bytes_done\":10,"
        "\"bytes_total\":20,\"rate\":5,\"eta\":1},\"disks\":{\"disk\":[{\"id\":\"d1\",\"name\":"
        "\"vda\",\"strategy\":\"commit\",\"phase\":\"%s\",\"status\":\"%s\",\"bytes_copied\":"
        "1048576,\"seconds\":2.5,\"pauses\":[{\"kind\":\"pivot\",\"milliseconds\":31}],"
        "\"volumes_removed\":[\"v1\",\"v2\"],\"plan\":{\"strategy\":\"commit\",\"bytes_read\":"
        "1048576,\"bytes_written\":1048576,\"space_peak\":0,\"space_freed\":1048576,\"seconds\":"
        "3.0,\"pauses\":1,\"pause_ms\":30}%s}]}%s%s}",
        !ended        ? "started"
        : fake->fails ? "failed"
                      : "finished",
        fake->polls, ended ? "2026-01-31T12:00:03Z" : "", ended ? 100 : fake->polls * 30,
        fake->polls < 2 ? "commit" : "delete-volume", ended ? "finished" : "started",
        ended ? ",\"outcome\":{\"strategy\":\"commit\",\"bytes_copied\":1048576,\"bytes_written\":"
                "1050000,\"seconds\":2.5,\"pauses\":1,\"pause_ms\":31,\"verified\":\"extents\"}"
              : "",
        ended && fake->fails ? ",\"error\":\"the storage is full\"" : "",
        !ended && fake->polls > 0 && fake->polls <= fake->paused_polls
            ? ",\"attention\":\"2 GiB are missing\""
            : "");
}

static char *
answer_get(Fake *fake, const char *path, int *ret_status)
{
    static const char snapshots[] =
        "{\"snapshot\":[{\"id\":\"99999999-0000-4000-8000-000000000009\",\"description\":"
        "\"Active VM\",\"snapshot_type\":\"active\",\"snapshot_status\":\"ok\",\"parent\":{\"id\":"
        "\"" S2 "\"}},{\"id\":\"" S1 "\",\"description\":\"before update\",\"date\":"
        "\"2026-01-31T12:00:00Z\",\"snapshot_type\":\"regular\",\"snapshot_status\":\"ok\"},"
        "{\"id\":\"" S2 "\",\"description\":\"nightly\",\"date\":\"2026-02-01T12:00:00Z\","
        "\"snapshot_type\":\"regular\",\"snapshot_status\":\"ok\",\"parent\":{\"id\":\"" S1
        "\"}}]}";
    static const struct {
        const char *path, *body;
    } rows[] = {
        { "", "{\"product_info\":{\"version\":{\"full_version\":\"9.9\"}}}" },
        { "vms", "{\"vm\":[{\"id\":\"" VM_ID "\",\"name\":\"web\",\"status\":\"up\",\"memory\":"
                 "1073741824,\"snapshot_count\":2},{\"id\":\"55\",\"name\":\"raw\",\"status\":"
                 "\"down\",\"unmanaged\":\"network disk\"}]}" },
        { "vms/" VM_ID, "{\"id\":\"" VM_ID "\",\"name\":\"web\",\"status\":\"up\"}" },
        { "vms/" VM_ID "/diskattachments",
          "{\"disk_attachment\":[{\"id\":\"d1\",\"logical_name\":\"/dev/vda\",\"disk\":{\"id\":"
          "\"d1\"}}]}" },
        { "disks/d1", "{\"id\":\"d1\",\"name\":\"web_disk\",\"provisioned_size\":1073741824,"
                      "\"volumes\":[{\"id\":\"vol-base\",\"path\":\"/x/base.qcow2\",\"format\":"
                      "\"qcow2\",\"virtual_size\":1073741824,\"allocated\":4096}]}" },
        { "vms/" VM_ID "/snapshots", snapshots },
        { "vms/" VM_ID "/snapshots/" S1,
          "{\"id\":\"" S1 "\",\"description\":\"before update\",\"snapshot_status\":\"ok\"}" },
        { "jobs", "{\"job\":[{\"id\":\"" JOB_ID "\",\"description\":\"d\",\"status\":"
                  "\"started\"}]}" },
        { "jobs/" JOB_ID "/steps", "{\"step\":[{\"number\":0,\"description\":\"Checking\","
                                   "\"status\":\"finished\"}]}" },
        { "users/alice/sessions",
          "{\"session\":[{\"id\":\"a1b2c3d4e5f60718\",\"kind\":\"program\",\"address\":"
          "\"192.0.2.7\",\"created\":\"2026-01-31T12:00:00Z\",\"last_used\":"
          "\"2026-01-31T13:00:00Z\",\"expires\":\"2026-03-02T12:00:00Z\",\"current\":true},"
          "{\"id\":\"a1ffffffffffffff\",\"kind\":\"browser\",\"created\":"
          "\"2026-01-31T12:00:00Z\",\"last_used\":\"2026-01-31T12:00:00Z\",\"expires\":"
          "\"2026-01-31T13:00:00Z\",\"current\":false}]}" },
        { "users/bob/sessions", "{\"session\":[]}" },
        { "certificate",
          "{\"subject\":\"CN=host\",\"issuer\":\"CN=livemerge CA host\",\"serial\":\"0A:1B\","
          "\"names\":{\"name\":[\"host.example.org\",\"192.0.2.7\"]},\"valid_from\":"
          "\"2020-01-31T12:00:00Z\",\"expires\":\"2021-01-31T12:00:00Z\",\"file\":"
          "\"/x/cert.pem\",\"renewed_by_itself\":false,\"why\":\"it is yours\"}" },
        { "events", "{\"event\":[{\"id\":\"8\",\"severity\":\"error\",\"time\":"
                    "\"2026-01-31T12:00:02Z\",\"description\":\"second\\u0007\"},{\"id\":\"7\","
                    "\"severity\":\"normal\",\"time\":\"2026-01-31T12:00:01Z\",\"description\":"
                    "\"first\",\"vm\":{\"name\":\"web\"}}]}" },
    };

    *ret_status = 200;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        if (g_str_equal(path, rows[i].path))
            return g_strdup(rows[i].body);
    *ret_status = 404;
    return g_strdup("{\"fault\":{\"reason\":\"Operation Failed\",\"detail\":\"[Entity not found: "
                    "x\\u001b]\"}}");
}

static char *
answer_job(Fake *fake, bool polled)
{
    if (polled)
        fake->polls++;
    if (fake->interrupt_at > 0 && fake->polls == fake->interrupt_at)
        kill(getpid(), SIGINT);
    return job_document(fake, fake->polls >= 4 && !fake->never_ends);
}

/* As a long poll answers: oldest first. */
static char *
answer_events(bool nothing_new)
{
    return g_strdup(nothing_new
                        ? "{\"event\":[]}"
                        : "{\"event\":[{\"id\":\"7\",\"severity\":\"normal\",\"time\":"
                          "\"2026-01-31T12:00:01Z\",\"description\":\"first\"},{\"id\":\"8\","
                          "\"severity\":\"error\",\"time\":\"2026-01-31T12:00:02Z\","
                          "\"description\":\"second\\u0007\"}]}");
}

static char *
answer_post(Fake *fake, const HttpRequest *request, const char *path, int *ret_status)
{
    g_free(fake->last_body);
    g_free(fake->last_path);
    fake->last_body = g_strndup(request->body, request->body_size);
    fake->last_path = g_strconcat(request->method, " ", path, NULL);
    *ret_status = 200;
    if (g_str_equal(path, "vms/" VM_ID "/removesnapshots") && fake->refuse != 0) {
        *ret_status = fake->refuse;
        return g_strdup("{\"fault\":{\"reason\":\"Operation Failed\",\"detail\":\"[Cannot remove "
                        "Snapshot. The VM is migrating.]\"},\"status\":\"failed\"}");
    }
    if (g_str_equal(path, "vms/" VM_ID "/removesnapshots") && fake->plan != NULL)
        return g_strdup(fake->plan);
    if (g_str_equal(path, "vms/" VM_ID "/removesnapshots") ||
        g_str_equal(path, "vms/" VM_ID "/doctor"))
        return g_strdup("{\"job\":{\"id\":\"" JOB_ID "\"},\"status\":\"complete\"}");
    if (g_str_equal(path, "vms/" VM_ID "/snapshots")) {
        *ret_status = 201;
        return g_strdup("{\"id\":\"" S1
                        "\",\"snapshot_status\":\"locked\",\"job\":{\"id\":\"" JOB_ID "\"}}");
    }
    if (g_str_has_prefix(path, "vms/" VM_ID "/snapshots/"))
        return g_strdup("{\"id\":\"" S1 "\",\"description\":\"new\"}");
    return g_strdup("{\"status\":\"complete\"}");
}

static const char doctor_job[] =
    "{\"id\":\"" JOB_ID "\",\"status\":\"finished\",\"end_time\":\"2026-01-31T12:00:01Z\","
    "\"vm\":{\"name\":\"web\"},\"undone\":1,\"left_undone\":{\"reason\":[\"a bitmap\"]},"
    "\"findings\":{\"finding\":[{\"class\":\"orphan-volume\",\"severity\":\"notice\","
    "\"state\":\"mended\",\"text\":\"nobody has /a\"}]}}";

static void
handle(const HttpRequest *request, HttpResponse *response, void *data)
{
    Fake *fake = data;
    WITH_LOCK(&fake->mutex);
    const char *path = request->path + strlen("/ovirt-engine/api");

    path += *path == '/' ? 1 : 0;
    response->status = 200;
    response->content_type = g_strdup("application/json");
    if (!g_str_equal(request->method, "GET"))
        response->body = answer_post(fake, request, path, &response->status);
    else if (g_str_equal(path, "events") && http_query(request, "wait") != NULL)
        response->body = answer_events(g_strcmp0(http_query(request, "from"), "8") == 0);
    else if (g_str_has_suffix(path, "doctor"))
        response->body = g_strdup(fake->doctor);
    else if (g_str_equal(path, "jobs/" JOB_ID) && fake->doctor != NULL)
        response->body = g_strdup(doctor_job);
    else if (g_str_equal(path, "jobs/" JOB_ID))
        response->body = answer_job(fake, http_query(request, "wait") != NULL);
    else
        response->body = answer_get(fake, path, &response->status);
    response->body_size = strlen(response->body);
}

static void
fake_listen(Fake *fake)
{
    g_autoptr(GError) error = NULL;
    HttpServerOptions options = { .address = fake->address };

    fake->server = http_server_start(&options, handle, fake, &error);
    g_assert_no_error(error);
}

static void
fake_start(Fake *fake)
{
    fake->dir = g_dir_make_tmp("livemerge-cli-XXXXXX", NULL);
    fake->address = g_strdup_printf("unix:%s/s", fake->dir);
    g_mutex_init(&fake->mutex);
    fake_listen(fake);
}

static void
fake_stop(Fake *fake)
{
    if (fake->server != NULL)
        http_server_stop(fake->server);
    g_free(fake->last_body);
    g_free(fake->last_path);
    g_free(fake->address);
    g_rmdir(fake->dir);
    g_free(fake->dir);
    g_mutex_clear(&fake->mutex);
}

typedef struct {
    int code;
    char *out, *err;
} Run;

static void
run_clear(Run *run)
{
    free(run->out);
    free(run->err);
    memset(run, 0, sizeof *run);
}

/* Words are separated by spaces, "~" stands for a space inside a word. */
static Run
run_with(const CliIo *settings, const char *address, const char *line)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    Run run = { 0 };
    size_t out_size, err_size;
    CliIo io = *settings;

    bool completes = g_str_has_prefix(line, "__complete");
    g_ptr_array_add(argv, (char *)"livemerge");
    if (completes)
        g_ptr_array_add(argv, words[0]);
    if (address != NULL) {
        g_ptr_array_add(argv, (char *)"--connect");
        g_ptr_array_add(argv, (char *)address);
    }
    for (char **word = words + (completes ? 1 : 0); *word != NULL; word++)
        g_ptr_array_add(argv, g_strdelimit(*word, "~", ' '));
    io.out = open_memstream(&run.out, &out_size);
    io.err = open_memstream(&run.err, &err_size);
    run.code = (int)cli_run((int)argv->len, (const char *const *)argv->pdata, &io);
    fclose(io.out);
    fclose(io.err);
    return run;
}

static Run
run_line(Fake *fake, const char *line)
{
    CliIo io = { .patience_s = 2, .utf8 = true };

    return run_with(&io, fake != NULL ? fake->address : NULL, line);
}

static void
assert_contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        g_error("wanted '%s' in:\n%s", part, text);
}

static void
test_runs(void)
{
    static const struct {
        const char *line;
        int code;
        const char *out; /* a part of it; NULL = nothing at all */
        const char *err; /* a part of it */
    } rows[] = {
        { "vm list", 0, "web   up      -             2  " VM_ID, "" },
        { "vm list", 0, "network disk", "" },
        { "vm list --json", 0, "      \"memory\": 1073741824,\n", "" },
        { "vm show we", 0, "/x/base.qcow2", "" },
        { "vm show we", 0, "vda   web_disk  1.0 GiB", "" },
        { "vm show nobody", 3, NULL, "there is no VM 'nobody'" },
        { "snapshot list web", 0, "├─ nightly", "" },
        { "snapshot list web", 0, "└─ you are here", "" },
        { "snapshot show web before", 0, "before update", "" },
        { "snapshot show web never", 3, NULL, "there is no snapshot 'never'" },
        { "snapshot show web nightly", 3, NULL, "Entity not found: x\\x1b" },
        { "job list", 0, "22222222  started", "" },
        { "job show 2222", 0, "Checking", "" },
        { "job show " JOB_ID " --json", 0, "\"percent\": ", "" },
        { "job show 77777777-0000-4000-8000-000000000007", 3, NULL, "Entity not found" },
        { "event list", 0, "first\n2026-01-31 12:00:02  error     -    second\\a", "" },
        { "event list --json", 0, "\"severity\": \"error\"", "" },
        { "event follow --from 7 --timeout 1", 0, "12:00:02  error     second\\a", "" },
        { "event follow --from 0 --timeout 1", 0, "first\n2026-01-31 12:00:02  error ", "" },
        { "event follow --from 7 --json --timeout 1", 0, "{\"id\":\"8\",", "" },
        { "snapshot create web a\nb", 2, NULL, "control character" },
        { "snapshot create web x --disk vdz", 3, NULL, "there is no disk 'vdz'" },
        { "snapshot delete web nightly", 2, NULL, "use -y" },
        { "snapshot rename web nightly new", 0, S1, "is now called 'new'" },
        { "job cancel 2222", 0, NULL, "asked to stop" },
        { "job resume 2222", 0, NULL, "goes on" },
        { "job show 2222", 0, "vda   planned  commit", "" },
        { "snapshot delete web never -n", 3, NULL, "there is no snapshot 'never'" },
        { "plan web nightly", 1, NULL, "it has begun job " JOB_ID }, /* an old manager */
        { "plan --help", 0, "Usage: livemerge plan VM SNAPSHOT... [OPTION...]", "" },
        { "session list --user alice", 0,
          "a1b2c3d4e5f60718  program  2026-01-31 12:00:00  2026-01-31 13:00:00  192.0.2.7  "
          "2026-03-02 12:00:00  this one",
          "" },
        { "session list --user alice", 0, "12:00:00  2026-01-31 12:00:00  -          ", "" },
        { "session list --user bob", 0, NULL, "bob is signed in nowhere" },
        { "session end --user alice a1f", 0, NULL,
          "Session a1ffffffffffffff of alice has ended.\n" },
        { "session end --user alice a1b", 0, NULL, "it was this one: sign in again" },
        { "session end --user alice a1", 2, NULL, "'a1' fits 2 sessions" },
        { "session end --user alice c3", 3, NULL, "there is no session 'c3'" },
        { "session end --user alice --others", 0, NULL,
          "All sessions and tokens of alice have ended, but the one that asked." },
        { "session end --user alice", 2, NULL, "name one session" },
        { "session end --user alice a1b --others", 2, NULL, "name one session" },
        { "certificate show", 0, "2021-01-31 12:00:00: it has ended\n", "" },
        { "certificate show", 0, "host.example.org, 192.0.2.7\n", "" },
        { "certificate show", 0, "not by itself: it is yours\n", "" },
        { "version", 0, "manager 9.9", "" },
        { "help", 0, "snapshot delete VM SNAPSHOT...", "" },
        { "snapshot delete --help", 0, "--bandwidth MIB", "" },
        { "snapshot --help", 0, "snapshot rename VM SNAPSHOT NAME", "" },
        { "--version", 0, "livemerge ", "" },
        { "vm list --unknown", 2, NULL, "unknown option" },
    };
    Fake fake = { 0 };

    fake_start(&fake);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Run run = run_line(&fake, rows[i].line);
        g_test_message("%s: %s%s", rows[i].line, run.out, run.err);
        g_assert_cmpint(run.code, ==, rows[i].code);
        if (rows[i].out == NULL)
            g_assert_cmpstr(run.out, ==, "");
        else
            assert_contains(run.out, rows[i].out);
        assert_contains(run.err, rows[i].err);
        run_clear(&run);
    }
    fake_stop(&fake);
}

static void
test_delete(void)
{
    Fake fake = { 0 };
    fake_start(&fake);
    Run run = run_line(&fake, "snapshot delete web before~update nightly night -y --strategy "
                              "commit --bandwidth 50 --disk vda");

    g_test_message("%s%s", run.out, run.err);
    g_assert_cmpint(run.code, ==, 0);
    g_assert_cmpstr(fake.last_path, ==, "POST vms/" VM_ID "/removesnapshots");
    g_assert_cmpstr(fake.last_body, ==,
                    "{\"snapshots\":{\"snapshot\":[{\"id\":\"" S1 "\"},{\"id\":\"" S2 "\"}]},"
                    "\"strategy\":\"commit\",\"bandwidth\":50,\"disk\":{\"id\":\"d1\"}}");
    assert_contains(run.out,
                    "DISK  STRATEGY   COPIED   TIME  LONGEST PAUSE  VOLUMES REMOVED  STATUS\n"
                    "vda   commit    1.0 MiB  2.5 s          31 ms                2  finished\n\n");
    assert_contains(run.out,
                    "DISK           STRATEGY  WRITTEN    FREED   TIME     PAUSES  CHECKED\n"
                    "vda   planned  commit    1.0 MiB  1.0 MiB  3.0 s  1 x 30 ms  -\n"
                    "vda   done     commit    1.0 MiB        -  2.5 s  1 x 31 ms  extents\n");
    assert_contains(run.err, "0 %, 10 B of 20 B, 5 B/s, ETA 1 s; vda: commit");
    assert_contains(run.err, "vda: delete-volume");
    assert_contains(run.err, "Done in 3.0 s: Deleting 2 snapshots of web");
    run_clear(&run);
    fake_stop(&fake);
}

static void
test_plan(void)
{
    static const struct {
        const char *line, *plan;
        int code;
        const char *out, *err;
    } rows[] = {
        { "plan web nightly", plan_good, 0, "vda    commit    1.0 MiB", "" },
        { "plan web nightly --all-options", plan_good, 0, "/x cannot share blocks", "" },
        { "plan web nightly --json", plan_good, 0, "\"possible\": true", "" },
        { "plan web nightly", plan_bad, 1, "Not possible: disk vda", "" },
        { "plan web nightly --json", plan_bad, 1, "\"code\": \"refused\"", "" },
        { "snapshot delete web nightly -n", plan_good, 0, "vda    commit    1.0 MiB", "" },
        { "snapshot delete web nightly --dry-run -y", plan_bad, 1, "Disk vdb: c is read-only", "" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Fake fake = { .plan = rows[i].plan };
        fake_start(&fake);
        Run run = run_line(&fake, rows[i].line);
        g_test_message("%s\n%s%s", rows[i].line, run.out, run.err);
        g_assert_cmpint(run.code, ==, rows[i].code);
        assert_contains(run.out, rows[i].out);
        g_assert_cmpstr(run.err, ==, rows[i].err);
        g_assert_cmpstr(fake.last_body, ==,
                        "{\"snapshots\":{\"snapshot\":[{\"id\":\"" S2 "\"}]},\"dry_run\":true}");
        run_clear(&run);
        fake_stop(&fake);
    }
}

static const char doctor_orphan[] =
    "{\"findings\":{\"finding\":[{\"class\":\"orphan-volume\",\"severity\":\"notice\",\"vm\":{"
    "\"id\":\"" VM_ID "\",\"name\":\"web\"},\"disk\":\"vda\",\"file\":\"/a\",\"text\":"
    "\"nobody has /a\",\"can_fix\":\"yes\",\"fix\":\"moves it\"}]},"
    "\"kept\":{\"files\":2,\"bytes\":1048576}}";
static const char doctor_job_of_others[] =
    "{\"findings\":{\"finding\":[{\"class\":\"foreign-job\",\"severity\":\"warning\",\"vm\":{"
    "\"id\":\"" VM_ID "\",\"name\":\"web\"},\"text\":\"a job\",\"can_fix\":\"asked\","
    "\"fix\":\"ends it\"}]}}";
static const char doctor_unseen[] =
    "{\"findings\":{\"finding\":[]},\"silent_hosts\":{\"host\":[{\"name\":\"h2\",\"why\":"
    "\"it is off\"}]},\"busy_vms\":{\"vm\":[{\"name\":\"db\",\"why\":\"a merge\"}]}}";

static void
test_doctor(void)
{
    static const char mend_safe[] = "{\"classes\":{\"class\":[]}}",
                      mend_job[] = "{\"classes\":{\"class\":[{\"name\":\"foreign-job\"}]}}";
    static const struct {
        const char *line, *found;
        int code;
        const char *out, *err, *body;
    } rows[] = {
        { "doctor", "{\"findings\":{\"finding\":[]}}", 0, "", "Nothing wrong was found.\n", NULL },
        { "doctor web", doctor_orphan, 1, "nobody has /a. A fix moves it.", "keep 2 files", NULL },
        { "doctor web --class loop", doctor_orphan, 0, "", "Nothing wrong", NULL },
        { "doctor --json", doctor_orphan, 1, "\"orphan-volume\"", "", NULL },
        { "doctor", doctor_unseen, 1, "", "Host 'h2' was not looked at: it is off", NULL },
        { "doctor", doctor_unseen, 1, "", "VM 'db' was not looked at: a merge", NULL },
        { "doctor web --fix", doctor_orphan, 2, "", "-y", NULL },
        { "doctor web --fix -y", doctor_orphan, 0, "mended", "--undo " JOB_ID, mend_safe },
        { "doctor --fix -y --no-wait", doctor_orphan, 1, JOB_ID, "accepted", mend_safe },
        { "doctor web --fix -y", doctor_job_of_others, 1, "a job. A fix ends it.",
          "without naming its --class", NULL },
        { "doctor web --fix -y --class foreign-job", doctor_job_of_others, 0, "mended", "--undo",
          mend_job },
        { "doctor web --undo " JOB_ID, doctor_orphan, 1, "", "Not undone: a bitmap",
          "{\"undo\":\"" JOB_ID "\"}" },
        { "doctor --undo " JOB_ID, doctor_orphan, 2, "", "needs the VM", NULL },
        { "doctor web db", doctor_orphan, 2, "", "one argument too many", NULL },
        { "doctor --help", doctor_orphan, 0, "Usage: livemerge doctor [VM] [OPTION...]", "", NULL },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Fake fake = { .doctor = rows[i].found };
        fake_start(&fake);
        Run run = run_line(&fake, rows[i].line);
        g_test_message("%s\n%s%s", rows[i].line, run.out, run.err);
        g_assert_cmpint(run.code, ==, rows[i].code);
        assert_contains(run.out, rows[i].out);
        assert_contains(run.err, rows[i].err);
        g_assert_cmpstr(fake.last_body, ==, rows[i].body);
        run_clear(&run);
        fake_stop(&fake);
    }
}

/* Who watches hears of a pause once, and that it goes on. */
static void
test_watch_a_pause(void)
{
    Fake fake = { .paused_polls = 2 };
    fake_start(&fake);
    Run run = run_line(&fake, "job watch " JOB_ID);

    g_test_message("%s%s", run.out, run.err);
    g_assert_cmpint(run.code, ==, 0);
    assert_contains(run.err,
                    "The job has paused: 2 GiB are missing\nTo go on: livemerge --connect");
    assert_contains(run.err, "job resume " JOB_ID "\nTo give it up: ");
    assert_contains(run.err, "The job goes on.\n");
    g_assert_null(strstr(strstr(run.err, "has paused") + 1, "has paused"));
    run_clear(&run);
    fake_stop(&fake);
}

static void
test_delete_on_a_terminal(void)
{
    static const struct {
        const char *answer;
        int code;
    } rows[] = { { "y\n", 0 }, { "YES\n", 0 }, { "n\n", 1 }, { "", 1 } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Fake fake = { 0 };
        g_autofree char *answer = g_strconcat(rows[i].answer, " ", NULL);
        CliIo io = { .in_terminal = true, .err_terminal = true, .err_width = 100, .utf8 = true };
        fake_start(&fake);
        io.in = fmemopen(answer, strlen(answer), "r");
        Run run = run_with(&io, fake.address, "snapshot delete web nightly");
        g_assert_cmpint(run.code, ==, rows[i].code);
        assert_contains(run.err, "Delete snapshot 'nightly' of VM 'web'?");
        assert_contains(run.err, rows[i].code == 0 ? "100 %" : "nothing was done");
        g_assert_true((fake.last_path != NULL) == (rows[i].code == 0));
        fclose(io.in);
        run_clear(&run);
        fake_stop(&fake);
    }
}

static void
test_delete_outcomes(void)
{
    static const struct {
        const char *line;
        int refuse;
        bool fails, never_ends;
        int code;
        const char *out, *err; /* parts */
    } rows[] = {
        { "snapshot delete web nightly -y", 409, false, false, 4, "",
          "livemerge: Cannot remove Snapshot. The VM is migrating.\n" },
        { "snapshot delete web nightly -y", 400, false, false, 2, "", "migrating" },
        { "snapshot delete web nightly -y", 500, false, false, 1, "", "migrating" },
        { "snapshot delete web nightly -y", 507, false, false, 4, "", "migrating" },
        { "plan web nightly", 409, false, false, 4, "", "migrating" },
        { "snapshot delete web gone -y", 0, false, false, 3, "", "no snapshot 'gone'" },
        { "snapshot delete nobody x -y", 0, false, false, 3, "", "no VM 'nobody'" },
        { "snapshot delete web nightly -y", 0, true, false, 1, "vda",
          "failed: the storage is full" },
        { "snapshot delete web nightly -y --json", 0, true, false, 1, "\"status\": \"failed\"",
          "failed: the storage is full" },
        { "snapshot delete web nightly -y --json", 0, false, false, 0, "\"status\": \"finished\"",
          "Done" },
        { "snapshot delete web nightly -y --no-wait", 0, false, true, 0, JOB_ID "\n", "accepted" },
        { "snapshot delete web nightly -y --no-wait --json", 0, false, true, 0,
          "\"status\": \"started\"", "accepted" },
        { "snapshot delete web nightly -y --timeout 0", 0, false, true, 5, "",
          "job watch " JOB_ID },
        { "snapshot create web new", 0, false, false, 0, S1 "\n", "is taken" },
        { "snapshot create web new --json", 0, false, false, 0, "\"snapshot_status\": \"ok\"", "" },
        { "snapshot create web new --json --no-wait", 0, false, false, 0,
          "\"snapshot_status\": \"locked\"", "" },
        { "snapshot create web new --no-wait", 0, false, false, 0, JOB_ID "\n", "" },
        { "snapshot create web new", 0, true, false, 1, "", "failed: the storage is full" },
        { "job watch 22", 0, false, false, 0, "vda", "Done" },
        { "job cancel 22 --wait", 0, true, false, 0, "", "has ended: failed" },
        { "job cancel 22 --wait", 0, false, false, 1, "", "before it could be cancelled" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Fake fake = { .refuse = rows[i].refuse,
                      .fails = rows[i].fails,
                      .never_ends = rows[i].never_ends };
        fake_start(&fake);
        Run run = run_line(&fake, rows[i].line);
        g_test_message("%s\n%s%s", rows[i].line, run.out, run.err);
        g_assert_cmpint(run.code, ==, rows[i].code);
        assert_contains(run.out, rows[i].out);
        assert_contains(run.err, rows[i].err);
        run_clear(&run);
        fake_stop(&fake);
    }
}

static void
test_create_body(void)
{
    Fake fake = { 0 };
    fake_start(&fake);
    Run run = run_line(&fake, "snapshot create web my~name --memory --quiesce=require --disk vda");

    g_assert_cmpint(run.code, ==, 0);
    g_assert_cmpstr(fake.last_body, ==,
                    "{\"description\":\"my name\",\"persist_memorystate\":true,\"quiesce\":"
                    "\"require\",\"disk_attachments\":{\"disk_attachment\":[{\"disk\":{\"id\":"
                    "\"d1\"}}]}}");
    run_clear(&run);
    fake_stop(&fake);
}

/* ---- the manager goes away ---- */

static void
test_no_manager(void)
{
    g_autofree char *dir = g_dir_make_tmp("livemerge-cli-XXXXXX", NULL);
    g_autofree char *line = g_strdup_printf("vm list --connect unix:%s/none", dir);
    Run run = run_line(NULL, line);

    g_assert_cmpint(run.code, ==, 1);
    assert_contains(run.err, "livemerge-manager does not answer");
    run_clear(&run);
    g_rmdir(dir);
}

typedef struct {
    Fake *fake;
    bool comes_back;
} Absence;

/* In the server's place: hangs up on the client, and again should it have tried twice by itself. */
static void
hang_up(const Fake *fake)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    const struct timeval patience = { .tv_sec = 30 };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(name.sun_path, fake->address + strlen("unix:"), sizeof name.sun_path);
    g_unlink(name.sun_path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&name, sizeof name), ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (int i = 0; i < 2; i++) {
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        g_assert_cmpint(client, >=, 0);
        close(client);
    }
    g_unlink(name.sun_path);
    close(fd);
}

/* Stops the server once the job was polled twice; brings it back when the client has noticed. */
static void *
come_and_go(void *data)
{
    Absence *absence = data;
    Fake *fake = absence->fake;

    for (;;) {
        g_mutex_lock(&fake->mutex);
        bool now = fake->polls >= 2;
        g_mutex_unlock(&fake->mutex);
        if (now)
            break;
        g_usleep(1000);
    }
    http_server_stop(fake->server);
    fake->server = NULL;
    if (!absence->comes_back)
        return NULL;
    hang_up(fake);
    fake->never_ends = false;
    fake_listen(fake);
    return NULL;
}

static void
test_manager_away(void)
{
    static const struct {
        bool comes_back;
        int code;
        const char *err;
    } rows[] = { { true, 0, "The manager answers again." },
                 { false, 5, "gave up waiting for the job, which goes on" } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Fake fake = { .never_ends = true };
        Absence absence = { &fake, rows[i].comes_back };
        fake_start(&fake);
        GThread *thread = g_thread_new("away", come_and_go, &absence);
        Run run = run_line(&fake, "snapshot delete web nightly -y");
        g_thread_join(thread);
        g_test_message("%s%s", run.out, run.err);
        g_assert_cmpint(run.code, ==, rows[i].code);
        assert_contains(run.err, "The manager does not answer (");
        assert_contains(run.err, rows[i].err);
        run_clear(&run);
        fake_stop(&fake);
    }
}

/* Runs in a child of test_interrupt(), because Ctrl-C ends the program. */
static int
interrupted_child(void)
{
    Fake fake = { .interrupt_at = 2, .never_ends = true };
    CliIo io = { .patience_s = 2 };
    const char *argv[] = { "livemerge", "job", "watch", JOB_ID };

    fake_start(&fake);
    g_setenv("LIVEMERGE_CONNECT", fake.address, TRUE);
    printf("%s\n", fake.dir);
    fflush(stdout);
    io.out = stdout;
    io.err = stderr;
    return (int)cli_run(G_N_ELEMENTS(argv), argv, &io);
}

static void
test_interrupt(void)
{
    char *argv[] = { (char *)"/proc/self/exe", (char *)"--interrupted-child", NULL };
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *out = NULL, *err = NULL;
    g_autoptr(GError) error = NULL;
    int status;

    argv[0] = self;
    g_assert_true(g_spawn_sync(NULL, argv, NULL, 0, NULL, NULL, &out, &err, &status, &error));
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 5);
    assert_contains(err, "Interrupted; the job goes on. To watch it: livemerge job watch " JOB_ID);

    g_autofree char *socket = g_strconcat(g_strchomp(out), "/s", NULL);
    g_unlink(socket);
    g_rmdir(out);
}

/* ---- completion ---- */

static void
test_complete(void)
{
    static const struct {
        const char *words; /* after the program; the last one is being typed */
        const char *wanted;
    } rows[] = {
        { "", "vm\nsnapshot\nplan\nstorage\njob\nevent\ndoctor\nuser\nsession\ncertificate\nlogin\n"
              "logout\nversion\nhelp\n" },
        { "p", "plan\n" },
        { "plan w", "web\n" },
        { "plan web ", "before update\nnightly\n" },
        { "plan web nightly --disk ", "vda\n" },
        { "plan web nightly --al", "--all-options\n" },
        { "plan web nightly --verify ", "extents\nnone\nfull\n" },
        { "job r", "resume\n" },
        { "job resume 2", JOB_ID "\n" },
        { "s", "snapshot\nstorage\nsession\n" },
        { "session end --user alice a1b", "a1b2c3d4e5f60718\n" },
        { "snapshot ", "create\nlist\nshow\ndelete\nrename\npreview\ncommit\nundo\nrestore\n" },
        { "snapshot d", "delete\n" },
        { "--json snapshot re", "rename\nrestore\n" },
        { "vm show ", "web\nraw\n" },
        { "vm show w", "web\n" },
        { "snapshot delete web ", "before update\nnightly\n" },
        { "snapshot delete web nightly ", "before update\n" },
        { "snapshot delete web nightly nightly b", "before update\n" },
        { "snapshot delete nobody ", "" },
        { "snapshot create web ", "" },
        { "snapshot create web n --qu", "--quiesce\n" },
        { "snapshot create web n --quiesce ", "no\nauto\nrequire\n" },
        { "snapshot create web n --quiesce=a", "--quiesce=auto\n" },
        { "snapshot create web n --disk v", "vda\n" },
        { "snapshot create web n --disk=v", "--disk=vda\n" },
        { "snapshot delete web n --strategy co", "commit\ncommit-active\ncopy\ncold-commit\n" },
        { "job watch 2", JOB_ID "\n" },
        { "vm list x", "" },
        { "nonsense x", "" },
        { "vm list --m", "" },
    };
    Fake fake = { 0 };

    fake_start(&fake);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *line = g_strconcat("__complete ", rows[i].words, NULL);
        Run run = run_line(&fake, line);
        g_test_message("%s", rows[i].words);
        g_assert_cmpint(run.code, ==, 0);
        g_assert_cmpstr(run.out, ==, rows[i].wanted);
        g_assert_cmpstr(run.err, ==, "");
        run_clear(&run);
    }
    fake_stop(&fake);
}

/* A manager that never answers: a listening socket that nobody reads. */
static void
test_complete_never_blocks(void)
{
    g_autofree char *dir = g_dir_make_tmp("livemerge-cli-XXXXXX", NULL);
    g_autofree char *path = g_strconcat(dir, "/s", NULL);
    g_autofree char *address = g_strconcat("unix:", path, NULL);
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CliIo io = { 0 };

    g_strlcpy(name.sun_path, path, sizeof name.sun_path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&name, sizeof name), ==, 0);
    g_assert_cmpint(listen(fd, 5), ==, 0);
    int64_t start = g_get_monotonic_time();
    Run run = run_with(&io, address, "__complete vm show ");
    g_assert_cmpint(g_get_monotonic_time() - start, <, 3 * G_USEC_PER_SEC);
    g_assert_cmpstr(run.out, ==, "");
    g_assert_cmpstr(run.err, ==, "");
    run_clear(&run);
    g_unlink(path);
    g_rmdir(dir);
}

int
main(int argc, char **argv)
{
    g_setenv("TZ", "UTC", TRUE);
    if (argc > 1 && g_str_equal(argv[1], "--interrupted-child"))
        return interrupted_child();
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
    g_test_add_func("/cli/runs", test_runs);
    g_test_add_func("/cli/delete", test_delete);
    g_test_add_func("/cli/plan-text", test_plan_text);
    g_test_add_func("/cli/plan", test_plan);
    g_test_add_func("/cli/doctor", test_doctor);
    g_test_add_func("/cli/watch-a-pause", test_watch_a_pause);
    g_test_add_func("/cli/delete-on-a-terminal", test_delete_on_a_terminal);
    g_test_add_func("/cli/delete-outcomes", test_delete_outcomes);
    g_test_add_func("/cli/create-body", test_create_body);
    g_test_add_func("/cli/no-manager", test_no_manager);
    g_test_add_func("/cli/manager-away", test_manager_away);
    g_test_add_func("/cli/interrupt", test_interrupt);
    g_test_add_func("/cli/complete", test_complete);
    g_test_add_func("/cli/complete-never-blocks", test_complete_never_blocks);
    /* last: from here on the clock stands still */
    g_test_add_func("/cli/times", test_times);
    g_test_add_func("/cli/tree-columns", test_tree_columns);
    return g_test_run();
}
