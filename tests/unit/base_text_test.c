/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of ids, names, sizes and words of commands (base/text.h).
 */
#include "base/cleanup.h"
#include "base/text.h"

#include <string.h>

static void
test_names(void)
{
    g_autofree char *long_name = g_strnfill(255, 'x');
    g_autofree char *too_long = g_strnfill(256, 'x');
    /* clang-format off */
    const struct { const char *name, *say; /* NULL = good */ } rows[] = {
        { "a", NULL }, { "before the upgrade", NULL }, { "../etc/passwd", NULL }, { ".", NULL },
        { "\xc3\xa4\xf0\x9f\x92\xbe", NULL }, { long_name, NULL },
        { NULL, "is empty" }, { "", "is empty" }, { too_long, "256 bytes" }, { "a\xff", "not valid UTF-8" },
        { "\xc3", "not valid UTF-8" }, { "a\nb", "control character (byte 2)" }, { "\x7f", "control" }, { "x\xc2\x85", "control" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        bool good = name_check("the snapshot's name", rows[i].name, &error);

        g_test_message("row %zu: %s", i, error != NULL ? error->message : "good");
        g_assert_cmpint(good, ==, rows[i].say == NULL);
        if (good)
            continue;
        g_assert_error(error, ERR, ERR_INVALID);
        g_assert_true(g_str_has_prefix(error->message, "the snapshot's name "));
        g_assert_nonnull(strstr(error->message, rows[i].say));
    }
}

static void
test_ids(void)
{
    /* clang-format off */
    static const struct { const char *id; bool valid; } rows[] = {
        { "11111111-2222-3333-4444-55555555abcd", true }, { NULL, false }, { "", false }, { "x", false },
        { "11111111-2222-3333-4444-55555555abcg", false }, { "11111111-2222-3333-4444-55555555abcde", false },
        { "11111111222233334444555555555555", false }, { "../11111-2222-3333-4444-555555555555", false },
    };
    /* clang-format on */
    g_autofree char *one = id_new();
    g_autofree char *two = id_new();

    g_assert_true(id_is_valid(one));
    g_assert_cmpstr(one, !=, two);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        g_assert_cmpint(id_is_valid(rows[i].id), ==, rows[i].valid);
}

static void
test_sizes(void)
{
    /* clang-format off */
    static const struct { uint64_t bytes; const char *text; } rows[] = {
        { 0, "0 B" }, { 1023, "1023 B" }, { 1024, "1.0 KiB" }, { 1536, "1.5 KiB" }, { 12897484, "12.3 MiB" },
        { 1ULL << 40, "1.0 TiB" }, { UINT64_MAX, "16.0 EiB" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = size_text(rows[i].bytes);
        g_assert_cmpstr(text, ==, rows[i].text);
    }
    g_autofree char *short_time = seconds_text(0.035);
    g_autofree char *long_time = seconds_text(1.2);
    g_assert_cmpstr(short_time, ==, "35 ms");
    g_assert_cmpstr(long_time, ==, "1.2 s");
    text_replace(&short_time, short_time); /* itself */
    g_assert_cmpstr(short_time, ==, "35 ms");
    text_replace(&short_time, NULL);
    g_assert_null(short_time);
}

/* Whatever the text is, a shell takes the word for it; and what needs no quotes has none. */
static void
test_shell_words(void)
{
    static const struct {
        const char *text, *word;
    } rows[] = {
        { "/d/web.1234abcd.qcow2", "/d/web.1234abcd.qcow2" },
        { "web1", "web1" },
        { "", NULL },
        { "/my disks/it's.qcow2", NULL },
        { "$(reboot); `reboot` & \"x\" *", NULL },
        { "two\nlines", NULL },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *word = shell_word(rows[i].text);
        g_autofree char *line = g_strconcat("printf %s ", word, NULL);
        char *argv[] = { (char *)"/bin/sh", (char *)"-c", line, NULL };
        g_autofree char *out = NULL;
        g_autoptr(GError) error = NULL;
        if (rows[i].word != NULL)
            g_assert_cmpstr(word, ==, rows[i].word);
        g_spawn_sync(NULL, argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, NULL, NULL, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(out, ==, rows[i].text);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/text/names", test_names);
    g_test_add_func("/text/ids", test_ids);
    g_test_add_func("/text/sizes", test_sizes);
    g_test_add_func("/text/shell-words", test_shell_words);
    return g_test_run();
}
