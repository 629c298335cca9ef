/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a storage domain has beside manifests, the lease's record and the measured rates, where it
 * is not ours, or cannot be written: nobody holds a lease who could not write down that he does,
 * and nothing but an estimate depends on the rates. That each bit and each length may be wrong is
 * in storage_lease_test.c and storage_records_test.c.
 */
#include "storage/lease.h"
#include "storage/storage.h"

#include "../lib/image_tools.h"
#include "../lib/small_fs.h"

#include <sys/stat.h>

#define LEASE ".livemerge/lease.json"
#define RATES ".livemerge/rates.json"

static const struct {
    const char *name, *command; /* F is the file */
    const char *told;
} strangers[] = {
    { "link", "mv $F real; ln -s ../real $F", "symbolic link" },
    { "directory", "rm $F; mkdir $F", "not a regular file" },
    { "pipe", "rm $F; mkfifo $F", "not a regular file" },
    { "huge", "truncate -s 65M $F", "64 MiB" },
    { "others-may-write", "chmod 606 $F", "chmod 600" },
    { "of-somebody-else", "chown 4242 $F", "belongs to user 4242" },
};

static void
shell(const char *folder, const char *file, const char *command, char **ret_out)
{
    g_autofree char *line = g_strdup_printf("F=%s; %s", file, command);
    char *argv[] = { (char[]){ "sh" }, (char[]){ "-ec" }, line, NULL };

    g_assert_cmpint(run(folder, argv, ret_out), ==, 0);
}

static void
make(const char *folder)
{
    g_autoptr(Domain) domain = domain_open(folder, NULL, NULL);
    g_autoptr(GError) error = NULL;
    LeaseHold hold = { 0 };
    Rates rates;

    g_assert_true(lease_hold(domain->lease, 0, &hold, &error));
    lease_drop(&hold);
    g_assert_true(rates_load(domain, &rates, &error));
    g_assert_true(rates_add(&rates, RATE_COPY, 3e9, 2));
    g_assert_true(rates_save(domain, &rates, &error));
}

static void
assert_told(const GError *error, const char *file, const char *told)
{
    if (strstr(error->message, file) == NULL || strstr(error->message, told) == NULL)
        g_error("it does not tell \"%s\" of %s: %s", told, file, error->message);
}

static void
try_stranger(const char *command, const char *told)
{
    static const char look[] = "stat -c '%F %s %a %Y %i' $F";
    FOLDER(folder);
    g_autofree char *before = NULL, *after = NULL;
    g_autoptr(GError) holding = NULL, loading = NULL;
    LeaseHold hold = { 0 };
    Rates rates, none;

    make(folder);
    shell(folder, LEASE, command, NULL);
    shell(folder, RATES, command, NULL);
    shell(folder, LEASE, look, &before);
    g_autoptr(Domain) domain = domain_open(folder, NULL, NULL);
    g_assert_false(lease_hold(domain->lease, 0, &hold, &holding));
    assert_told(holding, LEASE, told);
    shell(folder, LEASE, look, &after);
    g_assert_cmpstr(before, ==, after);
    g_assert_false(rates_load(domain, &rates, &loading));
    assert_told(loading, RATES, told);
    rates_init(&none); /* as if nothing had been measured */
    g_assert_cmpmem(&rates, sizeof rates, &none, sizeof none);
}

static void
test_strangers(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(strangers); i++) {
        if (strstr(strangers[i].command, "chown") != NULL && geteuid() != 0)
            continue;
        g_test_message("%s", strangers[i].name);
        try_stranger(strangers[i].command, strangers[i].told);
    }
}

/* Of a version that is not known nothing is read, and it is not replaced. */
static void
test_newer(void)
{
    FOLDER(folder);
    g_autofree char *before = NULL, *after = NULL, *file = in(folder, RATES);
    g_autoptr(GError) error = NULL;
    Rates rates, none;

    make(folder);
    shell(folder, RATES, "sed -i 's/\"livemerge\": 1/\"livemerge\": 2/' $F", NULL);
    g_assert_true(g_file_get_contents(file, &before, NULL, NULL));
    g_autoptr(Domain) domain = domain_open(folder, NULL, NULL);
    g_assert_false(rates_load(domain, &rates, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    assert_told(error, RATES, "use the version that");
    rates_init(&none);
    g_assert_cmpmem(&rates, sizeof rates, &none, sizeof none);
    g_assert_false(rates_save(domain, &rates, NULL));
    g_assert_true(g_file_get_contents(file, &after, NULL, NULL));
    g_assert_cmpstr(before, ==, after);
}

/* A damaged one is replaced, and kept. */
static void
test_damaged(void)
{
    FOLDER(folder);
    g_autofree char *kept = in(folder, RATES ".damaged"), *text = NULL;
    Rates rates;

    make(folder);
    shell(folder, RATES, "echo '{ 4711' > $F", NULL);
    g_autoptr(Domain) domain = domain_open(folder, NULL, NULL);
    g_assert_false(rates_load(domain, &rates, NULL));
    g_assert_true(rates_save(domain, &rates, NULL));
    g_assert_true(rates_load(domain, &rates, NULL));
    g_assert_true(g_file_get_contents(kept, &text, NULL, NULL));
    g_assert_nonnull(strstr(text, "4711"));
}

/* The greatest number that a damaged record can have. */
static void
test_last_number(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    LeaseHold hold = { 0 };

    make(folder);
    shell(folder, LEASE, "sed -i 's/\"token\": [0-9]*/\"token\": 9223372036854775807/' $F", NULL);
    g_autoptr(Domain) domain = domain_open(folder, NULL, NULL);
    g_assert_true(lease_hold(domain->lease, 0, &hold, &error));
    g_assert_true(lease_check(&hold, &error));
    g_assert_cmpint(hold.token, ==, INT64_MAX);
    lease_drop(&hold);
}

/* ---- file systems that take nothing ---- */

/* 0 = nobody holds it, and both files are as they were. */
static int
take_nothing(const char *folder, const char *told)
{
    g_autofree char *before = NULL, *after = NULL;
    g_autoptr(GError) holding = NULL, saving = NULL;
    g_autoptr(Domain) domain = domain_open(folder, NULL, NULL);
    LeaseHold hold = { 0 };
    Rates rates;

    if (domain == NULL)
        return 1;
    shell(folder, LEASE, "cat " LEASE " " RATES, &before);
    if (lease_hold(domain->lease, 0, &hold, &holding) || strstr(holding->message, told) == NULL ||
        strstr(holding->message, folder) == NULL)
        return 2;
    if (!rates_load(domain, &rates, NULL) || !rates_add(&rates, RATE_COPY, 5e9, 2))
        return 3;
    if (rates_save(domain, &rates, &saving) || strstr(saving->message, told) == NULL ||
        strstr(saving->message, RATES) == NULL)
        return 4;
    shell(folder, LEASE, "cat " LEASE " " RATES, &after);
    return g_strcmp0(before, after) == 0 ? 0 : 5;
}

static int
read_only(const char *folder)
{
    make(folder);
    return mount(NULL, folder, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0
               ? take_nothing(folder, "ead-only")
               : 77;
}

static int
full(const char *folder)
{
    static const char block[4096];
    g_autofree char *ballast = in(folder, "ballast");

    make(folder);
    autofd int fd = open(ballast, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    while (write(fd, block, sizeof block) > 0)
        ;
    return take_nothing(folder, "o space left");
}

static void
test_small(const void *then)
{
    FOLDER(folder);

    is_fine_on_small(folder, then != NULL ? full : read_only);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/beside/strangers", test_strangers);
    g_test_add_func("/beside/newer", test_newer);
    g_test_add_func("/beside/damaged", test_damaged);
    g_test_add_func("/beside/last-number", test_last_number);
    g_test_add_data_func("/beside/read-only", NULL, test_small);
    g_test_add_data_func("/beside/full", "", test_small);
    return g_test_run();
}
