/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The seal of a graft, which libvirt loses: it names the old leaf, and the guest has written to the
 * new one. Which of the two is the newer one is told by what was seen, as of a snapshot. Here
 * nothing can share blocks, so that the graft is given up after its seal, which goes back into the
 * old leaf.
 */
#include "chain_host.h"

static const Case *const graft = &cases[G_N_ELEMENTS(cases) - 1];

/* Our overlay of the leaf; NULL = there is none. */
static char *
seal_of(Host *host)
{
    g_autoptr(GDir) dir = g_dir_open(host->disks, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(dir)) != NULL)
        if (g_str_has_prefix(name, "a.3.") && g_str_has_suffix(name, ".qcow2"))
            return in(host->disks, name);
    return NULL;
}

/* QEMU has changed to the seal, and agent and libvirtd were killed in that call. The guest has
 * written since; the file keeps the time of an empty one if that is lost. */
static char *
lose_seal(Host *host, bool lose_time)
{
    char *seal;

    fault_arm(-1);
    make_sealable(host);
    host->fake.dies_in_snapshot = true;
    operation_start(host, graft);
    json_decref(wait_for_step(host, "seal"));
    agent_end(host);
    host->fake.dies_in_snapshot = false;
    seal = seal_of(host);
    g_assert_nonnull(seal);
    MUST(host->disks,
         "sh -c 't=$(stat -c %%y %s); qemu-io -f qcow2 -c \"write -P 99 512k 64k\" %s; "
         "%s touch -d \"$t\" %s; qemu-img convert -f qcow2 -O raw %s a.gold'",
         seal, seal, lose_time ? "" : ":", seal, seal);
    return seal;
}

static void
assert_waits(Host *host, const char *seal, const char *why)
{
    g_autoptr(json_t) op = wait_for_step(host, "seal");

    g_test_message("%s", json_text(op, "waiting_for"));
    assert_says(op, why);
    assert_says(op, seal);
    g_assert_true(g_file_test(seal, G_FILE_TEST_EXISTS));
    g_assert_cmpstr(host->fake.disks[0].stored, !=, seal);
}

/* The merge is given up, as on every storage that cannot share. */
static void
assert_ends(Host *host)
{
    agent_kick(host->agent, FAKE_VM);
    g_autofree char *end = assert_whole(host, graft);
    g_assert_cmpstr(end, ==, "failed");
}

/* Nothing speaks against the seal: the VM goes on from there. */
static void
test_lost(const void *data)
{
    const bool lose_time = GPOINTER_TO_INT(data) != 0;
    g_autoptr(Host) host = host_new(true);
    g_autofree char *seal = lose_seal(host, lose_time);

    if (lose_time)
        MUST(host->disks, "touch a.3.q");
    fake_power_off(&host->fake);
    agent_begin(host);
    assert_ends(host);
}

/* A libvirtd that has just come back does not know yet that the QEMU has ended. */
static void
test_not_known_to_have_ended(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autofree char *seal = lose_seal(host, false);

    agent_begin(host);
    assert_waits(host, seal, "power the VM off");
    fake_power_off(&host->fake);
    assert_ends(host);
}

/* Where nothing guards the start, times are a reason to ask; a guard that was put up later has not
 * kept the VM from anything. */
static void
test_unguarded(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autofree char *seal = lose_seal(host, false);

    MUST(host->disks, "touch -d 'now + 1 hour' a.3.q");
    fake_power_off(&host->fake);
    agent_begin(host);
    assert_waits(host, seal, "start guard");
    agent_end(host);
    put_up_guard(host);
    agent_begin(host);
    assert_waits(host, seal, "start guard");
}

static void
test_guarded(void)
{
    g_autoptr(Host) host = host_new(true);

    put_up_guard(host);
    g_autofree char *seal = lose_seal(host, false);
    MUST(host->disks, "touch -d 'now + 1 hour' a.3.q");
    fake_power_off(&host->fake);
    agent_begin(host);
    assert_ends(host);
}

/* The seal; its VM is off, and only a person can tell what it was worth. */
static char *
wait_undecided(Host *host)
{
    char *seal = lose_seal(host, false);

    MUST(host->disks, "touch -d 'now + 1 hour' a.3.q");
    fake_power_off(&host->fake);
    agent_begin(host);
    assert_waits(host, seal, "mv ");
    return seal;
}

/* A person goes on from the old leaf, as he is told, or from the new one. */
static void
decide(Host *host, const char *seal, bool old)
{
    if (old) {
        MUST(host->disks, "sh -c 'mv %s ../aside; qemu-img convert -f qcow2 -O raw a.3.q a.gold'",
             seal);
    } else {
        WITH_LOCK(&host->fake.lock);
        fake_set(&host->fake.disks[0].stored, seal);
    }
}

static void
test_decided(const void *data)
{
    const bool old = GPOINTER_TO_INT(data) != 0;
    g_autoptr(Host) host = host_new(true);
    g_autofree char *seal = wait_undecided(host);

    decide(host, seal, old);
    assert_ends(host);
}

static void
cancel(Host *host)
{
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(operation_cancel(host->agent, OP, &answer, &error));
}

static void
assert_cancelled(Host *host)
{
    agent_kick(host->agent, FAKE_VM);
    g_autofree char *end = assert_whole(host, graft);
    g_assert_cmpstr(end, ==, "cancelled");
}

/* A merge that waits for a person can be cancelled: it goes on saying what decides, decides nothing
 * by itself, and when that is done merges nothing any more. */
static void
test_cancelled_undecided(const void *data)
{
    const bool old = GPOINTER_TO_INT(data) != 0;
    g_autoptr(Host) host = host_new(true);
    g_autofree char *seal = wait_undecided(host);

    cancel(host);
    g_autoptr(json_t) op = wait_for_step(host, "undo");
    assert_says(op, "only a person can tell");
    assert_says(op, "mv ");
    g_assert_true(g_file_test(seal, G_FILE_TEST_EXISTS));
    g_assert_cmpstr(host->fake.disks[0].stored, !=, seal);
    decide(host, seal, old);
    assert_cancelled(host);
}

/* While the QEMU runs that libvirt does not know to be on the seal. */
static void
test_cancelled_while_lost(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autofree char *seal = lose_seal(host, false);

    agent_begin(host);
    assert_waits(host, seal, "power the VM off");
    cancel(host);
    json_decref(wait_for_step(host, "undo"));
    g_assert_true(g_file_test(seal, G_FILE_TEST_EXISTS));
    fake_power_off(&host->fake);
    assert_cancelled(host);
}

/* The VM stands on the seal, and the agent that is told to cancel has not heard of it yet. */
static void
test_cancelled_when_done(void)
{
    g_autoptr(Host) host = host_new(true);

    fault_arm(-1);
    make_sealable(host);
    host->fake.dies_in_snapshot = true;
    operation_start(host, graft);
    json_decref(wait_for_step(host, "seal"));
    cancel(host);
    agent_end(host);
    host->fake.dies_in_snapshot = false;
    g_autofree char *seal = seal_of(host);
    fake_set(&host->fake.disks[0].live, seal);
    fake_set(&host->fake.disks[0].stored, seal);
    MUST(host->disks,
         "sh -c 'qemu-io -f qcow2 -c \"write -P 99 512k 64k\" %s; "
         "qemu-img convert -f qcow2 -O raw %s a.gold'",
         seal, seal);
    agent_begin(host);
    assert_cancelled(host);
}

/* A look while a QEMU wrote the seal counts more than any time. */
static void
test_seen(const void *data)
{
    const bool written = GPOINTER_TO_INT(data) != 0;
    g_autoptr(Host) host = host_new(true);
    g_autofree char *seal = lose_seal(host, false);
    autofd int fd = lock_as_qemu(seal);

    agent_begin(host);
    assert_waits(host, seal, "power the VM off");
    agent_end(host);
    MUST(host->disks, "touch -d 'now - 1 day' %s", written ? "a.3.q" : seal);
    autofd_close(&fd);
    fd = -1;
    fake_power_off(&host->fake);
    agent_begin(host);
    if (written)
        assert_waits(host, seal, "has been written since");
    else
        assert_ends(host);
}

/* A later life of the VM, from the stale definition; the guest writes. */
static void
start_stale(Host *host)
{
    fake_power_off(&host->fake);
    fake_power_on(&host->fake);
    MUST(host->disks, "qemu-io -f qcow2 -c 'write -P 77 704k 64k' a.3.q");
    MUST(host->disks, "qemu-img convert -f qcow2 -O raw a.3.q a.gold");
}

/* A later life runs on the old leaf: the merge is given up, and both volumes stay. */
static void
test_stale_start(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autofree char *seal = lose_seal(host, false);

    start_stale(host);
    agent_begin(host);
    g_autoptr(json_t) op = operation_end(host);
    g_assert_cmpstr(json_text(op, "state"), ==, "failed");
    g_assert_nonnull(strstr(json_text(json_object_get(op, "error"), "message"), seal));
    g_assert_true(g_file_test(seal, G_FILE_TEST_EXISTS));
    assert_data(host);
}

static bool
has_decided(const json_t *op, const char *seal)
{
    const char *text = json_text(op, "waiting_for");

    return !g_str_equal(json_text(op, "state"), "running") ||
           (text != NULL && strstr(text, "only a person can tell") != NULL &&
            strstr(text, seal) != NULL);
}

/* libvirt is lost after so many looks, and the VM is off when it is back. False when that was too
 * late. */
static bool
stale_start_and_off(unsigned looks)
{
    g_autoptr(Host) host = host_new(true);
    g_autofree char *seal = lose_seal(host, false);
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    start_stale(host);
    host->fake.dies_after_looks = looks;
    agent_begin(host);
    bool ended = false;
    while (!ended && fake_is_connected(&host->fake.hv)) {
        g_autoptr(json_t) op = operation_now(host);
        ended = !g_str_equal(json_text(op, "state"), "running");
    }
    agent_end(host);
    host->fake.dies_after_looks = 0;
    fake_power_off(&host->fake);
    agent_begin(host);
    for (bool decided = false; !decided; g_usleep(1000)) {
        g_autoptr(json_t) op = operation_now(host);
        g_assert_cmpstr(host->fake.disks[0].stored, !=, seal);
        decided = has_decided(op, seal);
        if (g_get_monotonic_time() > until)
            g_error("it neither ends nor asks: %s", json_dumps(op, 0));
    }
    g_assert_true(g_file_test(seal, G_FILE_TEST_EXISTS));
    assert_data(host);
    return !ended;
}

/* It does not go on from the seal by itself, at whichever point it is when the VM stops. */
static void
test_stale_start_and_off(void)
{
    unsigned looks = 2;

    while (stale_start_and_off(looks))
        looks++;
    g_assert_cmpuint(looks, >, 3);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    need_qemu();
    template_make();
    g_test_add_data_func("/seal/lost", GINT_TO_POINTER(0), test_lost);
    g_test_add_data_func("/seal/lost-time", GINT_TO_POINTER(1), test_lost);
    g_test_add_func("/seal/not-known-to-have-ended", test_not_known_to_have_ended);
    g_test_add_func("/seal/unguarded", test_unguarded);
    g_test_add_func("/seal/guarded", test_guarded);
    g_test_add_data_func("/seal/decided-new", GINT_TO_POINTER(0), test_decided);
    g_test_add_data_func("/seal/decided-old", GINT_TO_POINTER(1), test_decided);
    g_test_add_data_func("/seal/cancelled-undecided-new", GINT_TO_POINTER(0),
                         test_cancelled_undecided);
    g_test_add_data_func("/seal/cancelled-undecided-old", GINT_TO_POINTER(1),
                         test_cancelled_undecided);
    g_test_add_func("/seal/cancelled-while-lost", test_cancelled_while_lost);
    g_test_add_func("/seal/cancelled-when-done", test_cancelled_when_done);
    g_test_add_data_func("/seal/seen-unwritten", GINT_TO_POINTER(0), test_seen);
    g_test_add_data_func("/seal/seen-written", GINT_TO_POINTER(1), test_seen);
    g_test_add_func("/seal/stale-start", test_stale_start);
    g_test_add_func("/seal/stale-start-and-off", test_stale_start_and_off);
    int result = g_test_run();
    folder_remove(&template);
    return result;
}
