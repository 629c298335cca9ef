/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/doors.h"

#include "api/access.h"
#include "api/exchange.h"
#include "api/media.h"
#include "base/log.h"

#include <string.h>

#define EVENT_LOGIN 30
#define EVENT_LOGOUT 31
#define SCOPE "ovirt-app-api"
/* Ours, beside it: a token for a program that keeps it for weeks. */
#define SCOPE_PROGRAM "livemerge-program"

static void
put_json(HttpResponse *response, int status, json_t *take)
{
    g_autoptr(json_t) doc = take;

    response->status = status;
    response->body = media_write(MEDIA_JSON, "", doc);
    response->content_type = g_strdup("application/json");
}

/* In oVirt's words. The session's id is that of users/NAME/sessions. */
static void
tell(Api *api, int code, const char *name, const char *token, const HttpRequest *request)
{
    const char *sent = http_header(request, "Correlation-Id");
    g_autofree char *correlation =
        correlation_id_clean(sent != NULL ? sent : http_query(request, "correlation_id"));
    g_autofree char *session = people_session_id(token);
    bool in = code == EVENT_LOGIN;

    manager_event(api->manager, code, "normal", NULL, NULL, NULL, correlation, name,
                  "User %s %s from '%s' using session '%s' logged %s.", name,
                  in ? "connecting" : "connected", request->peer, session, in ? "in" : "out");
}

/* ---- oVirt's tokens ---- */

/* As the engine words them: another form for scopes that are not the API's. */
static void
put_sso_error(HttpResponse *response, int status, bool own_scope, const char *code,
              const char *text)
{
    if (own_scope)
        put_json(response, status, json_pack("{s:s, s:s}", "error_code", code, "error", text));
    else
        put_json(response, status,
                 json_pack("{s:s, s:s}", "error", code, "error_description", text));
}

/* Of the body's form, else of the query; owned by one of them. */
static const char *
parameter(const HttpRequest *request, GHashTable *form, const char *name)
{
    const char *value = g_hash_table_lookup(form, name);

    return value != NULL ? value : http_query(request, name);
}

/* NULL: it is none, and has been answered. */
static GHashTable *
read_form(const HttpRequest *request, HttpResponse *response)
{
    GHashTable *form = strlen(request->body) == request->body_size
                           ? g_uri_parse_params(request->body, (gssize)request->body_size, "&",
                                                G_URI_PARAMS_WWW_FORM, NULL)
                           : NULL;

    if (form == NULL)
        put_sso_error(response, 400, true, "invalid_request",
                      "the body is no form: name=value&..., percent-encoded UTF-8 without NUL");
    return form;
}

static void
put_token(Api *api, const HttpRequest *request, const Who *who, const char *scope,
          HttpResponse *response)
{
    g_autoptr(GError) problem = NULL;
    TokenKind kind = strstr(scope, SCOPE_PROGRAM) != NULL ? TOKEN_PROGRAM : TOKEN_API;
    int64_t expires = 0;
    g_autofree char *token =
        people_token_new(api->people, who, kind, request->peer, &expires, &problem);

    if (token == NULL) {
        log_warn("a token for %s could not be made: %s", who->name, problem->message);
        put_sso_error(response, 400, true, "server_error", problem->message);
        return;
    }
    tell(api, EVENT_LOGIN, who->name, token, request);
    g_autofree char *until = g_strdup_printf("%" G_GINT64_FORMAT, (gint64)expires);
    put_json(response, 200,
             json_pack("{s:s, s:s, s:s, s:s}", "access_token", token, "scope", scope, "exp", until,
                       "token_type", "bearer"));
}

static void
post_token(Api *api, const HttpRequest *request, HttpResponse *response)
{
    g_autoptr(GHashTable) form = read_form(request, response);
    g_autoptr(GError) problem = NULL;

    if (form == NULL)
        return;
    const char *grant = parameter(request, form, "grant_type");
    const char *scope = parameter(request, form, "scope");
    const char *user = parameter(request, form, "username");
    const char *password = parameter(request, form, "password");
    bool own_scope = scope == NULL || strstr(scope, SCOPE) != NULL;
    if (grant == NULL || scope == NULL) {
        put_sso_error(response, 400, own_scope, "invalid_request",
                      grant == NULL ? "the parameter grant_type is missing"
                                    : "the parameter scope is missing");
        return;
    }
    if (!g_str_equal(grant, "password")) {
        put_sso_error(response, 400, own_scope, "unsupported_grant_type",
                      "grant_type can only be password");
        return;
    }
    if (user == NULL || password == NULL) {
        put_sso_error(response, 400, own_scope, "invalid_request",
                      "the parameters username and password are needed");
        return;
    }
    if (!own_scope) {
        put_sso_error(response, 400, false, "invalid_scope", "the scope must name " SCOPE);
        return;
    }
    g_autoptr(Who) who = people_sign_in(api->people, user, password, request->peer, &problem);
    if (who != NULL) {
        put_token(api, request, who, scope, response);
        return;
    }
    access_tell_failed(api, user, request, problem);
    access_challenge(request, problem, response);
    bool limited = g_error_matches(problem, ERR, ERR_LIMITED);
    put_sso_error(response, limited ? 429 : 400, true,
                  limited || g_error_matches(problem, ERR, ERR_SIGN_IN) ? "access_denied"
                                                                        : "server_error",
                  problem->message);
}

/* A token that is none any more is as good as revoked. */
static void
post_logout(Api *api, const HttpRequest *request, HttpResponse *response)
{
    g_autoptr(GHashTable) form = read_form(request, response);
    const char *token = form != NULL ? parameter(request, form, "token") : NULL;
    g_autoptr(GError) problem = NULL;

    if (form == NULL)
        return;
    if (token == NULL) {
        put_sso_error(response, 400, true, "invalid_request", "the parameter token is missing");
        return;
    }
    g_autofree char *name = people_token_revoke(api->people, token, &problem);
    if (problem != NULL) {
        put_sso_error(response, 400, true, "server_error", problem->message);
        return;
    }
    if (name != NULL)
        tell(api, EVENT_LOGOUT, name, token, request);
    put_json(response, 200, json_object());
}

/* ---- the page's session ---- */

static void
put_problem(const HttpRequest *request, const GError *problem, HttpResponse *response)
{
    access_challenge(request, problem, response);
    put_json(response, error_http_status(problem),
             json_pack("{s:s, s:s, s:s}", "detail", problem->message, "reason", "Operation Failed",
                       "code", error_word(problem)));
}

static json_t *
session_document(const Api *api, const Who *who)
{
    json_t *doc =
        json_pack("{s:s, s:s?, s:s, s:s}", "user", who->name, "name", who->user, "role",
                  role_word(who->role), "passwords", people_use_pam(api->people) ? "pam" : "own");
    json_t *roles = json_array();
    GHashTableIter all;
    void *id, *role;

    if (who->vms != NULL) {
        g_hash_table_iter_init(&all, who->vms);
        while (g_hash_table_iter_next(&all, &id, &role))
            json_array_append_new(roles, json_pack("{s:{s:s}, s:s}", "vm", "id", id, "role",
                                                   role_word((Role)GPOINTER_TO_INT(role))));
    }
    json_object_set_new(doc, "vm_roles", json_pack("{s:o}", "vm_role", roles));
    return doc;
}

static json_t *
read_session(const HttpRequest *request, char **ret_user, char **ret_password, GError **error)
{
    Media media;

    /* the type alone keeps forms of other pages out */
    if (!media_of_body(http_header(request, "Content-Type"), &media, error))
        return NULL;
    if (media != MEDIA_JSON) {
        error_set(error, ERR_MEDIA, "the session's body must be application/json");
        return NULL;
    }
    g_autoptr(json_t) body =
        media_read(MEDIA_JSON, "session", request->body, request->body_size, error);
    if (body == NULL || !body_text(body, "username", ret_user, error) ||
        !body_text(body, "password", ret_password, error))
        return NULL;
    if (*ret_user == NULL || *ret_password == NULL) {
        error_set(error, ERR_INVALID, "username and password are needed");
        return NULL;
    }
    return g_steal_pointer(&body);
}

/* token "" takes it away */
static void
put_cookie(const Api *api, const HttpRequest *request, const char *token, HttpResponse *response)
{
    bool secure = access_is_secure(api, request);
    g_autofree char *cookie = g_strdup_printf(
        "%s=%s; Path=/; HttpOnly; SameSite=Strict%s%s", secure ? COOKIE_HOST : COOKIE, token,
        *token == '\0' ? "; Max-Age=0" : "", secure ? "; Secure" : "");

    http_response_header(response, "Set-Cookie", cookie);
}

/* Who signs in again in the same browser leaves no session behind of which he knows nothing. */
static void
end_former(Api *api, const HttpRequest *request)
{
    g_autofree char *token = access_cookie(api, request);
    g_autofree char *name = token != NULL ? people_token_revoke(api->people, token, NULL) : NULL;

    if (name != NULL)
        tell(api, EVENT_LOGOUT, name, token, request);
}

static void
post_session(Api *api, const HttpRequest *request, HttpResponse *response)
{
    g_autofree char *user = NULL, *password = NULL, *token = NULL;
    g_autoptr(GError) problem = NULL;
    g_autoptr(json_t) body = read_session(request, &user, &password, &problem);
    g_autoptr(Who) who = NULL;
    int64_t expires = 0;

    if (body != NULL) {
        who = people_sign_in(api->people, user, password, request->peer, &problem);
        if (who == NULL)
            access_tell_failed(api, user, request, problem);
    }
    if (who != NULL)
        token =
            people_token_new(api->people, who, TOKEN_BROWSER, request->peer, &expires, &problem);
    if (token == NULL) {
        put_problem(request, problem, response);
        return;
    }
    end_former(api, request);
    tell(api, EVENT_LOGIN, who->name, token, request);
    put_cookie(api, request, token, response);
    put_json(response, 200, session_document(api, who));
}

static void
get_session(Api *api, const HttpRequest *request, HttpResponse *response)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(Who) who = access_who(api, request, &problem);

    if (who != NULL)
        put_json(response, 200, session_document(api, who));
    else
        put_problem(request, problem, response);
}

static void
delete_session(Api *api, const HttpRequest *request, HttpResponse *response)
{
    g_autoptr(GError) problem = NULL;
    g_autofree char *token = access_cookie(api, request);
    g_autofree char *name = NULL;

    if (token != NULL && http_header(request, PAGE_HEADER) == NULL)
        error_set(&problem, ERR_FORBIDDEN, "signing out needs the header " PAGE_HEADER);
    else if (token != NULL)
        name = people_token_revoke(api->people, token, &problem);
    if (problem != NULL) {
        put_problem(request, problem, response);
        return;
    }
    if (name != NULL)
        tell(api, EVENT_LOGOUT, name, token, request);
    put_cookie(api, request, "", response);
    put_json(response, 200, json_object());
}

/* ---- the certificate authority ---- */

static void
put_ca(Api *api, const HttpRequest *request, HttpResponse *response)
{
    g_autoptr(GError) problem = NULL;

    if (api->ca == NULL) {
        error_set(&problem, ERR_NOT_FOUND,
                  "no certificate authority is known: [manager] tls_ca names the one of your own "
                  "certificate");
        put_problem(request, problem, response);
        return;
    }
    response->status = 200;
    response->body = g_strdup(api->ca);
    response->content_type = g_strdup("application/x-x509-ca-cert");
}

static void
get_pki_resource(Api *api, const HttpRequest *request, HttpResponse *response)
{
    const char *resource = http_query(request, "resource");
    const char *format = http_query(request, "format");
    g_autoptr(GError) problem = NULL;

    if (g_strcmp0(resource, "ca-certificate") != 0)
        error_set(&problem, ERR_NOT_FOUND, "resource can only be ca-certificate");
    else if (format != NULL && !g_str_equal(format, "X509-PEM-CA") &&
             !g_str_equal(format, "X509-PEM"))
        error_set(&problem, ERR_INVALID, "format can only be X509-PEM-CA");
    if (problem != NULL)
        put_problem(request, problem, response);
    else
        put_ca(api, request, response);
}

/* ---- the table ---- */

/* clang-format off */
const Door api_doors[] = {
    { "POST",   "/ovirt-engine/sso/oauth/token",       post_token },
    { "POST",   "/ovirt-engine/services/sso-logout",   post_logout },
    { "GET",    "/session",                            get_session },
    { "POST",   "/session",                            post_session },
    { "DELETE", "/session",                            delete_session },
    { "GET",    "/ovirt-engine/services/pki-resource", get_pki_resource },
    { "GET",    "/ca.crt",                             put_ca },
    { NULL },
};
/* clang-format on */

bool
doors_answer(Api *api, const HttpRequest *request, HttpResponse *response)
{
    const char *method = g_str_equal(request->method, "HEAD") ? "GET" : request->method;
    g_autoptr(GString) allow = g_string_new(NULL);
    g_autoptr(GError) problem = NULL;

    for (const Door *door = api_doors; door->method != NULL; door++) {
        if (!g_str_equal(door->path, request->path))
            continue;
        if (g_str_equal(door->method, method)) {
            door->answer(api, request, response);
            return true;
        }
        g_string_append_printf(allow, "%s%s%s", allow->len > 0 ? ", " : "", door->method,
                               g_str_equal(door->method, "GET") ? ", HEAD" : "");
    }
    if (allow->len == 0)
        return false;
    g_string_append(allow, ", OPTIONS");
    if (http_response_allow(request, response, allow->str))
        return true;
    error_set(&problem, ERR_METHOD, "%s is not possible on %s; possible: %s", request->method,
              request->path, allow->str);
    put_problem(request, problem, response);
    return true;
}
