/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Deleting volumes, and emptying the trash, while something is in the way.
 */
#include "chain_host.h"

static void
begin_delete(Host *host, const char *path)
{
    g_autoptr(json_t) body =
        json_pack("{s:s, s:s, s:s, s:s, s:[s]}", "id", OP, "kind", "delete-volumes", "vm_id",
                  FAKE_VM, "disk_id", host->disk_id, "volumes", path);
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    operation_begin(host->agent, body, &answer, &error);
    g_assert_no_error(error);
}

/* It was long under way, and arrives after the journal was lost that knew of its id: what was said
 * of that id is lost too. */
static void
test_sent_to_an_earlier_journal(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autoptr(json_t) body =
        json_pack("{s:s, s:s, s:s, s:s, s:[s], s:s}", "id", OP, "kind", "delete-volumes", "vm_id",
                  FAKE_VM, "disk_id", host->disk_id, "volumes", "/nowhere/a.q", "agent",
                  "88888888-8888-4888-8888-888888888888");
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    fault_arm(-1);
    g_assert_false(operation_begin(host->agent, body, &answer, &error));
    g_assert_error(error, ERR, ERR_GONE);
    g_clear_error(&error);
    json_object_set_new(body, "agent", json_string(journal_agent_id(host->agent->journal)));
    operation_begin(host->agent, body, &answer, &error);
    g_assert_no_error(error);
}

/* libvirtd was killed as a merge ended: it lists the merged volume for ever. No image lock tells
 * that QEMU has let go of it (this QEMU has none at all), so it stays until the VM is off. */
static void
test_delete_of_what_libvirt_lists(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autofree char *path = g_build_filename(host->disks, "a.merged.q", NULL);

    fault_arm(-1);
    MUST(host->disks, "qemu-img create -q -f qcow2 a.merged.q 1M");
    host->fake.disks[0].lists = path;
    begin_delete(host, path);
    g_autoptr(json_t) op = wait_for_step(host, "delete");
    assert_says(op, "power the VM off");
    g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));

    fake_power_off(&host->fake);
    agent_queue_refresh(host->agent, FAKE_VM);
    g_autoptr(json_t) end = operation_end(host);
    g_assert_cmpstr(json_text(end, "state"), ==, "done");
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static void
wait_until_gone(const char *path)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    while (g_file_test(path, G_FILE_TEST_EXISTS)) {
        if (g_get_monotonic_time() > until)
            g_error("%s is still there", path);
        g_usleep(2000);
    }
}

/* A storage that is away for a while has not lost the VM's manifest: the delete waits for it. */
static void
test_delete_while_the_storage_is_away(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autofree char *path = g_build_filename(host->disks, "a.merged.q", NULL),
                    *away = g_strconcat(host->disks, ".away", NULL);

    fault_arm(-1);
    MUST(host->disks, "qemu-img create -q -f qcow2 a.merged.q 1M");
    g_assert_cmpint(g_rename(host->disks, away), ==, 0);
    begin_delete(host, path);
    for (unsigned i = 0; i < 7; i++) { /* more often than it used to be tried */
        json_decref(wait_for_step(host, "delete"));
        agent_kick(host->agent, FAKE_VM);
    }
    g_assert_cmpint(g_rename(away, host->disks), ==, 0);
    agent_kick(host->agent, FAKE_VM);
    g_autoptr(json_t) end = operation_end(host);
    g_assert_cmpstr(json_text(end, "state"), ==, "done");
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static bool
is_swept_later(Agent *agent)
{
    WITH_LOCK(&agent->lock);

    return agent->unswept->len == 1 &&
           agent->sweep_at_us - g_get_monotonic_time() > 500 * G_TIME_SPAN_MILLISECOND;
}

/* A trash that could not be emptied is emptied when it can be read again. */
static void
test_trash_is_swept_again(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autofree char *trash = in(host->disks, ".livemerge/trash"),
                    *away = in(host->disks, ".livemerge/trash.away"),
                    *entry = g_build_filename(trash, OP ".0.a.q", NULL);
    Domain *domain = agent_domain(host->agent, host->fake.disks[0].live, false, NULL);
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    fault_arm(-1);
    g_assert_true(g_file_set_contents(entry, "x", 1, NULL));
    g_assert_cmpint(g_rename(trash, away), ==, 0);
    agent_sweep_later(host->agent, domain);
    while (!is_swept_later(host->agent)) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(2000);
    }
    g_assert_cmpint(g_rename(away, trash), ==, 0);
    wait_until_gone(entry);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    need_qemu();
    template_make();
    g_test_add_func("/delete/sent-to-an-earlier-journal", test_sent_to_an_earlier_journal);
    g_test_add_func("/delete/listed-by-libvirt", test_delete_of_what_libvirt_lists);
    g_test_add_func("/delete/storage-is-away", test_delete_while_the_storage_is_away);
    g_test_add_func("/trash/swept-again", test_trash_is_swept_again);
    int result = g_test_run();
    folder_remove(&template);
    return result;
}
