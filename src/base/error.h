/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Errors.
 *
 * Promise: every failure in the three programs is a GError of the one domain
 * ERR, so the API layer maps it to an HTTP status and the engines to "retry",
 * "fail" or "stop and ask" by looking in one table (below).
 *
 * Rules
 *  - An outcome that callers are meant to act on is a return value, not an
 *    error: "the job is gone" is an answer, "I could not ask" is an error.
 *  - The function that fails words the message: it names the VM, disk, snapshot
 *    or file, says what is safe, and the command that helps where there is one.
 *    Callers may add ERROR_CONTEXT().
 *  - Only main loops and API handlers log errors. Everybody else returns them.
 *  - A function that returns bool returns false exactly when it set an error.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* clang-format off */
/*        code              word            HTTP  try again?  meaning */
#define ERR_TABLE(X)                                                                       \
    X(ERR_INVALID,          "invalid",       400, false, "the request makes no sense")      \
    X(ERR_SIGN_IN,          "sign-in",       401, false, "it is not known who asks")         \
    X(ERR_FORBIDDEN,        "forbidden",     403, false, "the caller may not do this")      \
    X(ERR_NOT_FOUND,        "not-found",     404, false, "no such object")                  \
    X(ERR_METHOD,           "method",        405, false, "the resource has no such method") \
    X(ERR_EXISTS,           "exists",        409, false, "an object of that name exists")   \
    X(ERR_REFUSED,          "refused",       409, false, "a safety check says no")          \
    X(ERR_BUSY,             "busy",          409, true,  "another operation holds the object") \
    X(ERR_GONE,             "gone",          410, false, "this operation id was given up (tombstone)") \
    X(ERR_STALE_EPOCH,      "stale-epoch",   412, false, "a newer manager has taken over")  \
    X(ERR_TOO_LARGE,        "too-large",     413, false, "the request exceeds a limit")     \
    X(ERR_MEDIA,            "media-type",    415, false, "unknown media type")              \
    X(ERR_LIMITED,          "limited",       429, true,  "too many tries in a short time")   \
    X(ERR_CORRUPT,          "corrupt",       500, false, "stored data is damaged")          \
    X(ERR_CANCELLED,        "cancelled",     409, false, "cancelled by the user")           \
    X(ERR_UNSUPPORTED,      "unsupported",   501, false, "not supported")                   \
    X(ERR_HYPERVISOR,       "hypervisor",    502, false, "libvirt or QEMU refused")         \
    X(ERR_UNREACHABLE,      "unreachable",   503, true,  "host, libvirt or storage did not answer") \
    X(ERR_TIMEOUT,          "timeout",       504, true,  "it did not end in its budget")    \
    X(ERR_STORAGE,          "storage",       500, true,  "the storage operation failed")    \
    X(ERR_NO_SPACE,         "no-space",      507, false, "the storage is full")             \
    X(ERR_STOPPED,          "stopped",       500, true,  "a fault point fired (tests only)") \
    X(ERR_INTERNAL,         "internal",      500, false, "a bug, please report")
/* clang-format on */

#define X(code, word, http, again, meaning) code,
typedef enum { ERR_TABLE(X) ERR_LAST } ErrorCode;
#undef X

#define ERR (error_domain())
GQuark error_domain(void);

/* Always returns false, so that "return error_set(...)" reads well. */
bool error_set(GError **error, ErrorCode code, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* The same from errno: ENOSPC and EDQUOT become ERR_NO_SPACE, all else
 * ERR_STORAGE; ": strerror" is appended. Reads errno first thing. */
bool error_set_errno(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

int error_http_status(const GError *error);
bool error_may_retry(const GError *error);
/* The word of the table ("refused"), and back (ERR_INTERNAL for unknown words):
 * how an error travels between agent and manager. */
const char *error_word(const GError *error);
ErrorCode error_code_from_word(const char *word);

/* What a refusal says besides its message, for programs and pages; all may be NULL. It goes with
 * the error wherever that is handed on, but not over the wire. */
typedef struct {
    char *key;    /* oVirt's word for it */
    char *why;    /* what is in the way, without what was asked for */
    char *help;   /* what helps */
    char *job_id; /* who is in the way */
} ErrorReason;
/* Of an error of our domain. Borrowed, lives as long as the error; never NULL. */
ErrorReason *error_reason(const GError *error);
/* Of the error that was just set; false. */
bool error_set_key(GError **error, const char *key);

/* At the top of a function: prefix whatever error it returns with what it was
 * trying to do, on every way out:
 *
 *     ERROR_CONTEXT(error, "syncing the chain");
 */
typedef struct {
    GError **error;
    const char *doing;
} ErrorContext;
void error_context_leave(ErrorContext *context);
#define ERROR_CONTEXT(error_, doing_)                     \
    __attribute__((cleanup(error_context_leave), unused)) \
    ErrorContext error_context_here = { (error_), (doing_) }
