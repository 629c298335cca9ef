/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/audit.h"

#include "base/clock.h"

#define MINUTE_US (60 * G_TIME_SPAN_SECOND)
#define TOLD_MAX 10 /* a minute */

void
audit_changed(const Call *call, const char *vm_id, const char *job_id, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    manager_event(call->manager, EVENT_CHANGED, "normal", vm_id, NULL, job_id, call->correlation_id,
                  call->user, "%s (User: %s).", text, call->user);
}

void
audit_failed(const Call *call, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    manager_event(call->manager, EVENT_REFUSED, "warning", NULL, NULL, NULL, call->correlation_id,
                  call->user, "%s.", text);
}

/* ---- refusals ---- */

typedef struct {
    int64_t began_us;
    unsigned told;
} Minute;

struct Audit {
    GMutex lock;
    GHashTable *minutes; /* name of who → Minute; as many as there are users */
};

Audit *
audit_new(void)
{
    Audit *audit = g_new0(Audit, 1);

    g_mutex_init(&audit->lock);
    audit->minutes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return audit;
}

void
audit_free(Audit *audit)
{
    if (audit == NULL)
        return;
    g_hash_table_unref(audit->minutes);
    g_mutex_clear(&audit->lock);
    g_free(audit);
}

/* The how many-th of the minute */
static unsigned
count(Audit *audit, const char *name)
{
    WITH_LOCK(&audit->lock);
    Minute *minute = g_hash_table_lookup(audit->minutes, name);
    int64_t now = clock_mono_us();

    if (minute == NULL) {
        minute = g_new0(Minute, 1);
        minute->began_us = now;
        g_hash_table_insert(audit->minutes, g_strdup(name), minute);
    }
    if (now - minute->began_us >= MINUTE_US)
        *minute = (Minute){ .began_us = now };
    return ++minute->told;
}

void
audit_refused(Audit *audit, Manager *manager, const Who *who, const char *method, const char *path,
              const char *correlation_id)
{
    unsigned n = count(audit, who->name);
    g_autofree char *valid = g_utf8_make_valid(path, -1);

    if (n > TOLD_MAX)
        return;
    manager_event(manager, EVENT_REFUSED, "warning", NULL, NULL, NULL, correlation_id, who->name,
                  "User '%.64s' has not the right to %s %.200s.%s", who->name, method, valid,
                  n == TOLD_MAX ? " More of it is not told for a minute." : "");
}
