/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Manager ↔ agent: HTTP and JSON; the client's side and the server's side.
 *
 * Every call carries the header "Livemerge-Epoch: N"; one lower than the highest seen is answered
 * 412 "stale-epoch". Errors: {"error": {"code": "refused", "message": "..."}} with the status of
 * the table in base/error.h.
 */
/* clang-format off */
/*
 *   method path                      what                                    answer
 *   GET    /v1/hello                 who are you                             {name, version, agent_id, connected,
 *                                                                            "host": {cpu, memory, sockets, cores,
 *                                                                            threads, mhz, libvirt}; absent = not known}
 *   GET    /v1/vms                   every VM of the host                    {"vms": [Vm]}
 *   GET    /v1/vms/ID?fresh=1        one VM; fresh: look again first; with   Vm (model/vm.h), "tag"
 *                                    users=1: also find files without a VM
 *                                    that stand on its volumes (no tag)
 *                                    known=TAG: of what was told last        {"tag", "unchanged": true} if it
 *                                                                            would be told again
 *   POST   /v1/vms/ID/plan           what deleting snapshots would be: a     {"vm": Vm (fresh, with used_by),
 *                                    fresh look, and the planner with all     "plan": plan_to_json()} (model/plan.h);
 *                                    facts: {"snapshots": [id], "disk",        200 also if it is not possible
 *                                    "strategy", "verify"}
 *   POST   /v1/vms/ID/clone          can it be cloned? The parameters of      {strategy, bytes, written, disks, left}; an
 *                                    the operation "clone"                     error = not
 *   POST   /v1/vms/ID/starting       from the libvirt hook: the VM is about   {} = it may start; ERR_REFUSED = not
 *                                    to start: {"disks": [{target, source,
 *                                    format}]}; cold merges of it make way
 *                                    first. Needs no epoch
 *   POST   /v1/vms/ID/ticket         a password for its display:             {}
 *                                    {"value", "expiry": seconds}
 *   POST   /v1/operations            begin (idempotent by id)                Operation
 *                                      "agent": 410, unless it is its journal's id
 *                                      "job": 409, if that was acknowledged
 *   GET    /v1/operations            all that are not acknowledged           {"operations": [Operation]}
 *   GET    /v1/operations/ID         one; unknown: a tombstone is written    Operation, or 404: from then on a promise
 *   POST   /v1/operations/ID/cancel  ask for it                              Operation
 *   POST   /v1/operations/ID/resume  goes on after it paused (attention)     Operation
 *   POST   /v1/operations/ID/ack     its outcome is known: forget it; or of  {}
 *                                    a job: it has ended, and begins nothing
 *   GET    /v1/events                stream of lines                         Event, Event, ...
 *   GET    /v1/storage               storage domains; absent = not known     {"domains": [{id, name, path, available,
 *                                                                            used, shares_blocks, holder}]}
 *   POST   /v1/import                what is there, for a manager that       {"vms": [{vm_id, vm, state, path, disks,
 *                                    knows nothing: {"path": DIR (absent =     volumes, snapshots, unmanaged, "running":
 *                                    everywhere; DIR becomes a storage         [{id, kind, step}], "todo": {"adopt",
 *                                    domain), "dry_run": it does not}          "delete", "forget"}}] (agent/import.h),
 *                                                                            "doubtful": [{vm_id, vm, file, why,
 *                                                                            command}], "domains": [{id, name, path}]}
 *   GET    /v1/epoch                 the highest that was seen; needs none   {"epoch": N}
 *   GET    /v1/doctor?vm=ID          what is wrong, of one VM or of all       {"findings": [finding_to_json()],
 *                                    (model/diagnosis.h)                      "busy": [{vm_id, why}] and "unread":
 *                                                                            [{path, why}]: not looked at,
 *                                                                            "kept": {files, bytes} of the trash}
 *
 * Operation: {"id", "kind", "vm_id", "state": "running|done|failed|cancelled", "step",
 *             "waiting_for", "error": {"code", "message"}, "progress": {...}, "result": {...},
 *             "attention": {"kind": "space", "message"}}   it has paused itself; absent = it goes on
 * progress:  {"phase", "bytes_done", "bytes_total", "rate", "eta"}   bytes, bytes/s, seconds (-1 = unknown)
 *
 * Kinds, their parameters (members of the POST body beside id, kind, vm_id) and results:
 *   snapshot-create   snapshot_id, name, disks: [disk_id...] (absent = all managed, [] = none: the
 *                     configuration alone), memory: bool,
 *                     quiesce: "no"|"auto"|"require"              → {quiesced, memory_size, pauses}
 *   snapshot-rename   snapshot_id, name
 *   snapshot-forget   snapshots: [id...]   entries (with no disks left) and memory volumes go
 *   snapshot-preview  snapshot_id, disks: [disk_id...] (absent = all managed), memory: bool (vm-start goes
 *                     on from it, as long as nothing was written): a VM that is off stands on a
 *                     new leaf above that snapshot's volumes, beside the line that it had
 *   snapshot-commit   snapshot_id (that is previewed): the branch becomes the line
 *                     → {volumes_left: [path...] (the old line and its memory volumes, to be deleted)}
 *   snapshot-undo     snapshot_id: back to the old line          → {volumes_left: [path...] (the leaves of the preview)}
 *   merge             disk_id, base, top (volume ids), strategy (word), bandwidth (bytes/s, 0 = none),
 *                     remove: [volume id] (graft, copy: whose upper boundary goes), verify (word)
 *                     → {strategy, bytes_copied, bytes_shared, bytes_written, seconds,
 *                        pauses: [{kind, milliseconds}], verified (word), bytes_compared,
 *                        volumes_left: [path...] (merged-away files, to be deleted), instance}
 *                     error word "corrupt" with result.mismatch true: the check before the old
 *                     volumes go found a difference; all of them are kept
 *   delete-volumes    disk_id, volumes: [path...], instance       → {volumes_removed: [path...]}
 *   doctor-fix        classes: [word] (absent, empty = all that are safe), safe_only: bool
 *                     → {findings: [finding with "state": "mended|left", "why"], undo: operation id}
 *   doctor-undo       undo: operation id of a doctor-fix          → {undone: number, left: [text]}
 *   clone             clone_id, name (of the new VM), snapshot_id (absent = as the VM, which is off, is now),
 *                     strategy: "auto"|"share"|"copy", places: {disk id: directory} (absent = beside
 *                     the source's)                               → {clone_id, name, strategy, bytes_shared, bytes_copied,
 *                                                                    bytes_written, left_out: [text] (what the new VM lacks)}
 *   vm-remove         keep_disks: bool                            → {volumes_removed: [path], kept: [{path, why}]}
 *   vm-start          paused: bool                                  → {}   also resumes one that is paused
 *   vm-stop           how: "off"|"shutdown"|"reboot"|"reset"        → {}   off: also forgets saved memory
 *   vm-suspend        (none)   saves its memory and powers it off   → {}
 *   vm-freeze         (none)   the guest's file systems, until ...  → {}
 *   vm-thaw           (none)   ... they are thawed                  → {}
 *   vm-update         name, description, comment (absent = as it is; "" = none) → {}
 *   import            (none)   does what "todo" says              → {adopted: [{id, name}], deleted: [path],
 *                                                                    left: [{path, why}], forgotten: [{id, name}]}
 *
 * Event lines: {"event": "vm", "vm_id": ID}            look at it again (also: it is gone)
 *              {"event": "operation", "operation": {Operation}}   state, step or progress changed
 *              {"event": "host", "connected": bool}    libvirt went or came: look at everything
 *              {"event": "alive"}                      at least every 20 s
 */
/* clang-format on */
#pragma once

#include "http/http.h"

#define WIRE_EPOCH_HEADER "Livemerge-Epoch"

/* ---- client side (manager). Threads: any; connections are pooled inside. ---- */

typedef struct WireClient WireClient;
WireClient *wire_client_new(const char *address, const char *ca_file, GError **error);
void wire_client_free(WireClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(WireClient, wire_client_free)
void wire_client_set_epoch(WireClient *client, int64_t epoch);

/* One call; *ret_json (owned) is the answer's JSON. An error answer becomes a GError with the
 * code of its word; no answer (within 30 s) is ERR_UNREACHABLE or ERR_TIMEOUT. body and
 * ret_json may be NULL. */
bool wire_call(WireClient *client, const char *method, const char *path, const json_t *body,
               json_t **ret_json, GError **error);
/* The same, for who cannot wait so long. */
bool wire_call_within(WireClient *client, unsigned timeout_ms, const char *method, const char *path,
                      const json_t *body, json_t **ret_json, GError **error);
/* Blocks on the event stream, calling back for each line, until it breaks (false + error) or the
 * callback returns false (true). 30 s without a line breaks it. */
typedef bool (*WireEventFunc)(const json_t *event, void *data);
bool wire_events(WireClient *client, WireEventFunc each, void *data, GError **error);
/* From any thread: running and later wire_events() end at once with ERR_CANCELLED. Calls are left
 * alone. */
void wire_client_cancel(WireClient *client);

/* ---- server side (agent) ---- */

/* Puts an error, or JSON (consumed), as the response. */
void wire_answer_error(HttpResponse *response, const GError *error);
void wire_answer_json(HttpResponse *response, int status, json_t *take_json);

typedef struct {
    const char *method;
    const char *path; /* "/v1/vms/ID": a segment in capitals matches any one segment */
    bool (*handle)(void *self, const HttpRequest *request, const char *id, json_t *body,
                   json_t **ret_json, GError **error);
} WireRoute; /* tables end with NULLs */
/* The request's epoch header; ERR_INVALID if it is missing or no number. wire_serve() asks it; who
 * answers a request without wire_serve() (the event stream) asks it himself. */
bool wire_request_epoch(const HttpRequest *request, int64_t *ret_epoch, GError **error);
/* Finds the route, parses the body (strict JSON object, 1 MiB, depth limited by jansson), checks
 * the epoch via epoch_ok (may be NULL: then the header is not needed), calls and answers. 404/405
 * for the rest. An empty body is {}, the media type is not looked at, GET and DELETE have no body;
 * the id has at most 255 bytes and no control characters. A handler that returns true without JSON
 * is answered {}. */
void wire_serve(const WireRoute *routes, void *self,
                bool (*epoch_ok)(void *self, int64_t epoch, GError **error),
                const HttpRequest *request, HttpResponse *response);
