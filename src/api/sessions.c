/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a user is signed in with: the page's sessions, and tokens. For the user and for
 * administrators; no token is ever told.
 */
#include "api/audit.h"

#include "api/media.h"

static json_t *
session_document(const char *user, const Session *session)
{
    g_autofree char *full = g_strconcat(user, "@" PEOPLE_PROFILE, NULL);
    json_t *doc = doc_new(session->id, "/users/%s/sessions/%s", user, session->id);

    doc_text(doc, "kind", session->kind);
    doc_text(doc, "address", session->peer);
    doc_time(doc, "created", session->created);
    doc_time(doc, "last_used", session->used);
    doc_time(doc, "expires", session->ends);
    doc_flag(doc, "current", session->is_mine);
    doc_user(doc, "user", full);
    return doc;
}

/* *ret_user: the name without its profile */
static GPtrArray *
sessions_of(const Call *call, char **ret_user, GError **error)
{
    g_autoptr(Person) person = people_find(call->people, call->id, error);

    if (person == NULL)
        return NULL;
    *ret_user = g_strdup(person->name);
    return people_sessions(call->people, call->who, person->name, error);
}

bool
get_user_sessions(Call *call, Reply *reply, GError **error)
{
    g_autofree char *user = NULL;
    g_autoptr(GPtrArray) sessions = sessions_of(call, &user, error);
    json_t *list;

    if (sessions == NULL)
        return false;
    list = json_array();
    for (guint i = 0; i < sessions->len; i++)
        json_array_append_new(list, session_document(user, sessions->pdata[i]));
    return reply_list(call, reply, "session", list, error);
}

bool
get_user_session(Call *call, Reply *reply, GError **error)
{
    g_autofree char *user = NULL;
    g_autoptr(GPtrArray) sessions = sessions_of(call, &user, error);

    if (sessions == NULL)
        return false;
    for (guint i = 0; i < sessions->len; i++)
        if (g_str_equal(((const Session *)sessions->pdata[i])->id, call->sub_id)) {
            reply->body = session_document(user, sessions->pdata[i]);
            return true;
        }
    return error_set(error, ERR_NOT_FOUND, "user '%s' has no session '%.40s'", user, call->sub_id);
}

bool
delete_user_session(Call *call, Reply *reply, GError **error)
{
    const char *kind = NULL;

    if (!people_session_end(call->people, call->id, call->sub_id, &kind, error))
        return false;
    audit_changed(call, NULL, NULL, "The session %s (%s) of user '%s' was ended from %s",
                  call->sub_id, kind, call->id, call->peer);
    reply->body = json_pack("{s:s}", "status", "complete");
    return true;
}

bool
delete_user_sessions(Call *call, Reply *reply, GError **error)
{
    unsigned ended;

    if (!people_sessions_end(call->people, call->who, call->id, &ended, error))
        return false;
    if (ended > 0)
        audit_changed(call, NULL, NULL, "%u session%s of user '%s' %s ended from %s", ended,
                      ended > 1 ? "s" : "", call->id, ended > 1 ? "were" : "was", call->peer);
    reply->body = json_pack("{s:s}", "status", "complete");
    return true;
}
