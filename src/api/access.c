/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/access.h"

#include "api/exchange.h"
#include "base/log.h"

#include <string.h>

#define EVENT_LOGIN_FAILED 114

/* ---- credentials ---- */

static bool
is_safe(const char *method)
{
    return g_str_equal(method, "GET") || g_str_equal(method, "HEAD");
}

/* "Basic dXNlcjpwYXNz" → "user" and "pass"; false = it is none */
static bool
read_basic(const char *value, char **ret_user, char **ret_password)
{
    gsize size = 0;
    g_autofree guchar *raw = g_base64_decode(value, &size);
    g_autofree char *text = g_strndup((const char *)raw, size);
    const char *colon = strchr(text, ':');

    if (strlen(text) != size || colon == NULL || !g_utf8_validate(text, -1, NULL))
        return false;
    *ret_user = g_strndup(text, (gsize)(colon - text));
    *ret_password = g_strdup(colon + 1);
    return true;
}

void
access_tell_failed(Api *api, const char *user, const HttpRequest *request, const GError *problem)
{
    if (!g_error_matches(problem, ERR, ERR_SIGN_IN) && !g_error_matches(problem, ERR, ERR_LIMITED))
        log_warn("user '%.64s' could not sign in: %s", user, problem->message);
    if (g_error_matches(problem, ERR, ERR_SIGN_IN)) /* what is limited was told before */
        manager_event(api->manager, EVENT_LOGIN_FAILED, "error", NULL, NULL, NULL, NULL, NULL,
                      "User '%.64s' failed to log in from %s.", user, request->peer);
}

static Who *
by_basic(Api *api, const HttpRequest *request, const char *value, GError **error)
{
    g_autofree char *user = NULL, *password = NULL;
    g_autoptr(GError) problem = NULL;

    if (!read_basic(value, &user, &password)) {
        error_set(error, ERR_SIGN_IN, "the header Authorization holds no user name and password");
        return NULL;
    }
    Who *who = people_basic(api->people, user, password, request->peer, &problem);
    if (who == NULL) {
        access_tell_failed(api, user, request, problem);
        g_propagate_error(error, g_steal_pointer(&problem));
    }
    return who;
}

static Who *
by_token(Api *api, const HttpRequest *request, const char *token, bool cookie, GError **error)
{
    TokenKind kind;
    g_autoptr(Who) who = people_token(api->people, token, request->peer, &kind);

    if (who != NULL && (kind == TOKEN_BROWSER) == cookie)
        return g_steal_pointer(&who);
    error_set(error, ERR_SIGN_IN, "the %s is unknown, was revoked or has expired; sign in again",
              cookie ? "session" : "token");
    return NULL;
}

static Who *
by_header(Api *api, const HttpRequest *request, const char *value, GError **error)
{
    const char *space = strchr(value, ' ');
    size_t length = space != NULL ? (size_t)(space - value) : 0;
    const char *rest = space != NULL ? space + strspn(space, " ") : "";

    if (length == 6 && g_ascii_strncasecmp(value, "Bearer", 6) == 0)
        return by_token(api, request, rest, false, error);
    if (length == 5 && g_ascii_strncasecmp(value, "Basic", 5) == 0)
        return by_basic(api, request, rest, error);
    error_set(error, ERR_SIGN_IN, "the header Authorization must begin with Bearer or Basic");
    return NULL;
}

bool
access_is_secure(const Api *api, const HttpRequest *request)
{
    return api->tls && !request->local;
}

char *
access_cookie(const Api *api, const HttpRequest *request)
{
    const char *wanted = access_is_secure(api, request) ? COOKIE_HOST "=" : COOKIE "=";
    const char *header = http_header(request, "Cookie");
    g_auto(GStrv) pairs = g_strsplit(header != NULL ? header : "", ";", -1);

    for (char **pair = pairs; *pair != NULL; pair++) {
        const char *text = g_strstrip(*pair);
        if (g_str_has_prefix(text, wanted))
            return g_strdup(text + strlen(wanted));
    }
    return NULL;
}

static Who *
by_cookie(Api *api, const HttpRequest *request, const char *token, GError **error)
{
    if (!is_safe(request->method) && http_header(request, PAGE_HEADER) == NULL) {
        error_set(error, ERR_FORBIDDEN,
                  "a request that changes something needs the header " PAGE_HEADER
                  " beside the cookie");
        return NULL;
    }
    return by_token(api, request, token, true, error);
}

static Who *
by_kernel(Api *api, const HttpRequest *request)
{
    g_autofree char *name = NULL;

    if (request->peer_uid == 0 || request->peer_uid == geteuid())
        return who_local(request->peer_uid == 0 ? "root@local" : "manager@local",
                         ROLE_ADMINISTRATOR);
    name = g_strdup_printf("uid-%u@local", (unsigned)request->peer_uid);
    return who_local(name, api->group_role);
}

/* Of what is public: so may he be who says nothing of himself. */
static bool
is_public(const HttpRequest *request)
{
    const char *ids[2] = { NULL, NULL };

    if (!is_safe(request->method))
        return false;
    g_auto(GStrv) segments = request_segments(request, NULL);
    if (segments == NULL)
        return false;
    bool versioned = g_strcmp0(segments[0], "v4") == 0;
    const Route *route = route_find("GET", segments + (versioned ? 1 : 0), ids);
    return route != NULL && route->right == RIGHT_PUBLIC;
}

Who *
access_who(Api *api, const HttpRequest *request, GError **error)
{
    const char *header = http_header(request, "Authorization");
    g_autofree char *cookie = access_cookie(api, request);

    if (header != NULL)
        return by_header(api, request, header, error);
    if (cookie != NULL)
        return by_cookie(api, request, cookie, error);
    if (request->local)
        return by_kernel(api, request);
    if (is_public(request))
        return who_local("nobody", ROLE_NONE);
    error_set(error, ERR_SIGN_IN, "sign in: this needs a user name and a password, or a token");
    return NULL;
}

bool
access_is_foreign(const Api *api, const HttpRequest *request)
{
    const char *origin = http_header(request, "Origin");
    const char *host = http_header(request, "Host");

    if (origin == NULL)
        return false;
    if (request->local || host == NULL)
        return true;
    g_autofree char *ours = g_strconcat(api->tls ? "https://" : "http://", host, NULL);
    return g_ascii_strcasecmp(origin, ours) != 0;
}

/* A browser would ask for a password itself in the middle of our page. */
static bool
is_page(const HttpRequest *request)
{
    const char *mode = http_header(request, "Sec-Fetch-Mode");

    return http_header(request, PAGE_HEADER) != NULL ||
           (mode != NULL && !g_str_equal(mode, "navigate"));
}

void
access_challenge(const HttpRequest *request, const GError *problem, HttpResponse *response)
{
    if (g_error_matches(problem, ERR, ERR_SIGN_IN) && !is_page(request))
        http_response_header(response, "WWW-Authenticate", "Basic realm=\"RESTAPI\"");
    if (g_error_matches(problem, ERR, ERR_LIMITED))
        http_response_header(response, "Retry-After", "6");
}

/* ---- rights ---- */

static char *
vm_of_disk(Manager *manager, const char *id)
{
    g_autoptr(GPtrArray) vms = manager_vms(manager);

    for (guint i = 0; i < vms->len; i++) {
        const Vm *vm = vms->pdata[i];
        for (guint j = 0; j < vm->disks->len; j++)
            if (g_str_equal(((const Disk *)vm->disks->pdata[j])->id, id))
                return g_strdup(vm->id);
    }
    return NULL;
}

static char *
vm_of_event(Manager *manager, const char *id)
{
    gint64 number;

    if (!g_ascii_string_to_signed(id, 10, 1, G_MAXINT64, &number, NULL))
        return NULL;
    g_autoptr(GPtrArray) rows = store_event_list(manager_store(manager), number - 1, 1, true, NULL);
    const EventRow *row = rows != NULL && rows->len > 0 ? rows->pdata[0] : NULL;
    return row != NULL && row->id == number ? g_strdup(row->vm_id) : NULL;
}

static char *
vm_of_job(Manager *manager, const char *id)
{
    g_autoptr(FlowRow) row = store_flow_get(manager_store(manager), id, NULL);

    return row != NULL ? g_strdup(row->vm_id) : NULL;
}

static char *
vm_of_name(Manager *manager, const char *id)
{
    g_autoptr(Vm) vm = manager_vm(manager, id, NULL);

    return vm != NULL ? g_strdup(vm->id) : NULL;
}

/* Paths that name something of one VM, and whose that is. */
static const struct {
    const char *path, *kind;
    char *(*vm_of)(Manager *manager, const char *id);
} owned[] = {
    { "vms/*", "VM", vm_of_name },
    { "disks/*", "disk", vm_of_disk },
    { "jobs/*", "job", vm_of_job },
    { "events/*", "event", vm_of_event },
};

bool
access_check(Manager *manager, const Who *who, const Route *route, const char *const ids[2],
             GError **error)
{
    Role role = who->role;

    if (role_has(role, route->right) && route->right != RIGHT_SIGNED_IN)
        return true;
    if (route->right == RIGHT_OWN)
        return people_is(who, ids[0]) ||
               error_set(error, ERR_FORBIDDEN,
                         "%s may not do this: it is for the user's own, or an administrator",
                         who->name);
    for (size_t i = 0; i < G_N_ELEMENTS(owned); i++) {
        if (!g_str_has_prefix(route->path, owned[i].path))
            continue;
        g_autofree char *vm_id = owned[i].vm_of(manager, ids[0]);
        role = who_role_on(who, vm_id);
        if (role == ROLE_NONE) /* he must not learn that it is there */
            return error_set(error, ERR_NOT_FOUND, "there is no %s '%s'", owned[i].kind, ids[0]);
    }
    return role_has(role, route->right) ||
           error_set(error, ERR_FORBIDDEN,
                     "%s may not do this: it needs the right to %s, and the role is '%s'",
                     who->name, right_word(route->right), role_word(role));
}

bool
access_sees(const Who *who, const char *kind, const json_t *member)
{
    static const char *const kinds[] = { "vm", "disk", "job", "event", NULL };
    const json_t *vm = json_object_get(member, "vm");

    if (who->role >= ROLE_VIEWER || !g_strv_contains(kinds, kind))
        return true;
    if (g_str_equal(kind, "vm"))
        vm = member;
    if (g_str_equal(kind, "disk"))
        vm = json_array_get(json_object_get(json_object_get(member, "vms"), "vm"), 0);
    return who_role_on(who, json_string_value(json_object_get(vm, "id"))) >= ROLE_VIEWER;
}

GPtrArray *
access_vms(Manager *manager, const Who *who)
{
    GPtrArray *vms = manager_vms(manager);

    for (guint i = vms->len; i-- > 0;)
        if (who_role_on(who, ((const Vm *)vms->pdata[i])->id) < ROLE_VIEWER)
            g_ptr_array_remove_index(vms, i);
    return vms;
}
