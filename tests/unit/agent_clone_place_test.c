/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Where the volumes of a clone go: into a storage that fills meanwhile, into another storage
 * domain.
 */
#include "clone_host.h"

/* ---- a storage that fills meanwhile ---- */

#define PLENTY (UINT64_C(900) << 20)
#define LITTLE (UINT64_C(10) << 20)

static int is_full; /* atomic: somebody else takes all but a little, once it has begun */
static int asked;   /* atomic: how often */

/* The plan asks for each of the two disks, and once more is asked when the copying begins. The
 * reserve of its 1000 MiB is 50 MiB. */
static void
tell_space(const Domain *domain, uint64_t *ret_free, uint64_t *ret_total)
{
    bool begun = g_atomic_int_add(&asked, 1) >= 3;

    *ret_free = begun && g_atomic_int_get(&is_full) != 0 ? LITTLE : PLENTY;
    *ret_total = UINT64_C(1000) << 20;
}

static json_t *
operation_look(Host *host)
{
    json_t *json = NULL;

    operation_get(host->agent, OP, &json, NULL);
    return json;
}

/* Stands still, and says why; returns what it has written so far. */
static uint64_t
wait_paused(Host *host)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    for (;; g_usleep(2000)) {
        g_autoptr(json_t) json = operation_look(host);
        const json_t *attention = json_object_get(json, "attention");
        const json_t *progress = json_object_get(json, "progress");
        g_assert_cmpstr(json_text(json, "state"), ==, "running");
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        if (attention == NULL)
            continue;
        g_assert_cmpstr(json_text(attention, "kind"), ==, "space");
        g_assert_nonnull(strstr(json_text(attention, "message"), "disk vda: the clone has paused"));
        g_assert_nonnull(strstr(json_text(attention, "message"), host->disks));
        g_assert_cmpstr(json_text(progress, "phase"), ==, "paused");
        return (uint64_t)json_number(progress, "bytes_done");
    }
}

static void
begin_on_full_storage(Host *host)
{
    g_autoptr(GError) error = NULL;
    json_t *params = clone_of(SNAP(2));

    host_make(host);
    g_atomic_int_set(&asked, 0);
    g_atomic_int_set(&is_full, 1);
    ((Domain *)host->agent->domains->pdata[0])->space = tell_space;
    json_object_set_new(params, "strategy", json_string("copy"));
    operation_start(host, OP, "clone", params, &error);
    g_assert_no_error(error);
}

static void
wait_for_looks(void)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;
    int begun = g_atomic_int_get(&asked);

    while (g_atomic_int_get(&asked) < begun + 3) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(1000);
    }
}

static void
test_pauses(void)
{
    g_auto(Host) host = { 0 };

    begin_on_full_storage(&host);
    uint64_t done = wait_paused(&host);
    wait_for_looks(); /* nothing must happen */
    g_assert_cmpuint(wait_paused(&host), ==, done);
    g_atomic_int_set(&is_full, 0);
    g_autoptr(json_t) json = operation_wait(&host, OP);
    g_assert_cmpstr(json_text(json, "state"), ==, "done");
    g_assert_null(json_object_get(json, "attention"));
    assert_twin(&host, 1);
    assert_source(&host);
}

static void
test_pause_cancelled(void)
{
    g_auto(Host) host = { 0 };
    g_autoptr(json_t) answer = NULL;

    begin_on_full_storage(&host);
    wait_paused(&host);
    operation_cancel(host.agent, OP, &answer, NULL);
    g_autoptr(json_t) json = operation_wait(&host, OP);
    g_assert_cmpstr(json_text(json, "state"), ==, "cancelled");
    g_assert_null(json_object_get(json, "attention"));
    assert_no_twin(&host);
    assert_source(&host);
}

/* It may then use half of what is left. */
static void
test_pause_resumed(void)
{
    g_auto(Host) host = { 0 };
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    begin_on_full_storage(&host);
    wait_paused(&host);
    g_assert_true(operation_resume(host.agent, OP, &answer, &error));
    g_assert_no_error(error);
    g_autoptr(json_t) json = operation_wait(&host, OP);
    g_assert_cmpstr(json_text(json, "state"), ==, "done");
    assert_twin(&host, 1);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    need_qemu();
    template_make(3);
    g_test_add_func("/clone-place/pauses", test_pauses);
    g_test_add_func("/clone-place/pause-cancelled", test_pause_cancelled);
    g_test_add_func("/clone-place/pause-resumed", test_pause_resumed);
    int failed = g_test_run();
    folder_remove(&template);
    return failed;
}
