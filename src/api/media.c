/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/media.h"

#include "api/xml.h"

#include <string.h>

/* ---- negotiation ---- */

static bool
is_one_of(const char *word, const char *const *words)
{
    for (; *words != NULL; words++)
        if (g_ascii_strcasecmp(word, *words) == 0)
            return true;
    return false;
}

static bool
media_from_word(const char *word, Media *ret_media)
{
    static const char *const xml[] = { "application/xml", "text/xml", "*/*", "application/*",
                                       NULL };
    static const char *const json[] = { "application/json", NULL };

    if (is_one_of(word, xml))
        *ret_media = MEDIA_XML;
    else if (is_one_of(word, json))
        *ret_media = MEDIA_JSON;
    else
        return false;
    return true;
}

/* "TYPE;q=0.5;..." → the type alone and its weight */
static double
split_weight(char *item)
{
    char *parameters = strchr(item, ';');
    double weight = 1;

    if (parameters == NULL)
        return weight;
    *parameters++ = '\0';
    g_auto(GStrv) words = g_strsplit(parameters, ";", -1);
    for (char **word = words; *word != NULL; word++)
        if (g_ascii_strncasecmp(g_strstrip(*word), "q=", 2) == 0)
            weight = g_ascii_strtod(*word + 2, NULL);
    return weight;
}

bool
media_accept(const char *accept, Media *ret_media)
{
    double best = 0;

    *ret_media = MEDIA_XML;
    if (accept == NULL || *accept == '\0')
        return true;
    g_auto(GStrv) items = g_strsplit(accept, ",", -1);
    for (char **item = items; *item != NULL; item++) {
        double weight = split_weight(*item);
        Media media;
        if (weight > best && media_from_word(g_strstrip(*item), &media)) {
            best = weight;
            *ret_media = media;
        }
    }
    return best > 0;
}

bool
media_of_body(const char *content_type, Media *ret_media, GError **error)
{
    g_autofree char *type = NULL;

    *ret_media = MEDIA_XML;
    if (content_type == NULL || *content_type == '\0')
        return true;
    type = g_strndup(content_type, strcspn(content_type, ";"));
    if (strchr(type, '*') == NULL && media_from_word(g_strstrip(type), ret_media))
        return true;
    return error_set(error, ERR_MEDIA,
                     "Content-Type '%s' is not known; send application/xml or application/json",
                     type);
}

const char *
media_type(Media media)
{
    return media == MEDIA_JSON ? "application/json" : "application/xml;charset=UTF-8";
}

char *
media_write(Media media, const char *root, const json_t *document)
{
    if (media == MEDIA_XML)
        return xml_write(root, document);

    autolibc char *text = json_dumps(document, JSON_COMPACT | JSON_REAL_PRECISION(15));
    return g_strconcat(text != NULL ? text : "{}", "\n", NULL);
}

static bool
too_deep(const json_t *value, unsigned depth)
{
    json_t *any = (json_t *)value; /* jansson's iterators know no const */
    const char *key;
    json_t *member;
    size_t i;

    if (depth > XML_MAX_DEPTH)
        return true;
    json_object_foreach (any, key, member) {
        if (too_deep(member, depth + 1))
            return true;
    }
    json_array_foreach (any, i, member) {
        if (too_deep(member, depth + 1))
            return true;
    }
    return false;
}

static json_t *
read_json(const char *text, size_t size, GError **error)
{
    json_error_t problem;
    g_autoptr(json_t) value = json_loadb(text, size, JSON_REJECT_DUPLICATES, &problem);

    if (value == NULL) {
        g_autofree char *message = g_utf8_make_valid(problem.text, -1);
        error_set(error, ERR_INVALID, "JSON line %d, column %d: %s", problem.line, problem.column,
                  message);
        return NULL;
    }
    if (!json_is_object(value)) {
        error_set(error, ERR_INVALID, "JSON line 1: an object {...} is expected");
        return NULL;
    }
    if (too_deep(value, 0)) {
        error_set(error, ERR_INVALID, "JSON: more than %d levels", XML_MAX_DEPTH);
        return NULL;
    }
    return g_steal_pointer(&value);
}

json_t *
media_read(Media media, const char *root, const char *text, size_t size, GError **error)
{
    if (size == 0)
        return json_object(); /* an action without parameters */
    return media == MEDIA_JSON ? read_json(text, size, error) : xml_read(text, size, root, error);
}

/* ---- readers ---- */

static bool
is_absent(const json_t *value)
{
    return value == NULL || json_is_null(value) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

bool
body_text(const json_t *body, const char *key, char **ret_text, GError **error)
{
    const json_t *value = json_object_get(body, key);

    *ret_text = NULL;
    if (is_absent(value))
        return true;
    if (json_is_string(value))
        *ret_text = g_strdup(json_string_value(value));
    else if (json_is_integer(value))
        *ret_text = g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        *ret_text = g_strdup_printf("%.15g", json_real_value(value));
    else if (json_is_boolean(value))
        *ret_text = g_strdup(json_is_true(value) ? "true" : "false");
    else if (json_is_array(value))
        return error_set(error, ERR_INVALID, "'%s' is given more than once", key);
    else
        return error_set(error, ERR_INVALID, "'%s' must be a plain value", key);
    return true;
}

bool
body_flag(const json_t *body, const char *key, bool *ret_flag, GError **error)
{
    g_autofree char *text = NULL;

    if (!body_text(body, key, &text, error))
        return false;
    if (text == NULL)
        return true;
    g_strstrip(text);
    if (!g_str_equal(text, "true") && !g_str_equal(text, "false") && !g_str_equal(text, "1") &&
        !g_str_equal(text, "0"))
        return error_set(error, ERR_INVALID, "'%s' must be true or false, not '%.40s'", key, text);
    *ret_flag = g_str_equal(text, "true") || g_str_equal(text, "1");
    return true;
}

static bool
all_objects(const json_t *list, const char *key, GError **error)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!json_is_object(json_array_get(list, i)))
            return error_set(error, ERR_INVALID, "'%s' must be a list of objects", key);
    return true;
}

bool
body_list(const json_t *body, const char *key, const char *member, json_t **ret_list,
          GError **error)
{
    json_t *value = json_object_get(body, key);
    g_autoptr(json_t) list = json_array();

    *ret_list = NULL;
    if (value == NULL || json_is_null(value))
        return true;
    if (json_is_string(value) &&
        strspn(json_string_value(value), " \t\r\n") == strlen(json_string_value(value))) {
        *ret_list = g_steal_pointer(&list); /* <disks> and </disks> on two lines */
        return true;
    }
    if (!json_is_object(value) && !json_is_array(value))
        return error_set(error, ERR_INVALID, "'%s' must be a list of objects", key);
    if (json_is_object(value)) {
        json_t *inner = json_object_get(value, member);
        if (inner == NULL && json_object_size(value) > 0)
            return error_set(error, ERR_INVALID, "'%s' must hold '%s' members", key, member);
        value = inner;
    }
    if (json_is_array(value))
        json_array_extend(list, value);
    else if (value != NULL)
        json_array_append(list, value);
    if (!all_objects(list, key, error))
        return false;
    *ret_list = g_steal_pointer(&list);
    return true;
}

bool
flag_from_text(const char *text, bool fallback)
{
    static const char *const yes[] = { "", "t", "true", "y", "yes", "1", NULL };
    static const char *const no[] = { "f", "false", "n", "no", "0", NULL };

    if (text == NULL)
        return fallback;
    return is_one_of(text, yes) || (!is_one_of(text, no) && fallback);
}
