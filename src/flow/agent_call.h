/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One operation of the agent, asked for by a flow, exactly once however often either side dies.
 *
 * The flow's data holds under a key {"op": id, "host": name, "result": ...}. The id is minted in
 * check(), saved by the engine before act() sends it, and asked for after a restart:
 *
 *   known    the agent has it in its journal: wait for its outcome
 *   404      the agent never began it and wrote down never to do: mint another id. If its journal
 *            is not that which the operation was sent to (agent id), it is in doubt: not done, not
 *            failed, until the flow has looked at the world
 *   silence  not knowing: wait and ask again
 *
 * A host is its agent, whatever the configuration calls it now (call_host.c).
 *
 * Two steps use it: one with call_begin_check()/call_begin_act(), the next one with call_wait().
 * Neither may be cancelled by the engine, which would forget an operation that runs: both look at
 * the cancel themselves. For flows that are one operation one_call.c has both.
 */
#pragma once

#include "flow/core.h"

StepState call_begin_check(Flow *flow, const char *key, GError **error);
/* take_body: "kind" and parameters; id, vm_id and job are added. An answer that does not surely
 * mean "not begun" is turned into one that is asked about again. */
bool call_begin_act(Flow *flow, const char *key, json_t *take_body, GError **error);
/* Waits for the outcome; forwards a cancel. Done: the result is in data. ERR_GONE: the agent
 * has lost it, which says nothing about the deed. */
StepState call_wait(Flow *flow, const char *key, GError **error);
/* The same, but if the agent has lost it, lost() judges by the world instead. */
/* Why nobody can tell any more what became of it: "the agent lost its journal"; or the VM has been
 * moved to another host meanwhile. The caller frees it. */
char *call_why_lost(const Flow *flow, const char *key, const Vm *vm);
StepState call_wait_or(Flow *flow, const char *key, StepState (*lost)(Flow *flow, GError **error),
                       GError **error);
/* What the agent has lost may safely be asked for again: the step that begins it mints another id.
 */
void call_again(Flow *flow, const char *key);
const char *call_operation(const json_t *data, const char *key); /* its id; NULL = none */
const json_t *call_result(const json_t *data, const char *key);  /* NULL = none */
/* Tells the agent that it may forget them all, which it is told again when the host connects if it
 * does not hear it now, and that their job has ended. Only after the outcome is saved. */
void calls_acknowledge(Flow *flow);

/* ---- call_host.c ---- */
char *call_agent_of(Manager *m, const char *host_name); /* agent id; NULL = not heard yet */
/* Where the operation was sent to; NULL: that host is gone, or not known yet. */
Host *call_host(Flow *flow, const char *key, GError **error);
/* Taken out of the configuration: the administrator's word that it is gone, and its journal with
 * it. (One that does not answer may be alive.) What became of the VM is told by who has it. */
bool call_host_is_gone(Flow *flow, const char *key);
/* The agent's word that it never began an operation is worth as much as its journal: another one
 * than that which it was sent to knows nothing of it. */
bool call_is_lost(Flow *flow, const char *key);

/* ---- what was heard of operations: progress, and the way from an event to its flow ---- */
typedef struct {
    char *flow_id;
    json_t *doc;    /* the last one heard; NULL = none */
    unsigned heard; /* so many, but for answers to what flows asked */
} Seen;
void seen_free(void *seen);
void seen_add_row(Manager *m, const FlowRow *row); /* lock held: all operations of a row */
void seen_remove_row(Manager *m, const FlowRow *row);
/* Keeps the document; kick: and wakes the flow if it is over, has paused itself or goes on. False =
 * not one of ours. */
bool seen_operation(Manager *m, const json_t *operation, bool kick);
/* Does a flow of ours still wait for it, or need its outcome? */
bool seen_knows(Manager *m, const char *operation_id);
/* How many were heard so far: for an answer, which may be older than what is heard meanwhile. */
unsigned seen_heard(Manager *m, const char *operation_id);
/* Keeps an answer, unless something was heard since so many. */
void seen_answer(Manager *m, const json_t *operation, unsigned heard);
/* The last document (new reference), NULL = none */
json_t *seen_doc(Manager *m, const char *operation_id);

/* ---- attention.c: operations that need a person ---- */
/* Why it has paused itself; NULL = it has not. Borrowed from the document, which may be NULL. */
const char *attention_text(const json_t *operation);
char *attention_of_row(Manager *m, const FlowRow *row); /* of any of its calls; NULL = none */
/* For the check that waits for the call: an event when it has paused or goes on, each once. False:
 * it could not be stored, look again. */
bool attention_tell(Flow *flow, const char *key, GError **error);
/* The same for a call that has failed with why, if it was because a check found a difference. */
bool mismatch_tell(Flow *flow, const char *key, const GError *why, GError **error);
/* Asks the agent to go on with the calls of the row that have paused; counts them. */
bool attention_resume(Manager *m, const FlowRow *row, unsigned *resumed, GError **error);
