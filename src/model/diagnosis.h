/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the doctor finds: drift between our own records, libvirt and the qcow2 headers. One table of
 * classes, one JSON form for agent, manager and CLI.
 *
 * A finding says what is wrong in a sentence that names VM, disk and files, and either what a fix
 * would do or the command that helps. What is not safe is never fixed, only explained.
 *
 * Ownership: finding_free() frees all. Threads: plain data.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

typedef enum {
    SEVERITY_NOTICE,  /* debris, or something that will matter one day */
    SEVERITY_WARNING, /* should be mended */
    SEVERITY_ERROR,   /* data or the next start of the VM are at risk, or a disk is left alone */
} Severity;
const char *severity_word(Severity severity);

/* Words are stored and shown: add, never rename. */
/* clang-format off */
#define DIAGNOSIS_TABLE(X)                                                                          \
    /* class                 word                severity          what it is */                     \
    X(DIAG_MISSING_PARENT,   "missing-parent",   SEVERITY_ERROR,   "a backing file is not there")    \
    X(DIAG_LOOP,             "loop",             SEVERITY_ERROR,   "a chain leads back into itself") \
    X(DIAG_DAMAGED_VOLUME,   "damaged-volume",   SEVERITY_ERROR,   "a volume cannot be read or is marked corrupt") \
    X(DIAG_BACKING_FORMAT,   "backing-format",   SEVERITY_ERROR,   "a header says no format of its backing file, or a wrong one") \
    X(DIAG_STALE_LEAF,       "stale-leaf",       SEVERITY_ERROR,   "a VM starts or runs from a volume that is not its newest") \
    X(DIAG_CHAIN_MISMATCH,   "chain-mismatch",   SEVERITY_ERROR,   "a running VM's chain is another in libvirt than in the headers") \
    X(DIAG_BAD_MANIFEST,     "bad-manifest",     SEVERITY_ERROR,   "a manifest cannot be read")      \
    X(DIAG_STALE_DEFINITION, "stale-definition", SEVERITY_WARNING, "libvirt's persistent definition names other volumes than the VM has") \
    X(DIAG_STALE_MANIFEST,   "stale-manifest",   SEVERITY_WARNING, "a manifest is older than the headers") \
    X(DIAG_LEFTOVER_RECORD,  "leftover-record",  SEVERITY_WARNING, "a manifest records an operation that nobody does") \
    X(DIAG_LOST_SNAPSHOT,    "lost-snapshot",    SEVERITY_WARNING, "a snapshot lost its volume or its memory") \
    X(DIAG_OUTSIDE_PATH,     "outside-path",     SEVERITY_WARNING, "a backing file lies outside the storage domain") \
    X(DIAG_SIZE_SHRINK,      "size-shrink",      SEVERITY_WARNING, "a volume is smaller than what it stands on") \
    X(DIAG_FOREIGN_JOB,      "foreign-job",      SEVERITY_WARNING, "a block job that is not ours") \
    X(DIAG_FOREIGN_OVERLAY,  "foreign-overlay",  SEVERITY_WARNING, "a volume that belongs to no snapshot of ours") \
    X(DIAG_LIBVIRT_SNAPSHOT, "libvirt-snapshot", SEVERITY_WARNING, "libvirt's record of a snapshot no longer fits") \
    X(DIAG_ABSOLUTE_PATH,    "absolute-path",    SEVERITY_NOTICE,  "a backing file is named by its absolute path") \
    X(DIAG_STALE_BITMAP,     "stale-bitmap",     SEVERITY_NOTICE,  "a dirty bitmap that can never be used again") \
    X(DIAG_ORPHAN_VOLUME,    "orphan-volume",    SEVERITY_NOTICE,  "a volume that no VM has")        \
    X(DIAG_LEFTOVER_BUILD,   "leftover-build",   SEVERITY_NOTICE,  "a half built volume")            \
    X(DIAG_LEFTOVER_TRASH,   "leftover-trash",   SEVERITY_NOTICE,  "a deleted volume still takes space")
/* clang-format on */
#define X(class, word, severity, text) class,
typedef enum { DIAGNOSIS_TABLE(X) DIAG_LAST } Diagnosis;
#undef X
const char *diagnosis_word(Diagnosis class);
const char *diagnosis_text(Diagnosis class);
Severity diagnosis_severity(Diagnosis class);
/* DIAG_LAST for words that are none, and for NULL */
Diagnosis diagnosis_from_word(const char *word);

typedef enum {
    FIX_NONE,  /* only explained */
    FIX_ASKED, /* no data are at risk, but it is somebody's wish: only if its class is named */
    FIX_SAFE,
} FixKind;

typedef struct {
    Diagnosis class;
    FixKind fix_kind;
    char *vm_id;   /* NULL = of no VM */
    char *vm_name; /* may be NULL */
    char *disk;    /* target; NULL = of no disk */
    char *file;    /* or a name within libvirt; NULL = none */
    char *text;    /* what is wrong */
    char *fix;     /* what the fix does; NULL with FIX_NONE */
    char *help;    /* without a fix: what helps; may be NULL */
} Finding;

Finding *finding_new(Diagnosis class, const char *vm_id, const char *vm_name, const char *disk,
                     const char *file);
void finding_free(Finding *finding);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Finding, finding_free)
/* Set the texts; the later one wins. */
void finding_say(Finding *finding, const char *format, ...) G_GNUC_PRINTF(2, 3);
void finding_can(Finding *finding, FixKind kind, const char *format, ...) G_GNUC_PRINTF(3, 4);
void finding_help(Finding *finding, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* {"class", "severity", "vm_id", "vm", "disk", "file", "text", "can_fix": "no|asked|yes", "fix",
 *  "help"}, absent where NULL */
json_t *finding_to_json(const Finding *finding);
Finding *finding_from_json(const json_t *json, GError **error);
/* The same thing, found at another time? */
bool finding_same(const Finding *a, const Finding *b);
/* Worst first, then by VM, disk, class and file: for g_ptr_array_sort(). */
int finding_compare(const void *a, const void *b);
/* Should it be fixed when these classes were asked for? NULL or empty: all that are safe. */
bool finding_wanted(const Finding *finding, const char *const *classes);
