/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/error.h"

#include <errno.h>

static const struct {
    const char *word;
    int http;
    bool again;
} table[ERR_LAST] = {
#define X(code, word_, http_, again_, meaning) [code] = { word_, http_, again_ },
    ERR_TABLE(X)
#undef X
};

/* ---- the domain, whose errors carry an ErrorReason (GLib's extended errors) ---- */

typedef ErrorReason livemergePrivate;

static void
livemerge_private_init(livemergePrivate *reason)
{
    *reason = (livemergePrivate){ 0 };
}

static void
livemerge_private_copy(const livemergePrivate *from, livemergePrivate *to)
{
    to->key = g_strdup(from->key);
    to->why = g_strdup(from->why);
    to->help = g_strdup(from->help);
    to->job_id = g_strdup(from->job_id);
}

static void
livemerge_private_clear(livemergePrivate *reason)
{
    g_free(reason->key);
    g_free(reason->why);
    g_free(reason->help);
    g_free(reason->job_id);
}

GQuark livemerge_quark(void);
G_DEFINE_EXTENDED_ERROR(livemerge, livemerge)

GQuark
error_domain(void)
{
    return livemerge_quark();
}

ErrorReason *
error_reason(const GError *error)
{
    return livemerge_get_private(error);
}

bool
error_set(GError **error, ErrorCode code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error != NULL)
        *error = g_error_new_valist(ERR, (int)code, format, args);
    va_end(args);
    return false;
}

bool
error_set_key(GError **error, const char *key)
{
    ErrorReason *reason = error != NULL ? error_reason(*error) : NULL;

    if (reason != NULL) {
        g_free(reason->key);
        reason->key = g_strdup(key);
    }
    return false;
}

bool
error_set_errno(GError **error, const char *format, ...)
{
    int why = errno;
    va_list args;
    bool full = why == ENOSPC || why == EDQUOT;

    va_start(args, format);
    if (error != NULL) {
        g_autofree char *what = g_strdup_vprintf(format, args);
        *error =
            g_error_new(ERR, full ? ERR_NO_SPACE : ERR_STORAGE, "%s: %s", what, g_strerror(why));
    }
    va_end(args);
    errno = why;
    return false;
}

int
error_http_status(const GError *error)
{
    return error->domain == ERR ? table[error->code].http : 500;
}

bool
error_may_retry(const GError *error)
{
    return error->domain == ERR && table[error->code].again;
}

const char *
error_word(const GError *error)
{
    return error->domain == ERR ? table[error->code].word : table[ERR_INTERNAL].word;
}

ErrorCode
error_code_from_word(const char *word)
{
    for (int code = 0; code < ERR_LAST; code++)
        if (g_strcmp0(table[code].word, word) == 0)
            return (ErrorCode)code;
    return ERR_INTERNAL;
}

void
error_context_leave(ErrorContext *context)
{
    if (context->error != NULL && *context->error != NULL)
        g_prefix_error(context->error, "%s: ", context->doing);
}
