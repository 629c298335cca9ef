/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/remote.h"
#include "base/clock.h"
#include "cli/doc.h"
#include "cli/token.h"

#include <string.h>

#define API "/ovirt-engine/api"
#define SESSION "/session"
#define CALL_TIMEOUT_MS 60000

/* --ca, else what login was given for this address. */
static bool
connect_client(Cli *cli, GError **error)
{
    const Options *o = cli->options;
    g_auto(TokenEntry) entry = { 0 };

    if (cli->client != NULL)
        return true;
    if (!token_load(cli->address, &entry, error))
        return false;
    const char *ca = option_text(o, OPT_CA) != NULL ? option_text(o, OPT_CA) : entry.ca;
    cli->client = http_client_new(cli->address, ca, option_given(o, OPT_INSECURE), error);
    if (cli->client != NULL && entry.token != NULL)
        cli->authorization = g_strconcat("Authorization: Bearer ", entry.token, NULL);
    return cli->client != NULL;
}

static ErrorCode
code_of_status(int status)
{
    switch (status) {
    case 400:
        return ERR_INVALID;
    case 401:
        return ERR_SIGN_IN;
    case 403:
        return ERR_FORBIDDEN;
    case 404:
        return ERR_NOT_FOUND;
    case 409:
        return ERR_REFUSED;
    case 410:
        return ERR_GONE;
    case 413:
        return ERR_TOO_LARGE;
    case 429:
        return ERR_LIMITED;
    case 501:
        return ERR_UNSUPPORTED;
    case 502:
    case 503:
    case 504:
        return ERR_HYPERVISOR; /* behind the manager; the manager itself did answer */
    case 507:
        return ERR_NO_SPACE;
    default:
        return ERR_INTERNAL;
    }
}

/* "[a, b]" is how oVirt writes a detail */
static char *
without_brackets(const char *text)
{
    size_t n = strlen(text);

    if (n > 2 && text[0] == '[' && text[n - 1] == ']')
        return g_strndup(text + 1, n - 2);
    return g_strdup(text);
}

static bool
set_fault(const Cli *cli, const char *path, int status, const json_t *doc, GError **error)
{
    const json_t *fault = doc_at(doc, "fault") != NULL ? doc_at(doc, "fault") : doc;
    g_autofree char *detail = without_brackets(doc_text(fault, "detail"));
    const char *reason = doc_text(fault, "reason");
    const char *sso = doc_text(fault, "error"); /* how sign-ins fail */
    const char *text = *detail != '\0' ? detail : *reason != '\0' ? reason : sso;

    if (*text == '\0')
        return error_set(error, code_of_status(status),
                         "the manager answered %s with HTTP status %d and no reason", path, status);
    if (text == sso)
        return error_set(error, ERR_SIGN_IN, "%s", text);
    if (status != 401)
        return error_set(error, code_of_status(status), "%s", text);
    g_autofree char *address = g_shell_quote(cli->address);
    return error_set(error, ERR_SIGN_IN, "%s: livemerge login %s", text, address);
}

static json_t *
read_answer(const Cli *cli, const char *path, const HttpAnswer *answer, GError **error)
{
    g_autoptr(json_t) doc = json_loadb(answer->body != NULL ? answer->body : "", answer->body_size,
                                       JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);

    if (answer->status < 200 || answer->status > 299) {
        set_fault(cli, path, answer->status, doc, error);
        return NULL;
    }
    if (answer->body_size == 0)
        return json_null();
    if (doc == NULL) {
        error_set(error, ERR_INTERNAL,
                  "the answer to %s is not JSON; is this a livemerge manager? It says it is '%s'",
                  path, answer->content_type != NULL ? answer->content_type : "nothing");
        return NULL;
    }
    return g_steal_pointer(&doc);
}

static json_t *
call_with(Cli *cli, const char *method, const char *path, const char *const *headers,
          const char *text, unsigned timeout_ms, GError **error)
{
    g_auto(HttpAnswer) answer = { 0 };

    if (!http_call(cli->client, method, path, headers, text, text != NULL ? strlen(text) : 0,
                   timeout_ms, &answer, error))
        return NULL;
    return read_answer(cli, path, &answer, error);
}

static json_t *
call(Cli *cli, const char *method, const char *path, const json_t *body, unsigned timeout_ms,
     GError **error)
{
    g_autofree char *full = g_strconcat(API, *path != '\0' ? "/" : "", path, NULL);
    autolibc char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;

    if (!connect_client(cli, error))
        return NULL;
    const char *const headers[] = { "Accept: application/json", "Content-Type: application/json",
                                    cli->authorization, NULL };
    return call_with(cli, method, full, headers, text, timeout_ms, error);
}

static bool
no_answer(const GError *error)
{
    return g_error_matches(error, ERR, ERR_UNREACHABLE) || g_error_matches(error, ERR, ERR_TIMEOUT);
}

json_t *
remote_get(Cli *cli, const char *path, GError **error)
{
    g_autoptr(GError) problem = NULL;
    json_t *doc = call(cli, "GET", path, NULL, CALL_TIMEOUT_MS, &problem);

    if (doc == NULL && no_answer(problem))
        error_set(error, (ErrorCode)problem->code, "livemerge-manager cannot be reached: %s%s",
                  problem->message,
                  g_str_has_prefix(cli->address, "unix:")
                      ? "; 'systemctl status livemerge-manager' tells whether it runs, --connect "
                        "names another one"
                      : "");
    else if (doc == NULL)
        g_propagate_error(error, g_steal_pointer(&problem));
    return doc;
}

json_t *
remote_form(Cli *cli, const char *path, const char *form, GError **error)
{
    static const char *const headers[] = { "Accept: application/json",
                                           "Content-Type: application/x-www-form-urlencoded",
                                           NULL };

    return connect_client(cli, error)
               ? call_with(cli, "POST", path, headers, form, CALL_TIMEOUT_MS, error)
               : NULL;
}

json_t *
remote_session(Cli *cli, GError **error)
{
    if (!connect_client(cli, error))
        return NULL;
    const char *const headers[] = { "Accept: application/json", cli->authorization, NULL };
    return call_with(cli, "GET", SESSION, headers, NULL, CALL_TIMEOUT_MS, error);
}

json_t *
remote_get_quick(Cli *cli, const char *path, unsigned timeout_ms, GError **error)
{
    return call(cli, "GET", path, NULL, timeout_ms, error);
}

json_t *
remote_send(Cli *cli, const char *method, const char *path, const json_t *body, GError **error)
{
    json_t *doc = call(cli, method, path, body, CALL_TIMEOUT_MS, error);

    if (doc == NULL && error != NULL && no_answer(*error))
        g_prefix_error(error, "no answer from the manager; it may have accepted the request all "
                              "the same, 'livemerge job list' tells: ");
    return doc;
}

json_t *
remote_get_patiently(Cli *cli, const char *path, unsigned timeout_ms, int64_t deadline_us,
                     GError **error)
{
    unsigned patience_s = cli->io->patience_s > 0 ? cli->io->patience_s : 30;
    int64_t give_up_us = 0;

    for (unsigned pause_ms = 100;; pause_ms = MIN(pause_ms * 2, 2000)) {
        g_autoptr(GError) problem = NULL;
        json_t *doc = call(cli, "GET", path, NULL, timeout_ms, &problem);
        int64_t now = clock_mono_us();

        if (doc != NULL && give_up_us > 0)
            cli_say(cli, "The manager answers again.");
        if (doc != NULL)
            return doc;
        if (no_answer(problem) && give_up_us == 0) {
            give_up_us = MIN(now + (int64_t)patience_s * 1000000, deadline_us);
            cli_say(cli, "The manager does not answer (%s); trying again for up to %u s.",
                    problem->message, patience_s);
        }
        if (!no_answer(problem) || now >= give_up_us) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return NULL;
        }
        g_usleep(MIN((int64_t)pause_ms * 1000, give_up_us - now));
    }
}

char *
remote_path(const char *format, ...)
{
    GString *path = g_string_new(NULL);
    va_list list;

    va_start(list, format);
    for (const char *p = format; *p != '\0'; p++) {
        if (p[0] != '%' || p[1] != 's') {
            g_string_append_c(path, *p);
            continue;
        }
        g_string_append_uri_escaped(path, va_arg(list, const char *), NULL, FALSE);
        p++;
    }
    va_end(list);
    return g_string_free(path, FALSE);
}
