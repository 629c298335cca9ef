/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Events, jobs and VMs as a stream: who follows, who comes again, who is slow, and many at once.
 */
#include "api_site.h"

#define URL "GET " API_ROOT "/events"
#define ACCEPT "Accept: text/event-stream\r\n"

/* ---- a reader of chunks, lines and messages ---- */

typedef struct {
    int fd;
    GString *raw;  /* not looked at yet */
    GString *text; /* of the body */
    bool in_body;
    bool ended;
    char *type; /* of the message that was read last, as all below */
    gint64 id;
    json_t *data;
} Reader;

static Reader *
open_stream(const Site *site, const char *query, const char *headers)
{
    Reader *reader = g_new0(Reader, 1);
    g_autofree char *request =
        g_strdup_printf(URL "%s HTTP/1.1\r\nHost: x\r\n" ACCEPT "%s\r\n", query, headers);

    reader->fd = site_connect(site);
    reader->raw = g_string_new(NULL);
    reader->text = g_string_new(NULL);
    g_assert_true(site_send(reader->fd, request, strlen(request)));
    return reader;
}

static void
reader_free(Reader *reader)
{
    close(reader->fd);
    g_string_free(reader->raw, TRUE);
    g_string_free(reader->text, TRUE);
    g_free(reader->type);
    json_decref(reader->data);
    g_free(reader);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Reader, reader_free)

/* Moves whole chunks from raw to text. */
static void
unwrap(Reader *reader)
{
    char *end;

    if (!reader->in_body) {
        end = strstr(reader->raw->str, "\r\n\r\n");
        if (end == NULL)
            return;
        g_assert_true(g_str_has_prefix(reader->raw->str, "HTTP/1.1 200 "));
        g_assert_nonnull(strstr(reader->raw->str, "Content-Type: text/event-stream\r\n"));
        g_assert_nonnull(strstr(reader->raw->str, "Cache-Control: no-store\r\n"));
        g_string_erase(reader->raw, 0, end + 4 - reader->raw->str);
        reader->in_body = true;
    }
    while ((end = strstr(reader->raw->str, "\r\n")) != NULL) {
        gsize size = g_ascii_strtoull(reader->raw->str, NULL, 16);
        gsize head = (gsize)(end + 2 - reader->raw->str);
        if (reader->raw->len < head + size + 2)
            return;
        reader->ended = reader->ended || size == 0;
        g_string_append_len(reader->text, reader->raw->str + head, (gssize)size);
        g_string_erase(reader->raw, 0, (gssize)(head + size + 2));
    }
}

static bool
receive(Reader *reader)
{
    char part[16384];
    ssize_t got = reader->ended ? 0 : recv(reader->fd, part, sizeof part, 0);

    if (got < 0 && errno == EAGAIN)
        g_error("nothing came for 20 s");
    if (got <= 0)
        return false;
    g_string_append_len(reader->raw, part, got);
    unwrap(reader);
    return true;
}

static void
take_line(Reader *reader, const char *line)
{
    if (g_str_has_prefix(line, "event: "))
        reader->type = g_strdup(line + 7);
    else if (g_str_has_prefix(line, "id: "))
        reader->id = g_ascii_strtoll(line + 4, NULL, 10);
    else if (g_str_has_prefix(line, "data: "))
        reader->data = json_loads(line + 6, 0, NULL);
    else if (!g_str_has_prefix(line, ":") && !g_str_has_prefix(line, "retry: ") && *line != '\0')
        g_error("a line that means nothing: %s", line);
}

/* The next message; false: the stream has ended. */
static bool
next(Reader *reader)
{
    char *end;

    g_clear_pointer(&reader->type, g_free);
    g_clear_pointer(&reader->data, json_decref);
    reader->id = 0;
    while (reader->type == NULL) {
        while ((end = strstr(reader->text->str, "\n\n")) == NULL)
            if (!receive(reader))
                return false;
        g_autofree char *message = g_strndup(reader->text->str, (gsize)(end - reader->text->str));
        g_string_erase(reader->text, 0, end + 2 - reader->text->str);
        g_auto(GStrv) lines = g_strsplit(message, "\n", -1);
        for (char **line = lines; *line != NULL; line++)
            take_line(reader, *line);
    }
    g_assert_nonnull(reader->data);
    return true;
}

/* The next one of that type, others left out. */
static void
next_of(Reader *reader, const char *type)
{
    do {
        if (!next(reader))
            g_error("the stream ended before a message '%s'", type);
    } while (!g_str_equal(reader->type, type));
}

static void
say(const Site *site, const char *text)
{
    g_assert_true(
        manager_event(site->manager, 7, "normal", NULL, NULL, NULL, NULL, NULL, "%s", text));
}

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
    autofd int fd = site_connect(site);
    char got[4096] = "";
    size_t size = 0;
    ssize_t more;

    g_assert_true(site_send(fd, request, strlen(request)));
    while (size < sizeof got - 1 && (more = recv(fd, got + size, sizeof got - 1 - size, 0)) > 0)
        size += (size_t)more;
    got[size] = '\0';
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
