/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What flows.c (merges and snapshots), flows_agent.c (the same, asked of the agent itself),
 * flows_power.c, flows_guest.c and flows_vm.c (what is done with whole VMs) and flows_records.c
 * (names, the doctor) share.
 */
#pragma once

#include "world.h"

#include "flow/manager.h"

/* Between two tries of whoever asks. When all faults have come, and something is still wrong, a
 * pause is twice as long as the one before, up to eight times: most tries would be the same again.
 * times: how many there were in a row. */
void flow_rest(int64_t us, unsigned *times);

/* ---- flows_agent.c: asking the agent itself, as the manager would ---- */
/* Each waits for an answer as long as it takes. */
json_t *ask_vm_json(void);
/* An operation's id; NULL = refused. */
char *ask_begin(const char *kind, json_t *take_params);
/* Its last state; it is acknowledged then. NULL: the agent says that there is none. */
json_t *ask_follow(const char *id);
/* Volumes base to top of each disk become one, and what is left over is deleted. */
void ask_merge_all(size_t base, size_t top, const char *strategy);

void run_commit_active(void);
void run_commit(void);
void run_copy(void);
void run_graft(void);
void run_cold(void);
void run_delete_named(void);
void run_create(void);

/* ---- asking the manager ---- */
typedef char *(*JobAsk)(Manager *manager, GError **error);
/* One thing that a user wants; each but ask may be NULL. */
typedef struct {
    JobAsk ask;
    bool (*is_so)(void); /* it is so already, so a refusal or failure is no harm */
    bool (*needs)(void); /* false: when it is refused, the user goes on with step "otherwise" */
    unsigned otherwise;
    void (*begins)(void); /* before it is asked for; perhaps several times */
    void (*ends)(bool done);
    /* it is done, but a user sees that it must be asked for once more */
    bool (*is_not_all)(Manager *manager);
} JobStep;
#define MANAGER_DATABASE "/sim/manager/manager.db"
Manager *flow_open_manager(void);              /* NULL: the world is wrong */
char *flow_newest_job(const Manager *manager); /* its id; NULL = there is none */
char *flow_ask_delete_newest(Manager *manager, GError **error);
/* Ends with one without ask. Never returns. */
void run_jobs(const JobStep *steps);

/* The flow has ended. Never returns. */
void flow_end(void);

/* ---- flows_power.c ---- */
char *flow_ask_start(Manager *manager, GError **error);
char *flow_ask_off(Manager *manager, GError **error);
bool flow_runs(void);
bool flow_is_off(void);
/* Before something is asked for that starts or stops the VM: nobody else does. */
void flow_note_life(void);
unsigned flow_life_before(void); /* vm.life then */
void flow_stop_begins(void);
void flow_started(bool done);
void flow_stopped(bool done);
void run_power(void);
void run_agent_power(void);

/* ---- flows_guest.c ---- */
void run_freeze(void);

/* ---- flows_records.c ---- */
void run_rename(void);
void run_update(void);
void run_doctor(void);
void run_doctor_undo(void);
void run_import(void);
void flow_records_reset(void);
bool flow_finds_more(Manager *manager); /* that the doctor mends unasked, or that is an error */

/* ---- flows_lost.c ---- */
void run_lost(void);
void flow_lost_reset(void);
bool flow_lost_is_kept(const char *path);

/* ---- flows_config.c ---- */
void run_config_only(void);

/* ---- flows_vm.c ---- */
void flow_try(const char *snapshot_id); /* the one that is meant by what is asked from now on */
char *flow_ask_preview(Manager *manager, GError **error);
char *flow_ask_undo(Manager *manager, GError **error);
char *flow_ask_commit(Manager *manager, GError **error);
char *flow_ask_restore(Manager *manager, GError **error);
bool flow_is_not_tried(void);
/* The definition is this one, but for a VM that has been started meanwhile, and for what libvirt
 * has refused or lost. */
void flow_check_config(const char *when, unsigned wanted);
void run_try(void);
void run_keep(void);
void run_restore(void);
void run_memory_try(void);
void run_memory_keep(void);
void run_remove(void);
void run_clone(void);
void run_clone_off(void);
