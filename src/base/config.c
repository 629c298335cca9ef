/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/config.h"

#include <string.h>

struct Config {
    const ConfigKey *keys;
    GHashTable *values; /* "group\nkey" → value */
    GPtrArray *groups;  /* group names in the order seen */
};

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool
group_matches(const char *pattern, const char *group)
{
    size_t stem = strlen(pattern);

    if (!g_str_has_suffix(pattern, " *"))
        return g_str_equal(pattern, group);
    return strncmp(group, pattern, stem - 1) == 0 && strlen(group) > stem - 1;
}

static const ConfigKey *
find_key(const Config *config, const char *group, const char *key)
{
    for (const ConfigKey *k = config->keys; k != NULL && k->group != NULL; k++)
        if (group_matches(k->group, group) && g_str_equal(k->key, key))
            return k;
    return NULL;
}

static bool
knows_group(const Config *config, const char *group)
{
    const ConfigKey *k = config->keys;

    while (k != NULL && k->group != NULL && !group_matches(k->group, group))
        k++;
    return k == NULL || k->group != NULL;
}

static bool
take_group(Config *config, GKeyFile *ini, const char *file, const char *group, GError **error)
{
    g_auto(GStrv) keys = g_key_file_get_keys(ini, group, NULL, NULL);

    if (!g_ptr_array_find_with_equal_func(config->groups, group, g_str_equal, NULL))
        g_ptr_array_add(config->groups, g_strdup(group));
    for (char **key = keys; *key != NULL; key++) {
        if (config->keys != NULL && find_key(config, group, *key) == NULL)
            return error_set(error, ERR_INVALID, "%s: unknown key '%s' in [%s]", file, *key, group);
        g_autofree char *value = g_key_file_get_string(ini, group, *key, NULL);
        g_hash_table_insert(config->values, g_strdup_printf("%s\n%s", group, *key),
                            g_strdup(value != NULL ? g_strstrip(value) : ""));
    }
    return true;
}

static bool
read_file(Config *config, const char *file, bool must_exist, GError **error)
{
    g_autoptr(GKeyFile) ini = g_key_file_new();
    g_autoptr(GError) problem = NULL;
    g_auto(GStrv) groups = NULL;

    if (!g_key_file_load_from_file(ini, file, G_KEY_FILE_NONE, &problem)) {
        if (!must_exist && g_error_matches(problem, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return true;
        return error_set(error, ERR_INVALID, "%s: %s", file, problem->message);
    }
    groups = g_key_file_get_groups(ini, NULL);
    for (char **group = groups; *group != NULL; group++) {
        if (!knows_group(config, *group))
            return error_set(error, ERR_INVALID, "%s: unknown section [%s]", file, *group);
        if (!take_group(config, ini, file, *group, error))
            return false;
    }
    return true;
}

static bool
read_drop_ins(Config *config, const char *file, GError **error)
{
    g_autofree char *folder = g_strconcat(file, ".d", NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    if (dir == NULL)
        return true;
    while ((name = g_dir_read_name(dir)) != NULL)
        if (g_str_has_suffix(name, ".conf"))
            g_ptr_array_add(names, g_build_filename(folder, name, NULL));
    g_ptr_array_sort(names, compare_names);
    for (guint i = 0; i < names->len; i++)
        if (!read_file(config, names->pdata[i], true, error))
            return false;
    return true;
}

Config *
config_load(const char *file, bool must_exist, const ConfigKey *keys, GError **error)
{
    g_autoptr(Config) config = g_new0(Config, 1);

    config->keys = keys;
    config->values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    config->groups = g_ptr_array_new_with_free_func(g_free);
    if (!read_file(config, file, must_exist, error) || !read_drop_ins(config, file, error))
        return NULL;
    return g_steal_pointer(&config);
}

void
config_free(Config *config)
{
    if (config == NULL)
        return;
    g_hash_table_unref(config->values);
    g_ptr_array_unref(config->groups);
    g_free(config);
}

const char *
config_get(const Config *config, const char *group, const char *key)
{
    g_autofree char *both = g_strdup_printf("%s\n%s", group, key);
    const char *value = g_hash_table_lookup(config->values, both);
    const ConfigKey *row;

    if (value != NULL)
        return value;
    row = find_key(config, group, key);
    return row != NULL ? row->fallback : NULL;
}

bool
config_get_bool(const Config *config, const char *group, const char *key, bool *ret_value,
                GError **error)
{
    static const char *const yes[] = { "yes", "true", "on", "1", NULL };
    static const char *const no[] = { "no", "false", "off", "0", NULL };
    const char *value = config_get(config, group, key);
    g_autofree char *lower = g_ascii_strdown(value != NULL ? value : "no", -1);

    if (!g_strv_contains(yes, lower) && !g_strv_contains(no, lower))
        return error_set(error, ERR_INVALID, "[%s] %s: '%s' is neither yes nor no", group, key,
                         value);
    *ret_value = g_strv_contains(yes, lower);
    return true;
}

bool
config_get_number(const Config *config, const char *group, const char *key, gint64 low, gint64 high,
                  gint64 *ret_value, GError **error)
{
    const char *value = config_get(config, group, key);
    g_autoptr(GError) problem = NULL;

    if (value == NULL || !g_ascii_string_to_signed(value, 10, low, high, ret_value, &problem))
        return error_set(error, ERR_INVALID,
                         "[%s] %s: '%s' is not a number from %" G_GINT64_FORMAT
                         " to %" G_GINT64_FORMAT,
                         group, key, value != NULL ? value : "", low, high);
    return true;
}

char **
config_names(const Config *config, const char *prefix)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *start = g_strconcat(prefix, " ", NULL);

    for (guint i = 0; i < config->groups->len; i++) {
        const char *group = config->groups->pdata[i];
        if (g_str_has_prefix(group, start))
            g_ptr_array_add(names, g_strdup(group + strlen(start)));
    }
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_steal(names, NULL);
}
