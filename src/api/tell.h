/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The messages of a stream (hub.h) as text: an event, a job, a VM.
 *
 * Threads: any.
 */
#pragma once

#include "flow/manager.h"

typedef enum { TELL_EVENTS = 1, TELL_JOBS = 2, TELL_VMS = 4, TELL_ALL = 7 } Tell;
/* "event,job": ERR_INVALID names the word that is none. */
bool tell_from_text(const char *text, unsigned *ret_tell, GError **error);

/* Each is put behind what the text has. */
void tell_event(GString *into, const EventRow *row);
void tell_job(GString *into, const json_t *job);
void tell_vm(GString *into, Manager *manager, const char *id);
