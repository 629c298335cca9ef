/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the files behind ops.h share. Each function is a line of the table in ops.c: args[0] is its
 * first word, the caller frees the answer.
 */
#pragma once

#include "ops.h"

#define LONGEST_US (20 * G_TIME_SPAN_SECOND)
#define LAG_US (2 * G_TIME_SPAN_SECOND)
#define SLOW 1 /* bytes a second: a first piece is copied, then nothing more */

#define OPS (stage.hv->ops)
#define ID (stage.vm_id)
#define CALL(call)                        \
    do {                                  \
        g_autoptr(GError) error_ = NULL;  \
        GError **error = &error_;         \
        bool ok_ = call;                  \
        return word_of(ops, ok_, error_); \
    } while (0)

/* ---- ops.c ---- */
char *short_name(const char *path);      /* "a2"; the caller frees it */
unsigned disk_number(const char *name);  /* of "a", or of a file of its chain */
const char *target_of(const char *name); /* "vda" */
/* "ok" or the error's word; its message goes into the story. */
char *word_of(Ops *ops, bool ok, const GError *error);

typedef char *OpFunc(Ops *ops, char **args);

/* ---- ops_calls.c: calls of the seam ---- */
OpFunc do_relink, do_snapshot, do_memory_snapshot, do_restore, do_commit, do_active, do_copy,
    do_speed, do_cancel, do_pivot, do_suspend, do_resume, do_power, do_redefine, do_clone,
    do_look_at_clone, do_undefine, do_stranger, do_list, do_foreign;
/* ---- ops_others.c: what others do ---- */
OpFunc do_overlay, do_remove, do_write, do_flush, do_hurry, do_start, do_destroy, do_kill_qemu,
    do_kill_libvirtd, do_qemu_cancels, do_forget_mirror, do_start_libvirtd;
/* ---- ops_ask.c: questions ---- */
OpFunc do_look, do_job, do_ready, do_headers, do_ended, do_off, do_connected, do_content, do_verify;
