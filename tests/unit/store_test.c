/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The manager's database: what it promises about restarts and races.
 */
#include "base/clock.h"
#include "base/text.h"
#include "store_fixture.h"

/* Ids of the rows, joined. */
static char *
list(Store *store, bool only_open, const char *parent, const char *vm)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) rows = store_flow_list(store, only_open, parent, vm, &error);
    GString *ids = g_string_new(NULL);

    g_assert_no_error(error);
    for (guint i = 0; i < rows->len; i++)
        g_string_append_printf(ids, "%s%s", i > 0 ? " " : "", ((FlowRow *)rows->pdata[i])->id);
    return g_string_free(ids, FALSE);
}

#define ASSERT_LIST(store, only_open, parent, vm, wanted)           \
    do {                                                            \
        g_autofree char *ids_ = list(store, only_open, parent, vm); \
        g_assert_cmpstr(ids_, ==, wanted);                          \
    } while (0)

static void
finish(Store *store, const char *id)
{
    g_autoptr(FlowRow) row = get(store, id);
    g_autoptr(GError) error = NULL;

    g_free(row->step);
    row->step = g_strdup("");
    g_assert_true(store_flow_update(store, row, &error));
    g_assert_no_error(error);
    g_assert_cmpint(row->ended, >, 0);
}

static void
test_flow_survives_restart(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FlowRow) row = NULL, again = NULL;

    insert(f->store, "a", "vm1", NULL);
    row = get(f->store, "a");
    g_free(row->step);
    row->step = g_strdup("wait");
    row->tried = 3;
    row->error_word = g_strdup("storage");
    row->error_text = g_strdup("it is \"broken\"\n");
    json_object_set_new(row->data, "op", json_string("x"));
    g_assert_true(store_flow_update(f->store, row, &error));
    g_assert_cmpint(row->rev, ==, 2);
    reopen(f);

    again = get(f->store, "a");
    g_assert_cmpstr(again->kind, ==, "merge-run");
    g_assert_cmpstr(again->vm_id, ==, "vm1");
    g_assert_null(again->parent);
    g_assert_cmpstr(again->step, ==, "wait");
    g_assert_cmpuint(again->tried, ==, 3);
    g_assert_cmpstr(again->error_word, ==, "storage");
    g_assert_cmpstr(again->error_text, ==, "it is \"broken\"\n");
    g_assert_cmpstr(again->correlation_id, ==, "corr");
    g_assert_cmpstr(again->description, ==, "Merging \303\244 'vda'");
    g_assert_true(json_equal(again->params, row->params));
    g_assert_true(json_equal(again->data, row->data));
    g_assert_cmpint(again->rev, ==, 2);
    g_assert_cmpint(again->ended, ==, 0);
}

static void
test_lists(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    insert(f->store, "z", "vm1", NULL);
    insert(f->store, "b", "vm1", "z");
    insert(f->store, "a", "vm1", "z");
    insert(f->store, "y", "vm2", NULL);
    ASSERT_LIST(f->store, false, NULL, NULL, "z b a y"); /* as inserted */
    ASSERT_LIST(f->store, false, "z", NULL, "b a");
    ASSERT_LIST(f->store, false, NULL, "vm2", "y");
    finish(f->store, "b");
    ASSERT_LIST(f->store, true, "z", NULL, "a");
    ASSERT_LIST(f->store, true, "z", "vm2", "");
    ASSERT_LIST(f->store, false, "z", "vm1", "b a");
    g_assert_null(store_flow_get(f->store, "nobody", &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
}

static void
test_id_is_taken_once(Fixture *f, gconstpointer data)
{
    g_autoptr(FlowRow) row = flow_row("a", "vm2", NULL);
    g_autoptr(GError) error = NULL;

    insert(f->store, "a", "vm1", NULL);
    g_assert_false(store_flow_insert(f->store, row, &error));
    g_assert_nonnull(error);
    ASSERT_LIST(f->store, false, NULL, "vm1", "a");
    ASSERT_LIST(f->store, false, NULL, "vm2", "");
}

static void
test_lost_race(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FlowRow) first = NULL, second = NULL, now = NULL;

    insert(f->store, "a", "vm1", NULL);
    first = get(f->store, "a");
    second = get(f->store, "a");
    first->tried = 1;
    second->tried = 2;
    g_assert_true(store_flow_update(f->store, first, &error));
    g_assert_false(store_flow_update(f->store, second, &error));
    g_assert_error(error, ERR, ERR_STALE_EPOCH);
    g_assert_cmpint(second->rev, ==, 1);
    now = get(f->store, "a");
    g_assert_cmpuint(now->tried, ==, 1);
}

/* A cancel comes from another thread than the one that turns the flow: neither undoes the other. */
static void
test_cancel_is_sticky(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FlowRow) row = NULL, now = NULL;

    insert(f->store, "a", "vm1", NULL);
    row = get(f->store, "a");
    g_assert_true(store_flow_cancel(f->store, "a", &error));
    row->tried = 1;
    g_assert_true(store_flow_update(f->store, row, &error));
    now = get(f->store, "a");
    g_assert_true(now->cancel);
    g_assert_cmpuint(now->tried, ==, 1);
    finish(f->store, "a");
    g_assert_false(store_flow_cancel(f->store, "a", &error));
    g_assert_error(error, ERR, ERR_REFUSED);
}

static void
test_prune(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    insert(f->store, "old", "vm1", NULL);
    insert(f->store, "old-child", "vm1", "old");
    insert(f->store, "open", "vm1", NULL);
    insert(f->store, "open-child", "vm1", "open");
    finish(f->store, "old-child");
    finish(f->store, "open-child");
    finish(f->store, "old");
    g_assert_true(store_flow_prune(f->store, clock_wall_ms() - 60000, &error));
    ASSERT_LIST(f->store, false, NULL, NULL, "old old-child open open-child");
    g_assert_true(store_flow_prune(f->store, clock_wall_ms() + 60000, &error));
    ASSERT_LIST(f->store, false, NULL, NULL, "open open-child");
}

static void
test_event_removed(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    int64_t a = add_event(f->store, 1, NULL, "a"), b = add_event(f->store, 1, NULL, "b");

    g_assert_true(store_event_remove(f->store, b, &error));
    g_assert_false(store_event_remove(f->store, b, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    reopen(f);
    ASSERT_EVENTS(f->store, 0, -1, true, "a");
    g_assert_cmpint(a, <, b);
    g_assert_cmpint(add_event(f->store, 1, NULL, "c"), >, b); /* nobody takes it for the other */
}

static void
test_events(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    int64_t a = add_event(f->store, 1, NULL, "a");
    int64_t b = add_event(f->store, 1, NULL, "b");
    int64_t c = add_event(f->store, 342, "job", "c");

    g_assert_cmpint(a, <, b);
    g_assert_cmpint(b, <, c);
    ASSERT_EVENTS(f->store, 0, -1, false, "cba");
    ASSERT_EVENTS(f->store, 0, -1, true, "abc");
    ASSERT_EVENTS(f->store, 0, 1, false, "c");
    ASSERT_EVENTS(f->store, a, -1, true, "bc");
    ASSERT_EVENTS(f->store, c, -1, true, "");
    ASSERT_EVENTS(f->store, 0, 0, true, "");
    /* a flow that is repeated after a crash says it again */
    g_assert_cmpint(add_event(f->store, 342, "job", "again"), ==, 0);
    g_assert_cmpint(add_event(f->store, 356, "job", "d"), >, c);
    ASSERT_EVENTS(f->store, 0, -1, true, "abcd");
    /* what a job may say more than once has a name for each time */
    g_assert_cmpint(add_event_about(f->store, 7, "job", "vda 1", "e"), >, 0);
    g_assert_cmpint(add_event_about(f->store, 7, "job", "vda 1", "again"), ==, 0);
    g_assert_cmpint(add_event_about(f->store, 7, "job", "vda 2", "f"), >, 0);
    ASSERT_EVENTS(f->store, 0, -1, true, "abcdef");
    /* ids never come back, not even after a prune and a restart */
    g_assert_true(store_event_prune(f->store, clock_wall_ms() + 60000, &error));
    ASSERT_EVENTS(f->store, 0, -1, true, "f");
    reopen(f);
    g_assert_cmpint(add_event(f->store, 1, NULL, "g"), >, c + 1);
}

static void
test_epoch_and_instance(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *instance = g_strdup(store_instance(f->store));

    g_assert_true(id_is_valid(instance));
    clock_fake(5000);
    g_assert_cmpint(store_next_epoch(f->store, &error), ==, 5);
    g_assert_cmpint(store_next_epoch(f->store, &error), ==, 6);
    reopen(f);
    g_assert_cmpint(store_next_epoch(f->store, &error), ==, 7);
    clock_fake_advance(-3000); /* a clock that is set back does not matter */
    g_assert_cmpint(store_next_epoch(f->store, &error), ==, 8);
    clock_fake_advance(20000);
    g_assert_cmpint(store_next_epoch(f->store, &error), ==, 22);
    g_assert_cmpstr(store_instance(f->store), ==, instance);
}

static void
collect_vm(const char *vm_id, const char *host, const json_t *doc, void *text)
{
    g_string_append_printf(text, "%s@%s=%" JSON_INTEGER_FORMAT ";", vm_id, host,
                           json_integer_value(json_object_get(doc, "n")));
}

static void
test_vms(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) text = g_string_new(NULL);

    for (int i = 0; i < 4; i++) {
        g_autoptr(json_t) doc = json_pack("{s:i}", "n", i);
        g_autofree char *id = g_strdup_printf("vm%d", i % 3);
        g_assert_true(store_vm_put(f->store, id, i < 3 ? "h1" : "h2", doc, &error));
    }
    g_assert_true(store_vm_remove(f->store, "vm1", &error));
    g_assert_true(store_vm_remove(f->store, "vm1", &error));
    reopen(f);
    g_assert_true(store_vm_each(f->store, collect_vm, text, &error));
    g_assert_cmpstr(text->str, ==, "vm0@h2=3;vm2@h1=2;");
}

#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/store/flow-survives-restart", test_flow_survives_restart);
    ADD("/store/lists", test_lists);
    ADD("/store/id-is-taken-once", test_id_is_taken_once);
    ADD("/store/lost-race", test_lost_race);
    ADD("/store/cancel-is-sticky", test_cancel_is_sticky);
    ADD("/store/prune", test_prune);
    ADD("/store/events", test_events);
    ADD("/store/event-removed", test_event_removed);
    ADD("/store/vms", test_vms);
    /* last: from here on the clock is a fake */
    ADD("/store/epoch-and-instance", test_epoch_and_instance);
    return g_test_run();
}
