/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Streams of events: who is told of what, and that what ends a sign-in ends them.
 */
#include "api_reader.h"

#define PASSWORD "correct horse"
#define ONLY_VM(role) \
    "{\"vm_roles\":{\"vm_role\":[{\"vm\":{\"id\":\"" VM_ID "\"},\"role\":\"" role "\"}]}}"

static char *
ask(const Site *site, const char *method, const char *path, const char *type, const char *body)
{
    g_autofree char *request = g_strdup_printf(
        "%s /ovirt-engine/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: "
        "application/json\r\nContent-Type: application/%s\r\nContent-Length: %zu\r\n\r\n%s",
        method, path, type, strlen(body), body);
    char *got = exchange(site, request);

    if (!g_str_has_prefix(got, "HTTP/1.1 20"))
        g_error("%s %s: %s", method, path, got);
    return got;
}

static void
change(const Site *site, const char *method, const char *path, const char *body)
{
    g_autofree char *full = g_strconcat("api/", path, NULL);

    g_free(ask(site, method, full, "json", body));
}

static char *
token_of(const Site *site, const char *user)
{
    g_autofree char *form = g_strdup_printf(
        "grant_type=password&scope=ovirt-app-api&username=%s&password=" PASSWORD, user);
    g_autofree char *got = ask(site, "POST", "sso/oauth/token", "x-www-form-urlencoded", form);
    const char *body = strstr(got, "\r\n\r\n");
    g_autoptr(json_t) doc = json_loads(body, 0, NULL);

    g_assert_nonnull(json_text(doc, "access_token"));
    return g_strdup(json_text(doc, "access_token"));
}

static Reader *
follow_with(const Site *site, const char *query, const char *token)
{
    g_autofree char *header = g_strdup_printf("Authorization: Bearer %s\r\n", token);
    Reader *reader = open_stream(site, query, header);

    next_of(reader, "open");
    return reader;
}

static void
say_of(const Site *site, const char *vm_id, const char *text)
{
    g_assert_true(
        manager_event(site->manager, 7, "normal", vm_id, NULL, NULL, NULL, NULL, "%s", text));
}

static void
assert_next_event(Reader *reader, const char *says)
{
    next_of(reader, "event");
    g_assert_cmpstr(json_text(reader->data, "description"), ==, says);
}

static void
wait_for_event(Reader *reader, const char *says)
{
    do
        next_of(reader, "event");
    while (!g_str_equal(json_text(reader->data, "description"), says));
}

/* Whoever has a role for one VM is told of that, from now and from the past, as long as he has it.
 */
static void
test_only_one_vm(void)
{
    Site *site = site_new();
    g_autoptr(Reader) all = open_stream(site, "?types=event,job", "");
    SnapshotCreate what = { .vm_id = VM_ID, .name = "new" };
    g_autoptr(GError) error = NULL;

    change(site, "POST", "users",
           "{\"user_name\":\"eve\",\"role\":\"none\",\"password\":\"" PASSWORD "\"}");
    g_autofree char *token = token_of(site, "eve");
    g_autofree char *place =
        g_strdup_printf("?types=event&from=%" G_GINT64_FORMAT, manager_last_event(site->manager));
    say_of(site, NULL, "of none");
    say_of(site, "another-vm", "of another");
    say_of(site, VM_ID, "one");
    change(site, "PUT", "users/eve", ONLY_VM("viewer"));
    gint64 given = manager_last_event(site->manager);
    g_autoptr(Reader) past = follow_with(site, place, token);
    do /* what was told before is not told to who comes now */
        next_of(all, "event");
    while (all->id < given);
    g_autoptr(Reader) eve = follow_with(site, "?types=event,job,vm", token);
    assert_next_event(past, "one");
    next_of(past, "event"); /* that he was given the role */
    g_assert_cmpint(past->id, ==, given);
    say_of(site, NULL, "of none");
    say_of(site, "another-vm", "of another");
    say_of(site, VM_ID, "two");
    assert_next_event(eve, "two");
    assert_next_event(past, "two");

    change(site, "PUT", "users/eve", ONLY_VM("none"));
    say_of(site, VM_ID, "three");
    wait_for_event(all, "three");
    g_autofree char *job = manager_snapshot_create(site->manager, &what, NULL, &error);
    g_assert_no_error(error);
    next_of(all, "job");
    g_assert_cmpstr(json_text(all->data, "id"), ==, job);
    change(site, "DELETE", "users/eve", "");
    g_assert_false(next(eve));
    g_assert_false(next(past));
    site_free(site);
}

/* What ends a sign-in ends its streams, and no others. */
static void
test_sign_in_ends(void)
{
    Site *site = site_new();

    change(site, "POST", "users",
           "{\"user_name\":\"eve\",\"role\":\"viewer\",\"password\":\"" PASSWORD "\"}");
    g_autofree char *first = token_of(site, "eve"), *second = token_of(site, "eve");
    g_autoptr(Reader) one = follow_with(site, "?types=event", first);
    g_autoptr(Reader) two = follow_with(site, "?types=event", second);
    g_autofree char *form = g_strconcat("scope=ovirt-app-api&token=", first, NULL);
    g_autofree char *got = ask(site, "POST", "services/sso-logout", "x-www-form-urlencoded", form);
    while (next(one))
        g_assert_cmpstr(json_text(one->data, "description"), !=, "after");
    say(site, "after");
    wait_for_event(two, "after");
    change(site, "PUT", "users/eve", "{\"password\":\"another horse\"}");
    say(site, "last");
    while (next(two))
        g_assert_cmpstr(json_text(two->data, "description"), !=, "last");
    site_free(site);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_stream_rights_test");
    xml_init();
    g_test_add_func("/api-stream/only-one-vm", test_only_one_vm);
    g_test_add_func("/api-stream/sign-in-ends", test_sign_in_ends);
    return g_test_run();
}
