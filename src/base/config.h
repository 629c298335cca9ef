/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Configuration: INI files with drop-ins.
 *
 * Promise: every key has a default, so a missing file is fine (unless it was
 * named with --config). FILE.d/?*.conf are read after FILE, in the order of
 * their names, later values win. A group or key that the program does
 * not know is an error that names file, group and key: a typo must not be
 * silently a default.
 *
 * Ownership: config_load() gives a Config to the caller (config_free). Strings
 * are borrowed from it. Threads: read-only after loading.
 */
#pragma once

#include "base/error.h"

typedef struct Config Config;

/* One row for each key. In group "host *" the star matches any non-empty name. */
typedef struct {
    const char *group;
    const char *key;
    const char *fallback; /* NULL = unset */
    const char *help;     /* one line for the reference page */
} ConfigKey;              /* tables end with a row of NULLs */

/* keys NULL: any group and key is taken, and none has a default: for who reads a file that is
 * another program's. */
Config *config_load(const char *file, bool must_exist, const ConfigKey *keys, GError **error);
void config_free(Config *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Config, config_free)

const char *config_get(const Config *config, const char *group, const char *key);
/* yes/no/true/false/on/off/1/0; anything else is an error that names the key */
bool config_get_bool(const Config *config, const char *group, const char *key, bool *ret_value,
                     GError **error);
bool config_get_number(const Config *config, const char *group, const char *key, gint64 low,
                       gint64 high, gint64 *ret_value, GError **error);
/* Names of the groups "PREFIX NAME" present, sorted: config_names(c, "host") → {"a", "b", NULL}.
 * The caller frees with g_strfreev(). */
char **config_names(const Config *config, const char *prefix);
