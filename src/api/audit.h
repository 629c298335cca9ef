/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Events for what people change without a job (users, roles, cancelled jobs), and for what they
 * were refused: who, what, and the correlation id of the request. Changes with a job are told by
 * the flow.
 *
 * Threads: any.
 */
#pragma once

#include "api/routes.h"

#define EVENT_CHANGED 30030 /* somebody changed what needs no job */
#define EVENT_REFUSED 30031 /* somebody has not the right to change something */

/* The text without its full stop: who it was is put behind. vm_id, job_id: NULL = none. */
void audit_changed(const Call *call, const char *vm_id, const char *job_id, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

/* The same of something that the user may do and did not get right. */
void audit_failed(const Call *call, const char *format, ...) G_GNUC_PRINTF(2, 3);

typedef struct Audit Audit;
Audit *audit_new(void);
void audit_free(Audit *audit);
/* A request that would have changed something. Of one user at most ten in a minute are told: who is
 * signed in must not be able to fill the database. */
void audit_refused(Audit *audit, Manager *manager, const Who *who, const char *method,
                   const char *path, const char *correlation_id);
