/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Clients that wait for something, many at a time and all of one address: no thread of the pool
 * does, others are answered meanwhile, and all are told when it has come.
 */
#include "api_tcp.h"
#include "base/log.h"

#include <poll.h>

#define API "/ovirt-engine/api/"
#define WAITING 150 /* more than the 100 requests of one address that may be under way */

static World world;
static unsigned port;
static char *administrator; /* header lines */

/* ---- many who wait ---- */

static int
ask(const char *method, const char *path, const char *body)
{
    g_autofree char *headers = g_strconcat(
        administrator, "Accept: application/json\r\nContent-Type: application/json\r\n", NULL);
    g_autofree char *head = raw_head(method, path, headers, strlen(body));
    int fd = raw_dial(port);

    raw_say(fd, head, strlen(head));
    raw_say(fd, body, strlen(body));
    return fd;
}

static int
status_of(const char *method, const char *path)
{
    g_auto(Heard) heard = { 0 };
    autofd int fd = ask(method, path, "");

    raw_hear(fd, &heard);
    return heard.status;
}

/* 503 is what one gets who finds too many at the door: on a busy machine all can be there still. */
static void
assert_others_get_in(void)
{
    gint64 began = g_get_monotonic_time();
    int status;

    while ((status = status_of("GET", API "vms")) == 503)
        g_assert_cmpint(g_get_monotonic_time() - began, <, 30 * G_TIME_SPAN_SECOND);
    g_assert_cmpint(status, ==, 200);
}

/* Each is let in before the next comes. */
static void
ask_all(const char *method, const char *path, const char *body, int fds[WAITING])
{
    for (int i = 0; i < WAITING; i++) {
        fds[i] = ask(method, path, body);
        assert_others_get_in();
    }
    for (int i = 0; i < 20; i++)
        assert_others_get_in();
}

static unsigned
answered(const int fds[WAITING])
{
    struct pollfd polled[WAITING];

    for (int i = 0; i < WAITING; i++)
        polled[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
    return (unsigned)poll(polled, WAITING, 0);
}

/* How many were let in, and told this. On a busy machine too many are on their way at one moment:
 * some are sent away. */
static void
hear_all(const int fds[WAITING], int or_status, const char *wanted)
{
    unsigned waited = 0;

    for (int i = 0; i < WAITING; i++) {
        g_auto(Heard) heard = { 0 };
        autofd int fd = fds[i];
        raw_hear(fd, &heard);
        if (heard.status == 503)
            continue;
        if ((heard.status != 200 && heard.status != or_status) ||
            (heard.status == 200 && strstr(heard.body->str, wanted) == NULL))
            g_error("who waited for %s: %d\n%s", wanted, heard.status,
                    heard.body != NULL ? heard.body->str : "(no answer)");
        waited++;
    }
    g_assert_cmpuint(waited, >, WAITING * 4 / 5);
}

/* ---- for what ---- */

typedef struct {
    char *id, *operation;
} Job;

static void
job_clear(Job *job)
{
    g_free(job->id);
    g_free(job->operation);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Job, job_clear)

/* A job that goes on until the test ends it. */
static void
begin_job(Job *job)
{
    json_call(&world, "POST", PATH("/vms/" VM_ID "/snapshots"),
              "{\"description\":\"takes long\",\"persist_memorystate\":false}", 201);
    job->id = g_strdup(json_text(at(world.doc, "job"), "id"));
    job->operation = agent_wait_operation(world.agent, "snapshot-create");
}

/* It fails, for the VM has no such snapshot: so the next one can begin. */
static void
end_job(const Job *job)
{
    g_autoptr(Vm) vm = sample_vm();

    agent_end_operation(world.agent, job->operation, vm);
    do
        json_call(&world, "GET", PATH("/jobs/%s?wait=30&pace=30000", job->id), NULL, 200);
    while (g_strcmp0(json_text(world.doc, "status"), "started") == 0);
}

static void
test_actions(void)
{
    g_auto(Job) job = { 0 };
    int fds[WAITING];

    begin_job(&job);
    g_autofree char *path = g_strdup_printf(API "jobs/%s/cancel", job.id);
    ask_all("POST", path, "{\"async\":false}", fds);
    end_job(&job);
    hear_all(fds, 409, "complete");
}

static void
test_jobs(void)
{
    g_auto(Job) job = { 0 };
    int fds[WAITING];

    begin_job(&job);
    /* its rev grows until the operation is known to run; with this pace only its end is told */
    g_autofree char *path = g_strdup_printf(API "jobs/%s?wait=60&pace=60000", job.id);
    ask_all("GET", path, "", fds);
    unsigned before = answered(fds);
    end_job(&job);
    hear_all(fds, 200, "end_time");
    g_assert_cmpuint(before, <, WAITING / 5); /* those who were sent away */
}

static void
test_events(void)
{
    int fds[WAITING];

    g_autofree char *path = g_strdup_printf(API "events?wait=60&from=%" G_GINT64_FORMAT,
                                            (gint64)manager_last_event(world.manager));
    ask_all("GET", path, "", fds);
    unsigned before = answered(fds);
    manager_event(world.manager, 30, "normal", NULL, NULL, NULL, NULL, "admin", "at %s", "last");
    hear_all(fds, 200, "at last");
    g_assert_cmpuint(before, <, WAITING / 5);
}

/* The answer to a PUT is 200 when the snapshot has its name, or after three seconds. */
static void
test_renaming(void)
{
    static const char body[] = "{\"description\":\"another name\"}";
    int fds[WAITING];

    ask_all("PUT", API "vms/" VM_ID "/snapshots/" SNAP_1, body, fds);
    g_autofree char *operation = agent_wait_operation(world.agent, "snapshot-rename");
    g_autoptr(Vm) vm = sample_vm();
    g_free(((Snapshot *)vm->snapshots->pdata[0])->name);
    ((Snapshot *)vm->snapshots->pdata[0])->name = g_strdup("another name");
    vm->generation += 100;
    agent_end_operation(world.agent, operation, vm);
    hear_all(fds, 409, "another name"); /* the first one's job holds the VM */
}

/* What a poll answers when nothing comes. */
static void
test_time_is_up(void)
{
    g_auto(Job) job = { 0 };
    gint64 began;

    json_call(&world, "GET", PATH("/events?from=999999&wait=1"), NULL, 200);
    assert_at(world.doc, "event", "[]");
    begin_job(&job);
    do { /* until it does not change any more */
        began = g_get_monotonic_time();
        json_call(&world, "GET",
                  PATH("/jobs/%s?wait=1&rev=%" G_GINT64_FORMAT, job.id,
                       (gint64)json_number(world.doc, "rev")),
                  NULL, 200);
    } while (g_get_monotonic_time() - began < G_TIME_SPAN_SECOND);
    assert_at(world.doc, "status", "\"started\"");
    end_job(&job);
}

/* ---- begin ---- */

static void
begin(void)
{
    static const char *const form[] = { "Accept: application/json",
                                        "Content-Type: application/x-www-form-urlencoded", NULL };

    world_start(&world);
    port = raw_port(&world);
    json_call(&world, "POST", PATH("/users"),
              "{\"user_name\":\"boss\",\"role\":\"administrator\",\"password\":\"sesame open\"}",
              201);
    call(&world, "POST", g_strdup("/ovirt-engine/sso/oauth/token"), form,
         "grant_type=password&scope=ovirt-app-api&username=boss&password=sesame+open");
    g_assert_cmpint(world.answer.status, ==, 200);
    administrator =
        g_strdup_printf("Authorization: Bearer %s\r\n", json_text(world.doc, "access_token"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_wait_test");
    begin();
#define TEST(path, function) g_test_add_func("/api/wait/" path, function)
    TEST("actions", test_actions);
    TEST("jobs", test_jobs);
    TEST("events", test_events);
    TEST("time-is-up", test_time_is_up);
    TEST("renaming", test_renaming);
    int failed = g_test_run();
    world_stop(&world);
    g_free(administrator);
    return failed;
}
