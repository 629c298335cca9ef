/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/document.h"

#include "base/clock.h"

#include <stdarg.h>
#include <string.h>

static json_t *href_json(const char *format, va_list args) G_GNUC_PRINTF(1, 0);

static json_t *
href_json(const char *format, va_list args)
{
    g_autofree char *rest = g_strdup_vprintf(format, args);
    g_autofree char *href = g_strconcat(API_ROOT, rest, NULL);

    return json_string(href);
}

json_t *
doc_new(const char *id, const char *format, ...)
{
    json_t *doc = json_object();
    va_list args;

    va_start(args, format);
    json_object_set_new(doc, "id", json_string(id));
    json_object_set_new(doc, "href", href_json(format, args));
    va_end(args);
    return doc;
}

static void
add_link(json_t *holder, const char *rel, json_t *href)
{
    json_t *links = json_object_get(holder, "link");

    if (links == NULL) {
        links = json_array();
        json_object_set_new(holder, "link", links);
    }
    json_array_append_new(links, json_pack("{s:s, s:o}", "rel", rel, "href", href));
}

void
doc_link(json_t *doc, const char *rel, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    add_link(doc, rel, href_json(format, args));
    va_end(args);
}

void
doc_action(json_t *doc, const char *rel, const char *format, ...)
{
    json_t *actions = json_object_get(doc, "actions");
    va_list args;

    if (actions == NULL) {
        actions = json_object();
        json_object_set_new(doc, "actions", actions);
    }
    va_start(args, format);
    add_link(actions, rel, href_json(format, args));
    va_end(args);
}

void
doc_ref(json_t *doc, const char *key, const char *id, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    json_object_set_new(doc, key,
                        json_pack("{s:s, s:o}", "id", id, "href", href_json(format, args)));
    va_end(args);
}

void
doc_user(json_t *doc, const char *key, const char *name)
{
    bool is_ours = g_str_has_suffix(name, "@internal");
    g_autofree char *id =
        is_ours ? g_strndup(name, strlen(name) - strlen("@internal")) : g_strdup(name);

    if (is_ours)
        doc_ref(doc, key, id, "/users/%s", id);
    else
        json_object_set_new(doc, key, json_pack("{s:s}", "id", id));
}

void
doc_text(json_t *doc, const char *key, const char *text)
{
    if (text == NULL || *text == '\0')
        return;
    if (g_utf8_validate(text, -1, NULL)) {
        json_object_set_new(doc, key, json_string(text));
        return;
    }
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    json_object_set_new(doc, key, json_string(valid));
}

void
doc_number(json_t *doc, const char *key, uint64_t number)
{
    json_object_set_new(doc, key, json_integer((json_int_t)number));
}

void
doc_flag(json_t *doc, const char *key, bool flag)
{
    json_object_set_new(doc, key, json_boolean(flag));
}

void
doc_time(json_t *doc, const char *key, int64_t wall_ms)
{
    g_autofree char *text = NULL;

    if (wall_ms == 0)
        return;
    text = clock_iso8601(wall_ms);
    json_object_set_new(doc, key, json_string(text));
}

json_t *
doc_list(const char *key, json_t *members)
{
    json_t *list = json_object();

    json_object_set_new(list, key, members);
    return list;
}

char *
derived_id(const char *kind, const char *name)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
    guint8 b[20];
    gsize size = sizeof b;

    g_checksum_update(sum, (const guchar *)"livemerge:", -1);
    g_checksum_update(sum, (const guchar *)kind, -1);
    g_checksum_update(sum, (const guchar *)":", 1);
    g_checksum_update(sum, (const guchar *)name, -1);
    g_checksum_get_digest(sum, b, &size);
    b[6] = (guint8)((b[6] & 0x0f) | 0x50); /* version 5: a hash of a name */
    b[8] = (guint8)((b[8] & 0x3f) | 0x80);
    return g_strdup_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                           b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11],
                           b[12], b[13], b[14], b[15]);
}

char *
cluster_id(void)
{
    return derived_id("cluster", "Default");
}

char *
data_center_id(void)
{
    return derived_id("data-center", "Default");
}
