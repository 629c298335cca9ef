/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Operation × state over HTTP (docs/states.md): what ?operations=true tells beforehand is what the
 * attempt gets, by status, key and why; and what it calls possible is begun. The VM of the played
 * agent is put into each state, and into each condition that can be seen of a VM.
 * tests/unit/model_verbs_test.c says what stands in the cells.
 */
#include "api_states.h"
#include "base/log.h"

/* ---- states ---- */

static void
test_states(void)
{
    for (VmState state = 0; state < VM_STATE_LAST; state++) {
        g_autoptr(Vm) vm = good_vm(state);
        put_vm(vm);
        g_assert_cmpuint(check_refusals(vm_state_word(state)), >, 0);
        check_possibles(vm, vm_state_word(state));
    }
}

/* ---- conditions of the VM ---- */

static void
be_without_agent(Vm *vm)
{
    vm->agent_connected = false;
}

static void
be_unmanaged(Vm *vm)
{
    vm->unmanaged = g_strdup("all on tape");
}

static void
be_unusable(Vm *vm)
{
    ((SnapshotDisk *)((Snapshot *)vm->snapshots->pdata[0])->disks->pdata[0])->unusable = true;
}

static void
be_busy(Vm *vm)
{
    ((Disk *)vm->disks->pdata[0])->busy = g_strdup("a block job (copy)");
}

/* Somebody else's, with all of it. */
static void
be_backed_up(Vm *vm)
{
    vm->foreign_job = g_strdup("backup");
}

static void
have_no_disk(Vm *vm)
{
    g_ptr_array_set_size(vm->disks, 0);
}

static void
be_without_definition(Vm *vm)
{
    g_clear_pointer(&((Snapshot *)vm->snapshots->pdata[0])->config, g_free);
}

static void
test_conditions(void)
{
    static const struct {
        const char *what;
        void (*be)(Vm *vm);
        VmState state;
    } rows[] = { { "no guest agent", be_without_agent, VM_UP },
                 { "unmanaged", be_unmanaged, VM_UP },
                 { "unusable", be_unusable, VM_DOWN },
                 { "a busy disk, up", be_busy, VM_UP },
                 { "a busy disk, down", be_busy, VM_DOWN },
                 { "a backup", be_backed_up, VM_UP },
                 { "no disk", have_no_disk, VM_DOWN },
                 { "no definition", be_without_definition, VM_UP },
                 { "a preview, down", be_previewed, VM_DOWN },
                 { "a preview, up", be_previewed, VM_UP } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Vm) vm = good_vm(rows[i].state);
        rows[i].be(vm);
        put_vm(vm);
        g_assert_cmpuint(check_refusals(rows[i].what), >, 0);
    }
}

/* ---- the active snapshot, a host that is silent ---- */

static void
test_active(void)
{
    g_autoptr(Vm) vm = good_vm(VM_DOWN);

    begin_anew();
    put_vm(vm);
    subject_id = active_snapshot_id(vm);
    g_assert_cmpuint(check_refusals("the active snapshot"), >, 4);
    g_clear_pointer(&subject_id, g_free);
}

static void
be_silent(Agent *agent)
{
    g_mutex_lock(&agent->lock);
    agent->stopping = true;
    g_cond_broadcast(&agent->changed);
    g_mutex_unlock(&agent->lock);
    http_server_stop(g_steal_pointer(&agent->server));
}

/* And it is known that nobody listens there: from then on the reason that is told does not change,
 * as it does while the streams to it end, one by one. */
static bool
is_unreachable(void)
{
    json_call(&world, "GET", PATH("/hosts"), NULL, 200);
    const char *detail = json_text(at(world.doc, "host.0"), "status_detail");
    return g_strcmp0(json_text(at(world.doc, "host.0"), "status"), "up") != 0 && detail != NULL &&
           strstr(detail, "nobody is listening") != NULL;
}

static void
test_silent(void)
{
    g_autoptr(Vm) vm = good_vm(VM_DOWN);
    int64_t until = g_get_monotonic_time() + 20 * G_TIME_SPAN_SECOND;

    begin_anew();
    put_vm(vm);
    be_silent(world.agent);
    while (!is_unreachable()) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(5000);
    }
    g_assert_cmpuint(check_refusals("a silent host"), >, 10);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_states_test");
    world_start(&world);
    g_test_add_func("/api/states/conditions", test_conditions);
    g_test_add_func("/api/states/states", test_states);
    g_test_add_func("/api/states/active", test_active);
    g_test_add_func("/api/states/silent", test_silent);
    int failed = g_test_run();
    world_stop(&world);
    return failed;
}
