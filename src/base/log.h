/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Logging: GLib's structured log. On systemd's journal with fields
 * (LIVEMERGE_VM, LIVEMERGE_OP), else one line on stderr.
 *
 * Only main loops, API handlers and engines log; everything else returns errors.
 * A warning about something that is not fatal ends in ", ignoring" or says what
 * happens next. "vm" and "op" may be NULL.
 */
#pragma once

#include <glib.h>

/* program: the prefix of each line. debug lines are shown when LIVEMERGE_DEBUG is set. */
void log_init(const char *program);
void log_write(GLogLevelFlags level, const char *vm, const char *op, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

#define log_debug(...) log_write(G_LOG_LEVEL_DEBUG, NULL, NULL, __VA_ARGS__)
#define log_info(...) log_write(G_LOG_LEVEL_INFO, NULL, NULL, __VA_ARGS__)
#define log_warn(...) log_write(G_LOG_LEVEL_WARNING, NULL, NULL, __VA_ARGS__)
#define log_vm_info(vm, op, ...) log_write(G_LOG_LEVEL_INFO, vm, op, __VA_ARGS__)
#define log_vm_warn(vm, op, ...) log_write(G_LOG_LEVEL_WARNING, vm, op, __VA_ARGS__)
