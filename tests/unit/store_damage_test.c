/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The manager's database, spoiled in every way.
 */
#include "store/store.h"

#include "../lib/damage.h"

static bool
try_store(const char *file, char **ret_aside, GError **error)
{
    Store *store = store_open(file, error);

    if (store == NULL)
        return false;
    *ret_aside = g_strdup(store_set_aside(store));
    g_autoptr(GPtrArray) rows = store_flow_list(store, false, NULL, NULL, error);
    store_close(store);
    return rows != NULL;
}

static void
add(Store *store, unsigned n)
{
    g_autofree char *id = g_strdup_printf("aaaaaaaa-0000-4000-8000-%012u", n);
    g_autofree char *parent = g_strdup_printf("aaaaaaaa-0000-4000-8000-%012u", n - n % 3);
    g_autofree char *big = g_strnfill(n % 3 == 0 ? 6000 : 200, 'x');
    g_autoptr(FlowRow) row = g_new0(FlowRow, 1);
    g_autoptr(EventRow) event = g_new0(EventRow, 1);
    g_autoptr(json_t) doc = json_pack("{s:s}", "name", big);

    row->id = g_strdup(id);
    row->kind = g_strdup("merge-run");
    row->vm_id = g_strdup("vm1");
    row->parent = n % 3 != 0 ? g_strdup(parent) : NULL;
    row->step = g_strdup("begin");
    row->params = json_pack("{s:i}", "n", n);
    row->data = json_object();
    g_assert_true(store_flow_insert(store, row, NULL));
    json_object_set_new(row->data, "big", json_string(big));
    if (n % 4 == 1)
        g_assert_true(store_flow_cancel(store, id, NULL));
    if (n % 5 == 1) {
        g_free(row->step);
        row->step = g_strdup("");
    }
    g_assert_true(store_flow_update(store, row, NULL));
    event->code = 342;
    event->severity = g_strdup("normal");
    event->text = g_strdup_printf("something of %s", id);
    event->job_id = g_strdup(id);
    g_assert_true(store_event_add(store, event, NULL));
    g_assert_true(store_vm_put(store, id, "host", doc, NULL));
    PersonRow person = { .name = id, .role = (char *)"viewer", .vms = doc, .created = 1 };
    TokenRow token = { .hash = id, .person = id, .kind = (char *)"api", .created = 1 };
    g_assert_true(store_person_put(store, &person, NULL));
    g_assert_true(store_token_put(store, &token, NULL));
}

static void
write_rows(const char *file, unsigned from, unsigned to)
{
    Store *store = store_open(file, NULL);

    for (unsigned n = from; n < to; n++)
        add(store, n);
    store_close(store);
}

static const Kind kind = {
    "/database", "manager.db", try_store,
    "SELECT 'flow ' || number || id || kind || vm_id || ifnull(parent, '-') || step || tried ||"
    " cancel || ifnull(error_text, '-') || params || data || created || updated || ended || rev"
    " FROM flow UNION ALL"
    " SELECT 'event ' || id || time || code || text || ifnull(job_id, '-') FROM event UNION ALL"
    " SELECT 'vm ' || id || host || doc FROM vm UNION ALL"
    " SELECT 'note ' || name || value FROM note WHERE name <> 'instance' ORDER BY 1",
    write_rows
};

static const Stranger strangers[] = {
    STRANGERS,
    { "without-flows", NULL, "DROP TABLE flow", NULL },
    { "without-an-index", NULL, "DROP INDEX event_job", NULL },
    { "edited-flow", NULL, "UPDATE flow SET step='end'", NULL },
    { "edited-event", NULL, "UPDATE event SET text='nothing happened'", NULL },
    { "edited-vm", NULL, "UPDATE vm SET doc='{}'", NULL },
    { "edited-user", NULL, "UPDATE person SET role='administrator'", NULL },
    { "edited-token", NULL, "UPDATE token SET expires=9e12", NULL },
};

/* One row is spoiled: the others go on. */
static void
test_salvage(void)
{
    QUICK_FOLDER(folder);
    g_autofree char *file = in(folder, kind.name);
    g_autoptr(GError) error = NULL;
    Store *store = store_open(file, NULL);

    for (unsigned n = 0; n < 9; n++)
        add(store, n);
    store_close(store);
    edit(file, "UPDATE flow SET step='pivot' WHERE id LIKE '%003'"); /* its parts are 4 and 5 */
    store = store_open(file, &error);
    g_assert_no_error(error);
    g_assert_nonnull(store_set_aside(store));
    g_autoptr(GPtrArray) rows = store_flow_list(store, false, NULL, NULL, &error);
    g_assert_cmpuint(rows->len, ==, 6);
    g_autoptr(GPtrArray) events = store_event_list(store, 0, -1, true, &error);
    g_assert_cmpuint(events->len, ==, 9);
    g_autoptr(GPtrArray) people = store_people(store, &error);
    g_assert_cmpuint(people->len, ==, 9);
    g_autoptr(GPtrArray) tokens = store_tokens(store, &error);
    g_assert_cmpuint(tokens->len, ==, 0); /* who had one signs in again */
    add(store, 20);
    store_close(store);
    store = store_open(file, &error);
    g_assert_no_error(error);
    g_assert_null(store_set_aside(store));
    store_close(store);
}

static void
test_late(void)
{
    QUICK_FOLDER(folder);
    g_autofree char *file = in(folder, kind.name), *aside = NULL, *before = NULL;
    g_autofree char *noise = g_strnfill(4096, 'z');
    g_autoptr(GError) error = NULL;
    gsize size = 0;
    Store *store = store_open(file, NULL);

    for (unsigned n = 0; n < 30; n++)
        add(store, n);
    store_close(store);
    store = store_open(file, NULL);
    g_assert_null(store_damage(store));
    edit(file, "UPDATE note SET value = value"); /* what the connection has in memory is void */
    g_assert_true(g_file_get_contents(file, &before, &size, NULL));
    for (gsize at = 4096; at < size; at += 4096)
        poke_text(file, at, noise, 4096);
    g_assert_false(store_flow_cancel(store, "aaaaaaaa-0000-4000-8000-000000000003", &error));
    g_assert_error(error, ERR, ERR_CORRUPT);
    g_clear_error(&error);
    g_assert_nonnull(store_damage(store));
    g_assert_false(store_vm_remove(store, "x", &error));
    g_assert_error(error, ERR, ERR_CORRUPT);
    g_assert_nonnull(strstr(error->message, file));
    g_assert_nonnull(strstr(error->message, "Restart the manager"));
    store_close(store);
    g_assert_true(try_store(file, &aside, NULL));
    g_assert_nonnull(aside);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!g_test_verbose() && freopen("/dev/null", "w", stderr) == NULL) /* each is told */
        return 1;
    damage_tests(&kind, strangers, G_N_ELEMENTS(strangers));
    g_test_add_func("/database/salvage", test_salvage);
    g_test_add_func("/database/late", test_late);
    return g_test_run();
}
