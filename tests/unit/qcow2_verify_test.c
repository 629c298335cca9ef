/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Comparing the maps and the content of volumes (qcow2/verify.h).
 */
#include "../lib/image_tools.h"
#include "qcow2/verify.h"

/* base.q, or (with_below) below.q <- base.q; on it mid.q <- top.q. A line of writes each. */
typedef struct {
    const char *name;
    bool with_below;
    const char *base, *mid, *top; /* what qemu-io does; NULL = nothing */
    const char *differs;          /* NULL = all is there */
} CommitCase;

/* clang-format off */
static const CommitCase commit_cases[] = {
    { "all-there",        false, "write 0 256k",      "write 0 64k",    "write 64k 64k",      NULL },
    { "nothing-above",    true,  NULL,                NULL,             NULL,                 NULL },
    { "mid-left-out",     false, "write 64k 64k",     "write -P 3 0 64k", "write 64k 64k",    "does not hold the same" },
    { "top-left-out",     true,  "write 64k 64k",     "write 64k 64k",  "write 128k 64k",     "byte 131072 " },
    { "zeros-over-below", true,  NULL,                "write -z 0 64k", NULL,                 "byte 0 " },
    { "zeros-over-none",  false, NULL,                "write -z 0 64k", NULL,                 NULL },
    { "data-of-zeros",    false, NULL,                "write -P 0 0 64k", NULL,               NULL },
    { "zeros-for-zeros",  true,  "write -z 0 64k",    "write -P 0 0 64k", "write -z 0 64k",   NULL },
    { "zeros-for-data",   true,  "write -z 0 64k",    "write -P 9 0 64k", NULL,               "does not hold the same" },
    { "older-covered",    false, "write 0 64k",       "write -P 3 0 64k", "write -P 4 0 64k", NULL },
};
/* clang-format on */

static void
write_layer(const char *folder, const char *name, const char *what)
{
    if (what != NULL)
        MUST(folder, "qemu-io -f qcow2 -c '%s' %s", what, name);
}

static void
test_commit_maps(void)
{
    need_qemu();
    for (size_t i = 0; i < G_N_ELEMENTS(commit_cases); i++) {
        const CommitCase *c = &commit_cases[i];
        FOLDER(folder);
        g_autofree char *below = image(folder, "below.q", MIB, NULL, NULL),
                        *base = image(folder, "base.q", MIB, c->with_below ? "below.q" : NULL,
                                      c->with_below ? "qcow2" : NULL),
                        *mid = image(folder, "mid.q", MIB, "base.q", "qcow2"),
                        *top = image(folder, "top.q", MIB, "mid.q", "qcow2");
        const Qcow2Source upper[] = { { mid, "qcow2" }, { top, "qcow2" } },
                          lower = { base, "qcow2" };
        const Qcow2Verify how = { .virtual_size = MIB };
        g_autoptr(GError) error = NULL;

        write_layer(folder, "below.q", "write -P 77 0 1M");
        write_layer(folder, "base.q", c->base);
        write_layer(folder, "mid.q", c->mid);
        write_layer(folder, "top.q", c->top);
        bool same = qcow2_verify_commit(upper, 2, &lower, &how, NULL, &error);
        if (same != (c->differs == NULL))
            g_error("%s: %s", c->name, same ? "no difference was found" : error->message);
        if (!same)
            assert_refused(error, ERR_CORRUPT, c->differs);
    }
}

/* Sizes that differ are a difference, unless the caller knows better; what was copied is not read
 * when only maps are compared, but a hole in it is seen. */
static void
test_built_maps(void)
{
    FOLDER(folder);
    g_autofree char *old = image(folder, "old.q", MIB, NULL, NULL),
                    *grown = image(folder, "grown.q", 2 * MIB, NULL, NULL);
    const Qcow2Source run = { old, "qcow2" };
    Qcow2Verify how = { 0 };
    Qcow2Compared compared = { 0 };
    g_autoptr(GError) error = NULL;

    need_qemu();
    MUST(folder, "qemu-io -f qcow2 -c 'write -P 1 0 256k' old.q");
    MUST(folder, "qemu-io -f qcow2 -c 'write -P 1 0 256k' grown.q");
    g_assert_false(qcow2_verify_map(&run, 1, grown, &how, NULL, &error));
    assert_refused(error, ERR_CORRUPT, "2097152");
    g_clear_error(&error);
    how.virtual_size = 2 * MIB;
    g_assert_true(qcow2_verify_map(&run, 1, grown, &how, &compared, &error));
    g_assert_cmpuint(compared.bytes_compared + compared.bytes_same_blocks, ==, 256 * KIB);

    MUST(folder, "qemu-io -f qcow2 -c 'write -P 2 64k 4k' grown.q");
    how.maps_only = true;
    g_assert_true(qcow2_verify_map(&run, 1, grown, &how, &compared, &error));
    how.maps_only = false;
    g_assert_false(qcow2_verify_map(&run, 1, grown, &how, &compared, &error));
    assert_refused(error, ERR_CORRUPT, "byte 65536 ");
    g_clear_error(&error);
    how.maps_only = true;
    MUST(folder, "qemu-io -f qcow2 -c 'discard 128k 64k' grown.q");
    g_assert_false(qcow2_verify_map(&run, 1, grown, &how, &compared, &error));
    assert_refused(error, ERR_CORRUPT, "byte 131072 ");
}

static bool
stop_at_third(uint64_t done, uint64_t total, void *data)
{
    return ++*(unsigned *)data < 3;
}

/* A cancel is asked for every few MiB, not once for each table. */
static void
test_cancel_soon(void)
{
    FOLDER(folder);
    g_autofree char *a = image(folder, "a.q", 64 * MIB, NULL, NULL),
                    *b = image(folder, "b.q", 64 * MIB, NULL, NULL);
    const Qcow2Source one = { a, "qcow2" }, other = { b, "qcow2" };
    unsigned asked = 0;
    const Qcow2Verify how = { .progress = stop_at_third, .data = &asked };
    g_autoptr(GError) error = NULL;

    need_qemu();
    MUST(folder, "qemu-io -f qcow2 -c 'write -P 1 0 64M' a.q");
    MUST(folder, "qemu-io -f qcow2 -c 'write -P 1 0 32M' -c 'write -P 2 32M 32M' b.q");
    g_assert_false(qcow2_verify_content(&one, 1, &other, 1, &how, NULL, &error));
    g_assert_error(error, ERR, ERR_CANCELLED); /* not the difference at 32 MiB */
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/compare/commit-maps", test_commit_maps);
    g_test_add_func("/compare/built-maps", test_built_maps);
    g_test_add_func("/compare/cancel", test_cancel_soon);
    return g_test_run();
}
