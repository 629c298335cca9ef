/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the tests of previews stand on: a VM of four volumes a disk, and a look at the line on which
 * it stands.
 */
#pragma once

#include "agent/doctor.h"
#include "storage/guard.h"
#include "two_disk_host.h"

#define OP "aaaaaaaa-0000-4000-8000-000000000001"
#define OP2 "bbbbbbbb-0000-4000-8000-000000000002"
#define OP3 "cccccccc-0000-4000-8000-000000000003"
#define CONFIG "<domain>then</domain>" /* of each snapshot; now it is "<domain/>" */

static inline void
host_make(Host *host)
{
    host_make_with(host, CONFIG);
}

static inline json_t *
of_snapshot(const char *snapshot_id)
{
    return json_pack("{s:s}", "snapshot_id", snapshot_id);
}

/* ---- looking */

static inline char *
leaf_of(Host *host, unsigned disk)
{
    WITH_LOCK(&host->fake.lock);

    return g_strdup(host->fake.disks[disk].stored);
}

/* What the guest would see, if it started now: the content of that layer of both disks. */
static inline void
assert_stands_on(Host *host, unsigned layer)
{
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        g_autofree char *leaf = leaf_of(host, i);
        MUST(host->disks, "qemu-img compare -q -f qcow2 -F raw %s %c.%u.gold", leaf, 'a' + (int)i,
             layer);
    }
}

/* The guard lets the VM start from where it stands; on the other line, it does not. */
static inline void
assert_guarded(Host *host, const char *const *other)
{
    g_autofree char *a = leaf_of(host, 0), *b = leaf_of(host, 1);
    const char *sources[] = { a, b, NULL };
    g_auto(GuardManifest) manifest = { 0 };
    g_autoptr(GError) error = NULL;

    g_assert_true(guard_load(FAKE_VM, sources, &manifest, &error));
    for (unsigned i = 0; i < 2; i++) {
        g_auto(GuardFinding) finding = { 0 };
        guard_look(&manifest, i == 0 ? "vda" : "vdb", sources[i], "qcow2", &finding);
        g_assert_cmpint(finding.verdict, ==, GUARD_FINE);
    }
    for (; other != NULL && *other != NULL; other++) {
        g_autofree char *path = in(host->disks, *other);
        g_auto(GuardFinding) finding = { 0 };
        guard_look(&manifest, **other == 'a' ? "vda" : "vdb", path, "qcow2", &finding);
        if (finding.verdict != GUARD_STALE)
            g_error("the VM could start from %s", path);
        g_assert_cmpstr(finding.leaf, ==, **other == 'a' ? a : b);
    }
}

static inline json_t *
ask_doctor(Host *host)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    for (;;) {
        json_t *answer = NULL;
        g_autoptr(GError) error = NULL;
        g_assert_true(doctor_answer(host->agent, NULL, &answer, &error));
        g_assert_no_error(error);
        if (json_array_size(json_object_get(answer, "busy")) == 0)
            return answer;
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        json_decref(answer);
        g_usleep(2000);
    }
}

/* The doctor finds nothing: what a preview leaves beside the chain is no orphan. The trash is being
 * emptied. */
static inline void
assert_sound(Host *host)
{
    doctor_grace_s = 0;
    g_autoptr(json_t) answer = ask_doctor(host);
    json_t *findings = json_object_get(answer, "findings");

    for (size_t i = 0; i < json_array_size(findings); i++) {
        const json_t *finding = json_array_get(findings, i);
        if (!g_str_equal(json_text(finding, "class"), "leftover-trash"))
            g_error("the doctor finds: %s", json_text(finding, "text"));
    }
}

static inline void
write_leaf(Host *host, unsigned disk, unsigned value)
{
    g_autofree char *leaf = leaf_of(host, disk);

    MUST(host->disks, "qemu-io -f qcow2 -c 'write -P %u 512k 64k' %s", value, leaf);
}

static inline void
delete_left(Host *host, const char *id, const json_t *ended)
{
    json_t *left = json_object_get(json_object_get(ended, "result"), "volumes_left");

    g_assert_true(json_is_array(left));
    DO(host, id, "delete-volumes", json_pack("{s:O}", "volumes", left), "done");
    wait_for_trash(host);
}

/* As after an error of libvirt for a deed that was done. */
static inline void
let_it_be_taken_back(Host *host)
{
    g_autofree char *file = g_build_filename(host->state, "journal.db", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(Journal) journal = journal_open(file, &error);
    g_assert_no_error(error);
    g_autoptr(GPtrArray) rows = journal_load(journal, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(rows->len, ==, 1);
    JournalRow *row = rows->pdata[0];

    g_free(row->step);
    g_free(row->error_word);
    g_free(row->error_text);
    row->step = g_strdup("undo");
    row->error_word = g_strdup("hypervisor");
    row->error_text = g_strdup("the definition was not written");
    g_assert_true(journal_update(journal, row, &error));
}

/* ---- stopped at every point */

typedef enum { RESTART, CANCEL, POWER_ON, SWEEPS } Sweep; /* what happens meanwhile */

/* Its agent has looked at the VM while that runs: the operation has ended, or says what it waits
 * for. Then it is switched off again. */
static inline void
power_off_again(Host *host)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;
    bool waits = false;

    while (!waits) {
        g_autoptr(json_t) json = NULL;
        waits = !operation_get(host->agent, OP, &json, NULL) ||
                !g_str_equal(json_text(json, "state"), "running") ||
                json_text(json, "waiting_for") != NULL;
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(1000);
    }
    g_mutex_lock(&host->fake.lock);
    fake_power_off(&host->fake);
    g_mutex_unlock(&host->fake.lock);
    agent_kick(host->agent, FAKE_VM);
}

/* The agent ends at the n-th fault point of the operation, and another one goes on to its end.
 * False when there is none any more. */
static inline bool
stop_and_go_on(Host *host, const char *kind, json_t *take_params, Sweep sweep, int n,
               void (*power_on)(Host *host), json_t **ret_ended)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;

    fault_arm(n);
    operation_start(host, OP, kind, take_params, &error);
    wait_for_fault_or_end(host, OP);
    bool fired = fault_fired();
    agent_end(host);
    fault_arm(-1);
    if (sweep == POWER_ON)
        power_on(host);
    agent_begin(host);
    if (sweep == CANCEL)
        operation_cancel(host->agent, OP, &answer, NULL);
    if (sweep == POWER_ON)
        power_off_again(host);
    *ret_ended = operation_wait(host, OP);
    operation_ack(host->agent, OP, NULL);
    operation_ack(host->agent, OP3, NULL); /* again: the fault may have hit the first */
    return fired;
}

static inline void
stop_anywhere(const char *kind, bool (*stop_at)(const char *kind, Sweep sweep, int n))
{
    for (Sweep sweep = RESTART; sweep < SWEEPS; sweep++)
        for (int n = 0; stop_at(kind, sweep, n); n++)
            ;
}
