/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What an operation remembers, and says of itself to those who ask or listen.
 */
#include "agent/operation.h"

#include "base/clock.h"
#include "base/text.h"

#define PROGRESS_EVERY_US (500 * 1000)

bool
operation_ended(const Operation *op)
{
    return *op->row.step == '\0';
}

const char *
op_text(const Operation *op, const char *key)
{
    return json_text(op->row.params, key);
}

const char *
op_data(const Operation *op, const char *key)
{
    return json_text(op->row.data, key);
}

void
op_remember(Operation *op, const char *key, json_t *take_value)
{
    WITH_LOCK(&op->agent->lock);

    if (take_value != NULL)
        json_object_set_new(op->row.data, key, take_value);
    else
        json_object_del(op->row.data, key);
}

static json_t *
result_of(Operation *op)
{
    json_t *result = json_object_get(op->row.data, "result");

    if (result == NULL) {
        result = json_object();
        json_object_set_new(op->row.data, "result", result);
    }
    return result;
}

void
op_result(Operation *op, const char *key, json_t *take_value)
{
    WITH_LOCK(&op->agent->lock);

    json_object_set_new(result_of(op), key, take_value);
}

void
op_add_pause(Operation *op, const char *kind, double milliseconds)
{
    WITH_LOCK(&op->agent->lock);
    json_t *pauses = json_object_get(result_of(op), "pauses");

    if (pauses == NULL) {
        pauses = json_array();
        json_object_set_new(result_of(op), "pauses", pauses);
    }
    json_array_append_new(pauses, json_pack("{s:s, s:f}", "kind", kind, "milliseconds",
                                            (double)(int64_t)(milliseconds * 10 + 0.5) / 10));
}

const char *
operation_state(const Operation *op)
{
    if (!operation_ended(op))
        return "running";
    if (op->row.error_word == NULL)
        return "done";
    return g_strcmp0(op->row.error_word, "cancelled") == 0 ? "cancelled" : "failed";
}

static json_t *
progress_to_json(const Operation *op)
{
    double eta = -1;

    if (op->pace.rate > 0 && op->bytes_total >= op->bytes_done)
        eta = (double)(op->bytes_total - op->bytes_done) / op->pace.rate;
    return json_pack("{s:s, s:I, s:I, s:I, s:f}", "phase",
                     op->phase != NULL ? op->phase : "waiting", "bytes_done",
                     (json_int_t)op->bytes_done, "bytes_total", (json_int_t)op->bytes_total, "rate",
                     (json_int_t)op->pace.rate, "eta", (double)(int64_t)(eta * 10) / 10);
}

json_t *
operation_to_json(Operation *op)
{
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", op->row.id, "kind", op->row.kind, "vm_id",
                  op->row.vm_id, "state", operation_state(op), "step", op->row.step);
    json_t *result = json_object_get(op->row.data, "result"),
           *attention = json_object_get(op->row.data, "attention");

    json_object_set_new(json, "progress", progress_to_json(op));
    json_put_text(json, "waiting_for", op->waiting_for != NULL ? op->waiting_for : op->notice);
    if (attention != NULL && !operation_ended(op))
        json_object_set_new(json, "attention", json_deep_copy(attention));
    if (op->row.error_word != NULL)
        json_object_set_new(
            json, "error",
            json_pack("{s:s, s:s}", "code", op->row.error_word, "message", op->row.error_text));
    json_object_set_new(json, "result", result != NULL ? json_deep_copy(result) : json_object());
    return json;
}

/* agent->lock held */
void
operation_tell(Operation *op)
{
    op->told_us = clock_mono_us();
    if (!event_hub_is_heard(op->agent->events))
        return;
    event_hub_send(op->agent->events, json_pack("{s:s, s:o}", "event", "operation", "operation",
                                                operation_to_json(op)));
}

void
operation_phase(Operation *op, const char *phase)
{
    WITH_LOCK(&op->agent->lock);

    op->phase = phase;
    op->pace.rate = 0;
    operation_tell(op);
}

bool
operation_is_wanted(const Operation *op)
{
    bool cancelled;

    g_mutex_lock(&op->agent->lock);
    cancelled = op->row.cancel;
    g_mutex_unlock(&op->agent->lock);
    return !cancelled && !agent_stopping(op->agent);
}

void
operation_progress(Operation *op, const char *phase, uint64_t done, uint64_t total)
{
    WITH_LOCK(&op->agent->lock);
    int64_t now = clock_mono_us();
    bool news = g_strcmp0(op->phase, phase) != 0;

    if (news || done < op->pace.since)
        pace_begin(&op->pace, now, done);
    else
        pace_take(&op->pace, now, done);
    op->phase = phase;
    op->bytes_done = MIN(done, total);
    op->bytes_total = total;
    if (news || now - op->told_us > PROGRESS_EVERY_US)
        operation_tell(op);
}

void
operation_notice(Operation *op, const char *text)
{
    WITH_LOCK(&op->agent->lock);

    if (g_strcmp0(op->notice, text) == 0)
        return;
    text_replace(&op->notice, text);
    operation_tell(op);
}

/* agent->lock held. Others never read the machine: the row and this are what they see of it. */
void
operation_tell_waiting(Operation *op)
{
    text_replace(&op->waiting_for, op->machine.waiting_for);
}
