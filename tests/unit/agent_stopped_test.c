/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Whole operations of the agent, stopped at every fault point they pass: whoever comes after must
 * finish or undo them, lose nothing, and leave no VM suspended.
 */
#include "agent/merge.h"
#include "chain_host.h"
#include "storage/guard.h"

/* TURN_*: the agent lives on, and what stops at the fault point is only a call; but the VM stops or
 * starts at that moment. */
typedef enum {
    RESTART,
    RESTART_AND_CANCEL,
    POWER_OFF,
    POWER_CYCLE,
    TURN,
    TURN_TWICE,
    SWEEPS
} Sweep;

static void
turn_vm(Host *host, bool on)
{
    AgentVm *entry = agent_entry(host->agent, FAKE_VM, false);
    const HvEvent event = { .kind = HV_EVENT_DOMAIN, .vm_id = FAKE_VM };
    g_autoptr(GError) error = NULL;

    if (on) { /* what libvirt's hook asks for */
        merge_make_way(host->agent, entry, 5000, &error);
        g_assert_no_error(error);
        WITH_LOCK(&entry->lock);
        merge_before_start(host->agent, entry, true, &error);
        g_assert_no_error(error);
    }
    g_mutex_lock(&host->fake.lock);
    if (on)
        fake_power_on(&host->fake);
    else
        fake_power_off(&host->fake);
    g_mutex_unlock(&host->fake.lock);
    agent_on_hv_event(&event, host->agent);
    agent_kick(host->agent, FAKE_VM);
}

/* What the hook says of a start while the agent is dead. */
static bool
may_start(const Host *host)
{
    const char *leaf = host->fake.disks[0].stored;
    const char *const sources[] = { leaf, NULL };
    g_auto(GuardManifest) manifest = { 0 };
    g_auto(GuardFinding) finding = { 0 };
    g_autoptr(GError) error = NULL;

    guard_load(FAKE_VM, sources, &manifest, &error);
    g_assert_no_error(error);
    guard_look(&manifest, "vda", leaf, "qcow2", &finding);
    return finding.verdict == GUARD_FINE;
}

/* The VM was switched off just as an internal commit had ended, and started again before the agent
 * was: by the hook's word not before it, or where there is no hook. */
static void
start_early(Host *host, bool hook)
{
    if (hook) {
        agent_begin(host);
        turn_vm(host, true);
        return;
    }
    fake_power_on(&host->fake);
    agent_begin(host);
    /* it says so, or had synced all and has ended */
    json_decref(operation_wait(host, op_says_or_has_ended, "Power the VM off"));
    turn_vm(host, false);
}

static void
wait_for_fault_or_end(Host *host)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;
    bool running = true;

    while (running && !fault_fired() && g_get_monotonic_time() < until) {
        g_autoptr(json_t) json = operation_now(host);
        running = json != NULL && g_str_equal(json_text(json, "state"), "running");
        g_usleep(200);
    }
}

/* The leaf takes no part, and nothing new is made. */
static bool
merges_inside(const Case *c)
{
    return g_str_equal(c->name, "commit") || g_str_equal(c->name, "cold");
}

/* Stops the agent at its n-th fault point. False when there is none any more. */
static bool
stop_at(const Case *c, Sweep sweep, int n)
{
    g_auto(Host) host = { 0 };
    g_autoptr(json_t) answer = NULL;

    host_make(&host, !c->off);
    if (c->sealed)
        make_sealable(&host);
    fault_arm(n);
    operation_start(&host, c);
    wait_for_fault_or_end(&host);
    bool fired = fault_fired();
    if (sweep == TURN || sweep == TURN_TWICE) {
        turn_vm(&host, c->off);
        if (sweep == TURN_TWICE)
            turn_vm(&host, !c->off);
        g_autofree char *end = assert_whole(&host, c);
        g_test_message("%s, turned at point %d: %s", c->name, n, end);
        if (!c->sealed)
            g_assert_cmpstr(end, ==, "done");
        return fired;
    }
    agent_end(&host);
    fault_arm(-1);
    if ((sweep == POWER_OFF || sweep == POWER_CYCLE) && !c->off)
        fake_power_off(&host.fake);
    if (sweep == POWER_CYCLE && merges_inside(c) && !may_start(&host)) {
        start_early(&host, n % 4 < 2);
    } else {
        if (sweep == POWER_CYCLE)
            fake_power_on(&host.fake);
        agent_begin(&host);
    }
    if (sweep == RESTART_AND_CANCEL)
        operation_cancel(host.agent, OP, &answer, NULL);
    g_autofree char *state = assert_whole(&host, c);
    g_test_message("%s, stopped at point %d: %s", c->name, n, state);
    if (sweep == RESTART && !c->sealed)
        g_assert_cmpstr(state, ==, "done");
    return fired;
}

/* -m slow tries every point in every way. Else each way begins at another point, so that what one
 * leaves out another has. */
static int
stride_of(const Case *c, Sweep sweep)
{
    bool builds = c->strategy != NULL && (strstr(c->strategy, "copy") != NULL || c->sealed);

    if (g_test_slow())
        return 1;
    if (builds)
        return 5;
    return sweep == RESTART ? 1 : sweep < TURN ? 2 : 3;
}

static void
test_sweep(const void *data)
{
    size_t number = GPOINTER_TO_SIZE(data);
    const Case *c = &cases[number / SWEEPS];
    Sweep sweep = (Sweep)(number % SWEEPS);
    int stride = stride_of(c, sweep), n = (int)sweep % stride;

    while (stop_at(c, sweep, n))
        n += stride;
    g_assert_cmpint(n, >, 5);
}

/* What a killed agent leaves of each volume that it has yet to build. False: it builds none yet. */
static bool
leave_half_built(const Host *host)
{
    g_autofree char *file = in(host->state, "journal.db");
    Journal *journal = journal_open(file, NULL);
    g_autoptr(GPtrArray) rows = journal_load(journal, NULL);
    const JournalRow *row = rows->len > 0 ? rows->pdata[0] : NULL;
    bool builds = row != NULL && g_str_equal(row->step, "prefill");
    const json_t *groups = builds ? json_object_get(row->data, "groups") : NULL;

    for (size_t i = 0; i < json_array_size(groups); i++) {
        g_autofree char *name = qcow2_build_name(json_text(json_array_get(groups, i), "dest"));
        g_assert_true(g_file_set_contents(name, "half", 4, NULL));
    }
    journal_close(journal);
    return builds;
}

/* The VM was off, so that its leaf was to be read; it runs when a new agent comes. */
static void
test_half_built(void)
{
    const Case *c = &cases[10];
    bool known = false;

    g_assert_cmpstr(c->name, ==, "cold-copy-leaf");
    for (int n = 0; !known; n++) {
        g_auto(Host) host = { 0 };
        host_make(&host, false);
        fault_arm(n);
        operation_start(&host, c);
        wait_for_fault_or_end(&host);
        agent_end(&host);
        g_assert_true(fault_fired());
        fault_arm(-1);
        known = leave_half_built(&host);
        fake_power_on(&host.fake);
        agent_begin(&host);
        g_autofree char *state = assert_whole(&host, c);
        if (known)
            g_assert_cmpstr(state, ==, "done");
    }
}

int
main(int argc, char **argv)
{
    static const char *const sweeps[] = { "restart",     "cancel", "power-off",
                                          "power-cycle", "turn",   "turn-twice" };

    g_test_init(&argc, &argv, NULL);
    need_qemu();
    template_make();
    for (size_t i = 0; i < G_N_ELEMENTS(cases) * SWEEPS; i++) {
        if (cases[i / SWEEPS].off && i % SWEEPS == POWER_OFF)
            continue;
        if (cases[i / SWEEPS].strategy == NULL && i % SWEEPS >= TURN)
            continue;
        if (cases[i / SWEEPS].remove > 0 && i % SWEEPS != RESTART && i % SWEEPS != TURN &&
            !g_test_slow())
            continue;
        g_autofree char *name =
            g_strdup_printf("/stopped/%s/%s", cases[i / SWEEPS].name, sweeps[i % SWEEPS]);
        g_test_add_data_func(name, GSIZE_TO_POINTER(i), test_sweep);
    }
    g_test_add_func("/stopped/half-built", test_half_built);
    int result = g_test_run();
    folder_remove(&template);
    return result;
}
