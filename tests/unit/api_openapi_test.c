/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The description of the API: every route is described, every name in it is defined, and what is
 * kept in docs/ is what the tables say. tests/e2e/test_openapi.py runs the examples.
 */
#include "api/openapi.h"
#include "api/routes.h"
#include "model/verbs.h"

#include <string.h>

static const Note *
find_note(const char *method, const char *path)
{
    for (const Note *note = api_notes; note->method != NULL; note++)
        if (g_str_equal(note->method, method) && g_str_equal(note->path, path))
            return note;
    return NULL;
}

static void
check_note(const Route *route, const Note *note)
{
    g_auto(GStrv) gives = g_strsplit(note->gives != NULL ? note->gives : route->root, "|", -1);
    g_autoptr(json_t) example =
        note->example != NULL ? json_loads(note->example, JSON_REJECT_DUPLICATES, NULL) : NULL;

    g_assert_true(note->summary != NULL && *note->summary != '\0');
    for (char **name = gives; *name != NULL; name++)
        if (!g_str_equal(*name, "object") && !g_str_equal(*name, "stream") &&
            schema_find(*name) == NULL)
            g_error("%s %s gives '%s', which is no schema", route->method, route->path, *name);
    if ((note->takes != NULL) != (route->body_root != NULL))
        g_error("%s %s: is something sent or not?", route->method, route->path);
    if (note->takes != NULL && (schema_find(note->takes) == NULL || !json_is_object(example)))
        g_error("%s %s takes '%s': no schema, or its example is no JSON object", route->method,
                route->path, note->takes);
}

static void
test_every_route(void)
{
    size_t notes = 0, routes = 0;

    for (const Note *note = api_notes; note->method != NULL; note++)
        notes++;
    for (const Route *route = api_routes; route->method != NULL; route++) {
        const Note *note = find_note(route->method, route->path);
        if (note == NULL)
            g_error("%s '%s' has no row in src/api/notes.c", route->method, route->path);
        check_note(route, note);
        routes++;
    }
    g_assert_cmpuint(notes, ==, routes); /* and none is of a route that is gone */
}

static void
test_every_parameter(void)
{
    for (const Note *note = api_notes; note->method != NULL; note++) {
        g_auto(GStrv) names = g_strsplit(note->query != NULL ? note->query : "", " ", -1);
        for (char **name = names; *name != NULL; name++) {
            const Parameter *found = api_parameters;
            while (found->name != NULL && !g_str_equal(found->name, *name))
                found++;
            if (found->name == NULL)
                g_error("%s %s: parameter '%s' is not in api_parameters", note->method, note->path,
                        *name);
        }
    }
}

static unsigned
count_parameter(const json_t *operation, const char *name)
{
    unsigned n = 0;
    json_t *one;
    size_t i;

    json_array_foreach (json_object_get(operation, "parameters"), i, one)
        n += g_strcmp0(json_text(one, "name"), name) == 0;
    return n;
}

/* What each route takes, and what is easily forgotten. */
static void
test_parameters_everywhere(void)
{
    static const struct {
        const char *path, *method, *parameter;
        unsigned wanted;
    } rows[] = {
        { "/jobs/{job_id}", "get", "follow", 1 },
        { "/events/stream", "get", "follow", 0 },
        { "/vms", "get", "follow", 1 },
        { "/vms", "post", "async", 1 },
        { "/vms", "post", "correlation_id", 1 },
        { "/vms/{vm_id}/snapshots", "post", "async", 1 },
        { "/vms/{vm_id}/start", "post", "correlation_id", 1 },
        { "/storagedomains/{storagedomain_id}/disks", "get", "unregistered", 1 },
    };
    g_autoptr(json_t) doc = openapi_document();

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        const json_t *path = json_object_get(json_object_get(doc, "paths"), rows[i].path);
        const json_t *operation = json_object_get(path, rows[i].method);
        if (operation == NULL || count_parameter(operation, rows[i].parameter) != rows[i].wanted)
            g_error("%s %s: parameter %s", rows[i].method, rows[i].path, rows[i].parameter);
    }
}

/* Everything that is referred to is there, at any depth; returns how many references. */
static unsigned
check_references(const json_t *value)
{
    const char *ref = json_string_value(json_object_get(value, "$ref"));
    json_t *members = (json_t *)value, *member;
    unsigned n = ref != NULL ? 1 : 0;
    const char *key;
    size_t i;

    if (ref != NULL && (!g_str_has_prefix(ref, "#/components/schemas/") ||
                        schema_find(ref + strlen("#/components/schemas/")) == NULL))
        g_error("%s is nowhere", ref);
    json_object_foreach (members, key, member)
        n += check_references(member);
    json_array_foreach (value, i, member)
        n += check_references(member);
    return n;
}

static void
test_references(void)
{
    g_autoptr(json_t) document = openapi_document();

    g_assert_cmpuint(check_references(document), >, 100);
}

/* Operations have names of their own. */
static void
test_operation_ids(void)
{
    g_autoptr(json_t) document = openapi_document();
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    const char *path, *method;
    json_t *methods, *operation;

    json_object_foreach (json_object_get(document, "paths"), path, methods) {
        json_object_foreach (methods, method, operation) {
            const char *id = json_string_value(json_object_get(operation, "operationId"));
            g_assert_nonnull(id);
            if (!g_hash_table_add(seen, (char *)id))
                g_error("two operations are called %s", id);
        }
    }
}

/* As it is kept in docs/. */
static void
check_kept(const char *name, const char *wanted)
{
    g_autofree char *path = g_test_build_filename(G_TEST_DIST, "..", "..", "docs", name, NULL);
    g_autofree char *kept = NULL;
    g_autoptr(GError) error = NULL;

    g_file_get_contents(path, &kept, NULL, &error);
    g_assert_no_error(error);
    if (!g_str_equal(kept, wanted))
        g_error("docs/%s is not what the tables say: 'make docs' writes it", name);
}

static void
test_kept(void)
{
    g_autofree char *openapi = openapi_text();
    g_autofree char *states = states_document();
    g_autofree char *routes = routes_document();

    check_kept("openapi.json", openapi);
    check_kept("states.md", states);
    check_kept("routes.md", routes);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/openapi/every-route", test_every_route);
    g_test_add_func("/openapi/every-parameter", test_every_parameter);
    g_test_add_func("/openapi/parameters-everywhere", test_parameters_everywhere);
    g_test_add_func("/openapi/references", test_references);
    g_test_add_func("/openapi/operation-ids", test_operation_ids);
    g_test_add_func("/openapi/kept", test_kept);
    return g_test_run();
}
