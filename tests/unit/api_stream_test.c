/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Events, jobs and VMs as a stream: who follows, who comes again, who is slow, and many at once.
 */
#include "api_reader.h"

/* ---- the tests ---- */

static void
test_follow(void)
{
    Site *site = site_new();
    gint64 newest = manager_last_event(site->manager);
    g_autoptr(Reader) reader = open_stream(site, "", "");

    next_of(reader, "open");
    g_assert_cmpint(reader->id, ==, newest);
    g_assert_cmpint(json_number(reader->data, "index"), ==, newest);
    say(site, "one\nline <two>");
    say(site, "three");
    next_of(reader, "event");
    g_assert_cmpint(reader->id, ==, newest + 1);
    g_assert_cmpstr(json_text(reader->data, "description"), ==, "one\nline <two>");
    next_of(reader, "event");
    g_assert_cmpstr(json_text(reader->data, "description"), ==, "three");
    g_assert_cmpint(reader->id, ==, json_number(reader->data, "index"));
    site_free(site);
}

/* A VM that changed and a job from its begin to its end. */
static void
test_jobs_and_vms(void)
{
    Site *site = site_new();
    g_autoptr(Vm) vm = make_vm(4);
    g_autoptr(GError) error = NULL;
    SnapshotCreate what = { .vm_id = VM_ID, .name = "new" };
    g_autoptr(Reader) before = open_stream(site, "/stream?types=job,vm", "");

    next_of(before, "open");
    g_autofree char *job = manager_snapshot_create(site->manager, &what, NULL, &error);
    g_assert_no_error(error);
    next_of(before, "job");
    g_assert_cmpstr(json_text(before->data, "id"), ==, job);
    g_assert_cmpstr(json_text(before->data, "status"), ==, "started");
    next_of(before, "vm"); /* its snapshots are locked now */
    g_assert_cmpstr(json_text(before->data, "id"), ==, VM_ID);
    g_assert_false(json_flag(before->data, "gone"));

    /* who comes later is told of what is under way */
    g_autofree char *operation = agent_wait_operation(site->agent, "snapshot-create");
    g_autoptr(Reader) after = open_stream(site, "?types=job", "");
    next_of(after, "open");
    next_of(after, "job");
    g_assert_cmpstr(json_text(after->data, "id"), ==, job);

    vm->state = VM_PAUSED;
    agent_end_operation(site->agent, operation, vm);
    do
        next_of(after, "job");
    while (g_str_equal(json_text(after->data, "status"), "started"));
    g_assert_cmpstr(json_text(after->data, "status"), ==, "finished");
    do
        next_of(before, "vm");
    while (!g_str_equal(json_text(before->data, "status"), "paused"));
    g_assert_cmpstr(json_text(before->data, "name"), ==, "web1");
    site_free(site);
}

/* Each event once and in order, also those that come while the old ones are read. */
static void
test_resume(void)
{
    Site *site = site_new();
    gint64 first = manager_last_event(site->manager);
    g_autofree char *header =
        g_strdup_printf("Last-Event-ID: %" G_GINT64_FORMAT "\r\n", first + 10);

    for (int i = 0; i < 250; i++)
        say(site, "old");
    g_autoptr(Reader) other = open_stream(site, "?types=event", ""); /* the ring is in use */
    next_of(other, "open");
    g_autoptr(Reader) reader = open_stream(site, "/stream?types=event&from=0", header);
    next_of(reader, "open");
    g_assert_cmpint(reader->id, ==, first + 10);
    for (int i = 0; i < 20; i++)
        say(site, "new");
    for (gint64 id = first + 11; id <= first + 270; id++) {
        g_assert_true(next(reader));
        g_assert_cmpint(reader->id, ==, id);
    }
    g_assert_cmpstr(json_text(reader->data, "description"), ==, "new");
    for (gint64 id = first + 251; id <= first + 270; id++) {
        g_assert_true(next(other));
        g_assert_cmpint(other->id, ==, id);
    }
    /* a place that was never reached, as after a lost database: what comes next is told */
    g_autoptr(Reader) lost = open_stream(site, "?from=999999999", "");
    next_of(lost, "open");
    g_assert_cmpint(lost->id, ==, first + 270);
    site_free(site);
}

static void
assert_refused(const Site *site, const char *request, const char *status, const char *says)
{
    g_autofree char *got = exchange(site, request);

    if (strstr(got, status) == NULL || strstr(got, says) == NULL)
        g_error("%s: wanted %s and '%s', got: %s", request, status, says, got);
}

static void
test_refused(void)
{
    Site *site = site_new();
#define END " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"

    assert_refused(site, URL "/stream?types=event,dog" END ACCEPT "\r\n", "400 ", "'dog'");
    assert_refused(site, URL "?from=x" END ACCEPT "\r\n", "400 ", "'from'");
    assert_refused(site, URL END ACCEPT "Last-Event-ID: x\r\n\r\n", "400 ", "Last-Event-ID");
    assert_refused(site, URL "/stream" END "Accept: text/html\r\n\r\n", "406 ", "application/json");
    assert_refused(site, "GET " API_ROOT "/vms" END ACCEPT "\r\n", "406 ", "application/json");
    assert_refused(site, "POST " API_ROOT "/events/stream" END "\r\n", "405 ", "GET, HEAD");
    site_free(site);
}

/* Who does not read is cut once others have been told much more than he has taken: nothing is kept
 * for him, and what he got is whole. */
static void
test_slow_reader(void)
{
    Site *site = site_new();
    g_autofree char *text = g_strnfill(2000, 'x');
    g_autoptr(Reader) slow = open_stream(site, "?types=event", "");
    g_autoptr(Reader) quick = open_stream(site, "?types=event", "");
    gint64 count = 0;

    next_of(slow, "open");
    next_of(quick, "open");
    gint64 first = quick->id;
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < 250; i++)
            say(site, text);
        for (int i = 0; i < 250; i++)
            g_assert_true(next(quick));
    }
    g_assert_cmpint(quick->id, ==, first + 1500);
    while (next(slow))
        g_assert_cmpint(slow->id, ==, first + ++count);
    g_assert_cmpint(count, >, 10);
    g_assert_cmpint(count, <, 1000);
    site_free(site);
}

static unsigned
threads_now(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/task", 0, NULL);
    unsigned count = 0;

    while (g_dir_read_name(dir) != NULL)
        count++;
    return count;
}

/* They cost no threads, all are told, they are gone when their clients are, and they do not hold
 * up the end. */
static void
test_many(void)
{
    Site *site = site_new();
    g_autoptr(GPtrArray) readers = g_ptr_array_new_with_free_func((GDestroyNotify)reader_free);

    for (int i = 0; i < 300; i++) {
        Reader *reader = open_stream(site, "?types=event", "");
        g_ptr_array_add(readers, reader);
        next_of(reader, "open");
    }
    g_assert_cmpuint(threads_now(), <, 60);
    say(site, "to all");
    for (guint i = 0; i < readers->len; i++) {
        next_of(readers->pdata[i], "event");
        g_assert_cmpstr(json_text(((Reader *)readers->pdata[i])->data, "description"), ==,
                        "to all");
    }
    g_ptr_array_set_size(readers, 100);
    say(site, "to those who are left");
    for (guint i = 0; i < readers->len; i++)
        next_of(readers->pdata[i], "event");
    site_stop_server(site);
    for (guint i = 0; i < readers->len; i++)
        g_assert_false(next(readers->pdata[i]));
    site_free(site);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_stream_test");
    xml_init();
    g_test_add_func("/api-stream/follow", test_follow);
    g_test_add_func("/api-stream/jobs-and-vms", test_jobs_and_vms);
    g_test_add_func("/api-stream/resume", test_resume);
    g_test_add_func("/api-stream/refused", test_refused);
    g_test_add_func("/api-stream/slow-reader", test_slow_reader);
    g_test_add_func("/api-stream/many", test_many);
    return g_test_run();
}
