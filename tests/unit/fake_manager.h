/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A manager that knows one VM and one job, and runs of the command line against it.
 */
#pragma once

#include "cli/cli.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>

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
    const char
        *faster;      /* what it finds once it was asked to mend, of which its job mended nothing */
    int paused_polls; /* so many polls say that the job has paused */
    char *last_body;  /* of the last POST or PUT */
    char *last_path;
} Fake;

#define VM_ID "11111111-0000-4000-8000-000000000001"
#define JOB_ID "22222222-0000-4000-8000-000000000002"
#define S1 "33333333-0000-4000-8000-000000000003"
#define S2 "44444444-0000-4000-8000-000000000004"

static inline char *
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

static inline char *
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
                 "\"down\",\"unmanaged\":\"network disk\"},{\"id\":\"56\",\"name\":"
                 "\"a b\",\"status\":\"unknown\"}]}" },
        { "hosts", "{\"host\":[{\"name\":\"h1\",\"status\":\"up\"},{\"name\":\"h2\",\"status\":"
                   "\"non_responsive\",\"status_detail\":\"nobody is listening\"}]}" },
        { "storagedomains",
          "{\"storage_domain\":[{\"id\":\"24871534-e619-5d22-a10d-510c9314897f\",\"storage\":{"
          "\"path\":"
          "\"/srv/images\"},\"available\":1073741824,\"used\":4096},{\"id\":"
          "\"34871534-e619-5d22-a10d-510c9314897f\",\"storage\":{\"path\":\"/srv/away\"}}]}" },
        { "vms/" VM_ID, "{\"id\":\"" VM_ID "\",\"name\":\"web\",\"status\":\"up\"}" },
        { "vms/" VM_ID "/diskattachments",
          "{\"disk_attachment\":[{\"id\":\"d1\",\"logical_name\":\"/dev/vda\",\"disk\":{\"id\":"
          "\"d1\"}}]}" },
        { "disks/d1", "{\"id\":\"d1\",\"name\":\"web_disk\",\"provisioned_size\":1073741824,"
                      "\"volumes\":[{\"id\":\"vol-base\",\"path\":\"/x/base.qcow2\",\"format\":"
                      "\"qcow2\",\"virtual_size\":1073741824,\"allocated\":4096}]}" },
        { "vms/" VM_ID "/snapshots", snapshots },
        { "vms/55/snapshots", "{\"snapshot\":[]}" },
        { "vms/56/snapshots", "{\"snapshot\":[]}" },
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

static inline char *
answer_job(Fake *fake, bool polled)
{
    if (polled)
        fake->polls++;
    if (fake->interrupt_at > 0 && fake->polls == fake->interrupt_at)
        kill(getpid(), SIGINT);
    return job_document(fake, fake->polls >= 4 && !fake->never_ends);
}

/* As a long poll answers: oldest first. */
static inline char *
answer_events(bool nothing_new)
{
    return g_strdup(nothing_new
                        ? "{\"event\":[]}"
                        : "{\"event\":[{\"id\":\"7\",\"severity\":\"normal\",\"time\":"
                          "\"2026-01-31T12:00:01Z\",\"description\":\"first\"},{\"id\":\"8\","
                          "\"severity\":\"error\",\"time\":\"2026-01-31T12:00:02Z\","
                          "\"description\":\"second\\u0007\"}]}");
}

static inline char *
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

static const char doctor_idle_job[] = "{\"id\":\"" JOB_ID "\",\"status\":\"finished\",\"end_time\":"
                                      "\"2026-01-31T12:00:01Z\",\"vm\":{\"name\":\"web\"},"
                                      "\"findings\":{\"finding\":[]}}";

static inline void
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
        response->body =
            g_strdup(fake->faster != NULL && fake->last_body != NULL ? fake->faster : fake->doctor);
    else if (g_str_equal(path, "jobs/" JOB_ID) && fake->doctor != NULL)
        response->body = g_strdup(fake->faster != NULL ? doctor_idle_job : doctor_job);
    else if (g_str_equal(path, "jobs/" JOB_ID))
        response->body = answer_job(fake, http_query(request, "wait") != NULL);
    else
        response->body = answer_get(fake, path, &response->status);
    response->body_size = strlen(response->body);
}

static inline void
fake_listen(Fake *fake)
{
    g_autoptr(GError) error = NULL;
    HttpServerOptions options = { .address = fake->address };

    fake->server = http_server_start(&options, handle, fake, &error);
    g_assert_no_error(error);
}

static inline void
fake_start(Fake *fake)
{
    fake->dir = g_dir_make_tmp("livemerge-cli-XXXXXX", NULL);
    fake->address = g_strdup_printf("unix:%s/s", fake->dir);
    g_mutex_init(&fake->mutex);
    fake_listen(fake);
}

static inline void
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

static inline void
run_clear(Run *run)
{
    free(run->out);
    free(run->err);
    memset(run, 0, sizeof *run);
}

/* Words are separated by spaces, "~" stands for a space inside a word. */
static inline Run
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

static inline Run
run_line(Fake *fake, const char *line)
{
    CliIo io = { .patience_s = 2, .utf8 = true };

    return run_with(&io, fake != NULL ? fake->address : NULL, line);
}

static inline void
assert_contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        g_error("wanted '%s' in:\n%s", part, text);
}
