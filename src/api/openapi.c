/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Writes the tables of routes, notes and schemas as OpenAPI 3.1.
 */
#include "api/openapi.h"
#include "api/routes.h"

#include <string.h>

/* ---- types and schemas ---- */

static json_t *
ref(const char *schema)
{
    g_autofree char *to = g_strconcat("#/components/schemas/", schema, NULL);

    return json_pack("{s:s}", "$ref", to);
}

static json_t *
words(const char *list)
{
    g_auto(GStrv) each = g_strsplit(list, "|", -1);
    json_t *values = json_array();

    for (char **word = each; *word != NULL; word++)
        json_array_append_new(values, json_string(*word));
    return json_pack("{s:s, s:o}", "type", "string", "enum", values);
}

static json_t *
array_of(json_t *take_items)
{
    return json_pack("{s:s, s:o}", "type", "array", "items", take_items);
}

/* A type that is one word. */
static json_t *
simple_type(const char *type)
{
    static const struct {
        const char *name, *type, *format;
    } simple[] = {
        { "text", "string", NULL },        { "uuid", "string", "uuid" },
        { "time", "string", "date-time" }, { "uri", "string", "uri-reference" },
        { "integer", "integer", NULL },    { "number", "number", NULL },
        { "flag", "boolean", NULL },       { "object", "object", NULL },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(simple); i++) {
        if (!g_str_equal(simple[i].name, type))
            continue;
        json_t *schema = json_pack("{s:s}", "type", simple[i].type);
        doc_text(schema, "format", simple[i].format);
        return schema;
    }
    return g_str_equal(type, "any") ? json_object() : ref(type);
}

/* As SchemaRow explains. */
static json_t *
type_schema(const char *type)
{
    size_t length = strlen(type);

    if (type[0] == '[') {
        g_autofree char *inner = g_strndup(type + 1, length - 2);
        return array_of(type_schema(inner));
    }
    if (type[0] == '{') {
        const char *colon = strchr(type, ':');
        g_autofree char *key = g_strndup(type + 1, (gsize)(colon - type - 1));
        g_autofree char *inner = g_strndup(colon + 1, (gsize)(type + length - colon - 2));
        return json_pack("{s:s, s:{s:o}, s:b}", "type", "object", "properties", key,
                         array_of(type_schema(inner)), "additionalProperties", 0);
    }
    return strchr(type, '|') != NULL ? words(type) : simple_type(type);
}

static const SchemaRow *const tables[] = { api_answers, api_answers_around, api_sent };

const SchemaRow *
schema_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++)
        for (const SchemaRow *row = tables[i]; row->member != NULL; row++)
            if (g_strcmp0(row->schema, name) == 0)
                return row;
    return NULL;
}

static void
add_member(json_t *schema, const SchemaRow *row)
{
    bool needed = g_str_has_suffix(row->member, "!");
    g_autofree char *name = g_strndup(row->member, strlen(row->member) - (needed ? 1 : 0));
    json_t *properties = json_object_get(schema, "properties");

    if (json_object_get(properties, name) != NULL)
        return; /* it has said so before */
    json_t *member = type_schema(row->type);
    doc_text(member, "description", row->text);
    json_object_set_new(properties, name, member);
    if (!needed)
        return;
    if (json_object_get(schema, "required") == NULL)
        json_object_set_new(schema, "required", json_array());
    json_array_append_new(json_object_get(schema, "required"), json_string(name));
}

static void
add_members_of(json_t *schema, const SchemaRow *first)
{
    add_member(schema, first);
    for (const SchemaRow *row = first + 1; row->member != NULL && row->schema == NULL; row++)
        add_member(schema, row);
}

/* From the first row of a schema to its last. */
static json_t *
schema_of(const SchemaRow *first)
{
    json_t *schema = json_pack("{s:s, s:{}}", "type", "object", "properties");

    for (const SchemaRow *row = first; row->member != NULL && (row == first || row->schema == NULL);
         row++) {
        if (g_str_equal(row->member, "..."))
            add_members_of(schema, schema_find(row->type));
        else
            add_member(schema, row);
    }
    return schema;
}

static json_t *
all_schemas(void)
{
    json_t *schemas = json_object();

    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++)
        for (const SchemaRow *row = tables[i]; row->member != NULL; row++)
            if (row->schema != NULL)
                json_object_set_new(schemas, row->schema, schema_of(row));
    return schemas;
}

/* ---- one route ---- */

const Note *
note_of_route(const Route *route)
{
    for (const Note *note = api_notes; note->method != NULL; note++)
        if (g_str_equal(note->method, route->method) && g_str_equal(note->path, route->path))
            return note;
    return NULL;
}

/* "vms" before a star: vm_id */
static char *
id_name(const char *segment)
{
    return g_strdup_printf("%.*s_id", (int)strlen(segment) - 1, segment);
}

static json_t *
path_parameter(const char *name, const char *example)
{
    return json_pack("{s:s, s:s, s:b, s:{s:s}, s:s}", "name", name, "in", "path", "required", 1,
                     "schema", "type", "string", "example", example);
}

static const char *
example_id(const char *segment)
{
    static const struct {
        const char *segment, *id;
    } ids[] = {
        { "vms", EXAMPLE_VM },     { "snapshots", EXAMPLE_SNAPSHOT },
        { "disks", EXAMPLE_DISK }, { "diskattachments", EXAMPLE_DISK },
        { "jobs", EXAMPLE_JOB },   { "templates", API_NIL_ID },
        { "users", "alice" },      { "events", "1" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(ids); i++)
        if (g_str_equal(ids[i].segment, segment))
            return ids[i].id;
    return "5d2a3b6e-0009-4000-8000-000000000001";
}

/* The path with names for its stars, and those as parameters. */
static char *
named_path(const char *path, json_t *parameters)
{
    g_auto(GStrv) segments = g_strsplit(path, "/", -1);
    GString *named = g_string_new(*path == '\0' ? "/" : NULL);

    for (char **segment = segments; *segment != NULL; segment++) {
        if (g_str_equal(*segment, "*")) {
            g_autofree char *name = id_name(segment[-1]);
            g_string_append_printf(named, "/{%s}", name);
            json_array_append_new(parameters, path_parameter(name, example_id(segment[-1])));
        } else {
            g_string_append_printf(named, "/%s", *segment);
        }
    }
    return g_string_free(named, FALSE);
}

static const Parameter *
parameter_of(const char *name)
{
    for (const Parameter *parameter = api_parameters; parameter->name != NULL; parameter++)
        if (g_str_equal(parameter->name, name))
            return parameter;
    return NULL;
}

static void
add_query(const char *query, json_t *parameters)
{
    g_auto(GStrv) names = g_strsplit(query != NULL ? query : "", " ", -1);

    for (char **name = names; *name != NULL; name++) {
        const Parameter *parameter = parameter_of(*name);
        json_t *one;
        if (parameter == NULL)
            continue; /* the tests see to it that there is none */
        one = json_pack("{s:s, s:s, s:s, s:o}", "name", *name, "in", "query", "description",
                        parameter->text, "schema", type_schema(parameter->type));
        if (parameter->example != NULL)
            json_object_set_new(one, "example",
                                json_loads(parameter->example, JSON_DECODE_ANY, NULL));
        json_array_append_new(parameters, one);
    }
}

/* "a|b" is one of these two. */
static json_t *
answer_schema(const char *gives)
{
    g_auto(GStrv) names = g_strsplit(gives, "|", -1);
    json_t *list = json_array();

    if (names[1] == NULL) {
        json_decref(list);
        return simple_type(gives);
    }
    for (char **name = names; *name != NULL; name++)
        json_array_append_new(list, ref(*name));
    return json_pack("{s:o}", "anyOf", list);
}

static json_t *
content(json_t *take_schema)
{
    return json_pack("{s:{s:o}, s:{}}", "application/json", "schema", take_schema,
                     "application/xml");
}

static json_t *
answer_content(const char *gives)
{
    if (g_str_equal(gives, "stream"))
        return json_pack("{s:{s:{s:s}}}", "text/event-stream", "schema", "type", "string");
    return content(answer_schema(gives));
}

static json_t *
responses_of(const Route *route, const Note *note)
{
    bool action = g_str_equal(route->method, "POST") && g_str_equal(route->root, "action");
    g_autofree char *status = g_strdup_printf("%d", note->status != 0 ? note->status : 200);
    const char *gives = note->gives != NULL ? note->gives : route->root;

    return json_pack("{s:{s:s, s:o}, s:{s:s, s:o}}", status, "description", note->summary,
                     "content", answer_content(gives), "default", "description", "A fault",
                     "content", content(ref(action ? "failed_action" : "fault")));
}

/* A name that programs can use: "get_vms_id_snapshots". */
static char *
operation_id(const Route *route)
{
    g_autofree char *method = g_ascii_strdown(route->method, -1);
    g_autoptr(GString) name = g_string_new(route->path);

    g_string_replace(name, "*", "id", 0);
    g_string_replace(name, "/", "_", 0);
    g_string_replace(name, ".", "_", 0);
    return g_strdup_printf("%s_%s", method, name->len > 0 ? name->str : "api");
}

/* What each route of its kind takes; NULL = nothing */
static const char *
everywhere(const Route *route)
{
    if (!g_str_equal(route->method, "GET"))
        return "correlation_id";
    return route->handler != get_openapi && route->handler != get_event_stream ? "follow" : NULL;
}

static json_t *
operation_of(const Route *route, const Note *note, json_t *take_parameters)
{
    g_autofree char *id = operation_id(route);
    g_auto(GStrv) segments = g_strsplit(route->path, "/", 2);
    json_t *operation = json_pack("{s:s, s:s, s:[s]}", "operationId", id, "summary", note->summary,
                                  "tags", segments[0] != NULL ? segments[0] : "api");

    doc_text(operation, "x-right", right_word(route->right));
    if (route->right == RIGHT_PUBLIC)
        json_object_set_new(operation, "security", json_array());

    add_query(note->query, take_parameters);
    add_query(everywhere(route), take_parameters);
    if (json_array_size(take_parameters) > 0)
        json_object_set(operation, "parameters", take_parameters);
    json_decref(take_parameters);
    if (note->takes != NULL) {
        json_t *body = content(ref(note->takes));
        json_object_set_new(json_object_get(body, "application/json"), "example",
                            json_loads(note->example, 0, NULL));
        json_object_set_new(operation, "requestBody", json_pack("{s:o}", "content", body));
    }
    json_object_set_new(operation, "responses", responses_of(route, note));
    return operation;
}

/* ---- the whole ---- */

static json_t *
all_paths(void)
{
    json_t *paths = json_object();

    for (const Route *route = api_routes; route->method != NULL; route++) {
        const Note *note = note_of_route(route);
        json_t *parameters = json_array();
        g_autofree char *path = named_path(route->path, parameters);
        g_autofree char *method = g_ascii_strdown(route->method, -1);
        if (note == NULL) { /* the tests see to it that there is none */
            json_decref(parameters);
            continue;
        }
        if (json_object_get(paths, path) == NULL)
            json_object_set_new(paths, path, json_object());
        json_object_set_new(json_object_get(paths, path), method,
                            operation_of(route, note, parameters));
    }
    return paths;
}

json_t *
openapi_document(void)
{
    json_t *document = json_pack(
        "{s:s, s:{s:s, s:s, s:s, s:{s:s, s:s}}, s:[{s:s}], s:[{s:[]}, {s:[]}]}", "openapi", "3.1.0",
        "info", "title", "livemerge", "version", LIVEMERGE_VERSION, "description",
        "Snapshots of virtual machines, in the shapes of oVirt's REST API. XML is the default; "
        "Accept: application/json gives JSON, which the schemas are of. docs/api.md has the rest.",
        "license", "name", "LGPL-2.1-or-later", "identifier", "LGPL-2.1-or-later", "servers", "url",
        API_ROOT, "security", "basic", "token");

    json_object_set_new(document, "paths", all_paths());
    json_object_set_new(document, "components",
                        json_pack("{s:o, s:{s:{s:s, s:s}, s:{s:s, s:s}}}", "schemas", all_schemas(),
                                  "securitySchemes", "basic", "type", "http", "scheme", "basic",
                                  "token", "type", "http", "scheme", "bearer"));
    return document;
}

char *
openapi_text(void)
{
    g_autoptr(json_t) document = openapi_document();
    autolibc char *text = json_dumps(document, JSON_INDENT(1));

    return g_strconcat(text, "\n", NULL);
}

bool
get_openapi(Call *call, Reply *reply, GError **error)
{
    reply->body = openapi_document();
    reply->only_json = true;
    return true;
}
