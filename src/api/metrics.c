/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/metrics.h"

#include "api/certificate.h"
#include "base/clock.h"

#include <string.h>
#include <unistd.h>

static const double buckets[] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 0 };

/* clang-format off */
static const MeterKind requests[] = {
    { "livemerge_http_requests_total", "counter", "Requests, by method and status.", NULL },
    { "livemerge_http_request_seconds", "histogram", "How long answers took that did not wait for news.", buckets },
    { NULL },
};

static const MeterKind process[] = {
    { "livemerge_build_info", "gauge", "1, with the version.", NULL },
    { "livemerge_tls_certificate_end_timestamp_seconds", "gauge", "When the TLS certificate ends that new connections get.", NULL },
    { "process_cpu_seconds_total", "counter", "Processor time of the manager.", NULL },
    { "process_resident_memory_bytes", "gauge", "Memory of the manager.", NULL },
    { "process_start_time_seconds", "gauge", "When the manager started.", NULL },
    { NULL },
};
/* clang-format on */

Meter *
metrics_new(void)
{
    return meter_new(requests);
}

/* A long poll takes as long as there is no news: that is no latency. */
static bool
waits(const HttpRequest *request)
{
    return request->query != NULL && strstr(request->query, "wait=") != NULL;
}

static const char *
known_method(const char *method)
{
    static const char *const known[] = { "GET", "HEAD", "POST", "PUT", "DELETE" };

    for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
        if (g_str_equal(method, known[i]))
            return known[i];
    return "other"; /* each new word would be one number more */
}

void
metrics_count(Meter *meter, const HttpRequest *request, const HttpResponse *response,
              int64_t began_us)
{
    g_autofree char *code = g_strdup_printf("%d", response->status);

    meter_add(meter, "livemerge_http_requests_total", 1, "method", known_method(request->method),
              "code", code, NULL);
    if (!waits(request))
        meter_add(meter, "livemerge_http_request_seconds",
                  (double)(clock_mono_us() - began_us) / 1e6, NULL);
}

/* The fields of /proc/self/stat after the program's name (proc(5)): utime is 14, stime 15,
 * starttime 22, rss 24. */
static void
measure_process(Meter *now)
{
    g_autofree char *stat = NULL, *uptime = NULL;
    const char *rest;

    if (!g_file_get_contents("/proc/self/stat", &stat, NULL, NULL) ||
        !g_file_get_contents("/proc/uptime", &uptime, NULL, NULL) ||
        (rest = strrchr(stat, ')')) == NULL)
        return;
    g_auto(GStrv) field = g_strsplit(rest, " ", -1); /* field[1] is number 3 */
    double ticks = (double)sysconf(_SC_CLK_TCK);

    if (g_strv_length(field) < 23)
        return;
    double age = g_ascii_strtod(uptime, NULL) - g_ascii_strtod(field[20], NULL) / ticks;
    meter_add(now, "process_cpu_seconds_total",
              (g_ascii_strtod(field[12], NULL) + g_ascii_strtod(field[13], NULL)) / ticks, NULL);
    meter_add(now, "process_resident_memory_bytes",
              g_ascii_strtod(field[22], NULL) * (double)sysconf(_SC_PAGESIZE), NULL);
    meter_add(now, "process_start_time_seconds", (double)clock_wall_ms() / 1000 - age, NULL);
}

static void
measure_certificate(Meter *now, Certificate *certificate)
{
    g_auto(CertificateView) view = { 0 };

    if (certificate != NULL && certificate_view(certificate, &view, NULL))
        meter_add(now, "livemerge_tls_certificate_end_timestamp_seconds",
                  (double)view.served.ends / 1000, NULL);
}

static bool
write_all(const Api *api, GString *text, GError **error)
{
    g_autoptr(Meter) now = meter_new(process);

    meter_add(now, "livemerge_build_info", 1, "version", LIVEMERGE_VERSION, NULL);
    measure_certificate(now, api->certificate);
    measure_process(now);
    if (!manager_measure(api->manager, text, error))
        return false;
    meter_write(api->meter, text);
    meter_write(now, text);
    return true;
}

void
metrics_answer(const Api *api, const HttpRequest *request, HttpResponse *response)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) problem = NULL;

    response->status = 200;
    if (!g_str_equal(request->method, "GET") && !g_str_equal(request->method, "HEAD")) {
        if (http_response_allow(request, response, "GET, HEAD, OPTIONS"))
            return;
        response->status = 405;
        g_string_append_printf(text, "%s is not possible on " METRICS_PATH "\n", request->method);
    } else if (!write_all(api, text, &problem)) {
        response->status = error_http_status(problem);
        g_string_printf(text, "%s\n", problem->message);
    }
    response->content_type = g_strdup("text/plain; version=0.0.4; charset=utf-8");
    response->body_size = text->len;
    response->body = g_string_free(g_steal_pointer(&text), FALSE);
}
