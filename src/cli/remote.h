/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Calls to the manager's REST API. Paths are below /ovirt-engine/api, without a leading slash.
 *
 * Errors: the fault that the manager words, with a code by its HTTP status (404 ERR_NOT_FOUND, 409
 * ERR_REFUSED, 400 ERR_INVALID …); ERR_UNREACHABLE or ERR_TIMEOUT that name the address when
 * there was no answer.
 */
#pragma once

#include "cli/cli.h"

/* The document (json null for an empty body); the caller owns it. */
json_t *remote_get(Cli *cli, const char *path, GError **error);
/* POST or PUT; body is borrowed. Never repeated by itself. */
json_t *remote_send(Cli *cli, const char *method, const char *path, const json_t *body,
                    GError **error);
/* POST of a form to a path from the root, without a token: for signing in and out. */
json_t *remote_form(Cli *cli, const char *path, const char *form, GError **error);
/* Who asks: the document of the manager's /session. */
json_t *remote_session(Cli *cli, GError **error);
/* For completion: one call that takes at most this long. */
json_t *remote_get_quick(Cli *cli, const char *path, unsigned timeout_ms, GError **error);
/* GET while something goes on without us: when the manager does not answer it is tried
 * again with growing pauses until patience ends or deadline_us (clock_mono_us) has come, and the
 * user is told so. timeout_ms: of one call. */
json_t *remote_get_patiently(Cli *cli, const char *path, unsigned timeout_ms, int64_t deadline_us,
                             GError **error);
/* "vms/ID/snapshots": printf, each %s escaped for a URL; the caller frees it */
char *remote_path(const char *format, ...) G_GNUC_PRINTF(1, 2);
