/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Jobs that other programs report, as oVirt has them: begun, given steps, ended by whoever did the
 * work.
 */
#include "api/media.h"
#include "api/routes.h"

#include <string.h>

#define MOST_TEXT 1000

static bool
take_description(const Call *call, Reply *reply, const char *what, char **ret_text, GError **error)
{
    if (!body_text(call->body, "description", ret_text, error))
        return false;
    if (*ret_text == NULL || **ret_text == '\0') {
        reply->reason = "Incomplete parameters";
        return error_set(error, ERR_INVALID, "%s [description] required for add", what);
    }
    return strlen(*ret_text) <= MOST_TEXT ||
           error_set(error, ERR_INVALID, "description has more than %d bytes", MOST_TEXT);
}

/* What is begun has begun, whatever else a client's whole document says. */
static bool
check_status(const Call *call, GError **error)
{
    g_autofree char *status = NULL;

    if (!body_text(call->body, "status", &status, error))
        return false;
    return status == NULL || g_str_equal(status, "started") ||
           error_set(error, ERR_INVALID, "status is 'started' at the begin, not '%.40s'", status);
}

static bool
reply_created(Call *call, Reply *reply, const char *path, GError **error)
{
    const char *root;

    reply->status = 201;
    return api_read(call, path, &root, &reply->body, error);
}

bool
post_jobs(Call *call, Reply *reply, GError **error)
{
    g_autofree char *description = NULL;
    ExternalJob what = { .auto_cleared = true,
                         .correlation_id = call->correlation_id,
                         .user = call->user };
    bool external; /* it is, whatever is said */

    call->in_body = true;
    if (!take_description(call, reply, "Job", &description, error) || !check_status(call, error) ||
        !body_flag(call->body, "external", &external, error) ||
        !body_flag(call->body, "auto_cleared", &what.auto_cleared, error))
        return false;
    what.description = description;
    g_autofree char *id = manager_external_begin(call->manager, &what, error);
    g_autofree char *path = g_strdup_printf("/jobs/%s", id);
    return id != NULL && reply_created(call, reply, path, error);
}

static bool
take_type(const Call *call, Reply *reply, char **ret_type, GError **error)
{
    static const char *const types[] = {
        "validating",      "executing", "finalizing", "rebalancing_volume",
        "removing_bricks", "unknown",   NULL
    };

    if (!body_text(call->body, "type", ret_type, error))
        return false;
    if (*ret_type == NULL) {
        reply->reason = "Incomplete parameters";
        return error_set(error, ERR_INVALID, "Step [type] required for add");
    }
    return g_strv_contains(types, *ret_type) ||
           error_set(error, ERR_INVALID,
                     "type is validating, executing, finalizing or unknown, not '%.40s'",
                     *ret_type);
}

bool
post_steps(Call *call, Reply *reply, GError **error)
{
    g_autofree char *description = NULL, *type = NULL, *parent = NULL;
    bool external; /* it is, as its job */

    if (!take_description(call, reply, "Step", &description, error) ||
        !take_type(call, reply, &type, error) || !check_status(call, error) ||
        !body_flag(call->body, "external", &external, error) ||
        !body_text(json_object_get(call->body, "parent_step"), "id", &parent, error))
        return false;
    ExternalStep what = { .description = description, .type = type, .parent = parent };
    g_autofree char *id = manager_external_step(call->manager, call->id, &what, error);
    g_autofree char *path = g_strdup_printf("/jobs/%s/steps/%s", call->id, id);
    return id != NULL && reply_created(call, reply, path, error);
}

/* Left out, it went well. "force" changes nothing: what is open below ends with it. */
static bool
take_outcome(const Call *call, bool *ret_succeeded, GError **error)
{
    bool force = false;

    *ret_succeeded = true;
    return body_flag(call->body, "succeeded", ret_succeeded, error) &&
           body_flag(call->body, "force", &force, error);
}

static void
reply_complete(Reply *reply)
{
    reply->body = json_pack("{s:s}", "status", "complete");
}

bool
post_job_end(Call *call, Reply *reply, GError **error)
{
    bool succeeded;

    if (!take_outcome(call, &succeeded, error) ||
        !manager_external_end(call->manager, call->id, succeeded, error))
        return false;
    reply_complete(reply);
    return true;
}

bool
post_step_end(Call *call, Reply *reply, GError **error)
{
    bool succeeded;

    if (!take_outcome(call, &succeeded, error) ||
        !manager_external_end_step(call->manager, call->id, call->sub_id, succeeded, error))
        return false;
    reply_complete(reply);
    return true;
}

bool
post_job_clear(Call *call, Reply *reply, GError **error)
{
    if (!manager_external_clear(call->manager, call->id, error))
        return false;
    reply_complete(reply);
    return true;
}
