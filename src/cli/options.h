/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The tables of commands and options. Everything that must know them (parsing, --help, completion,
 * the tests) reads them here. Options may stand anywhere before "--".
 *
 * Ownership: Options belongs to the caller (options_free); it borrows nothing from argv.
 */
#pragma once

#include "base/error.h"

#include <stdint.h>

typedef struct Cli Cli;

typedef enum {
    OPT_CONNECT,
    OPT_CA,
    OPT_INSECURE,
    OPT_JSON,
    OPT_WAIT,
    OPT_NO_WAIT,
    OPT_TIMEOUT,
    OPT_YES,
    OPT_HELP,
    OPT_VERSION,
    OPT_MEMORY,
    OPT_QUIESCE,
    OPT_DISK,
    OPT_CONFIG_ONLY,
    OPT_STRATEGY,
    OPT_BANDWIDTH,
    OPT_VERIFY,
    OPT_DRY_RUN,
    OPT_ALL_OPTIONS,
    OPT_MAX,
    OPT_FROM,
    OPT_FIX,
    OPT_CLASS,
    OPT_UNDO,
    OPT_TAKE_OVER,
    OPT_PAUSED,
    OPT_USER,
    OPT_VM,
    OPT_SNAPSHOT,
    OPT_COPY,
    OPT_STORAGE,
    OPT_KEEP_DISKS,
    OPT_OTHERS,
    OPT_LAST,
} OptionId;

typedef enum {
    VALUE_NONE,
    VALUE_TEXT,
    VALUE_FILE,
    VALUE_DISK,
    VALUE_NUMBER,
    VALUE_CHOICE
} ValueKind;

typedef struct {
    const char *name; /* without "--" */
    char letter;      /* 0 = none */
    ValueKind kind;
    const char *value;          /* "SECONDS"; NULL for flags */
    const char *const *choices; /* VALUE_CHOICE: NULL-terminated */
    const char *help;
} OptionRow;

extern const OptionRow option_rows[OPT_LAST];

#define OPTION(id) (UINT64_C(1) << (id))
#define GLOBAL_OPTIONS (OPTION(OPT_MEMORY) - 1) /* all rows above OPT_MEMORY */

typedef struct {
    const char *noun;
    const char *verb; /* NULL: the noun is a command itself */
    /* One letter for each argument: v VM, s snapshot, j job, n new name, t text, S one or more
     * snapshots, V a VM or none, d a directory or none, u user, U a user or none, i a session or
     * none, r role, a address, w any words (none is fine). Drives counting, usage and
     * completion. */
    const char *args;
    uint64_t options; /* besides the global ones */
    bool (*run)(Cli *cli, GError **error);
    const char *help;   /* one line */
    const char *detail; /* more for --help; NULL */
} Command;

extern const Command commands[]; /* ends with noun NULL */

typedef struct {
    const Command *command;      /* NULL: only with --help, --version or no words at all */
    const char *noun;            /* for --help of a noun; NULL */
    GPtrArray *args;             /* strings, after noun and verb */
    GPtrArray *values[OPT_LAST]; /* strings in the order given; NULL = not given */
} Options;

/* ERR_INVALID that says what is wrong and what would be right. */
Options *options_parse(int argc, const char *const *argv, GError **error);
void options_free(Options *options);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Options, options_free)

bool option_given(const Options *options, OptionId id);
/* The last value given, or NULL. */
const char *option_text(const Options *options, OptionId id);
uint64_t option_number(const Options *options, OptionId id, uint64_t otherwise);
const char *option_arg(const Options *options, unsigned index);
/* By default commands wait that begin a job. */
bool option_waits(const Options *options);

const Command *command_find(const char *noun, const char *verb);
/* -1 = no such option. Length -1 = NUL-terminated. */
int option_find(const char *name, gssize length);
int option_find_letter(char letter);
/* May this command have it? NULL = no command: the global ones. */
bool option_allowed(const Command *command, OptionId id);
/* What its argument number index is: a letter of Command.args in lower case, 0 = none. */
char command_argument(const Command *command, unsigned index);

/* Help texts; the caller frees them. noun NULL = everything. */
char *help_usage(const Command *command);
char *help_command(const Command *command);
char *help_noun(const char *noun);

/* The verbs. */
bool vm_list(Cli *cli, GError **error);
bool vm_show(Cli *cli, GError **error);
bool vm_start(Cli *cli, GError **error);
bool vm_stop(Cli *cli, GError **error);
bool vm_shutdown(Cli *cli, GError **error);
bool vm_reboot(Cli *cli, GError **error);
bool vm_reset(Cli *cli, GError **error);
bool vm_suspend(Cli *cli, GError **error);
bool vm_freeze(Cli *cli, GError **error);
bool vm_thaw(Cli *cli, GError **error);
bool vm_rename(Cli *cli, GError **error);
bool vm_describe(Cli *cli, GError **error);
bool snapshot_create(Cli *cli, GError **error);
bool snapshot_list(Cli *cli, GError **error);
bool snapshot_show(Cli *cli, GError **error);
bool snapshot_delete(Cli *cli, GError **error);
bool snapshot_rename(Cli *cli, GError **error);
bool snapshot_preview(Cli *cli, GError **error);
bool snapshot_commit(Cli *cli, GError **error);
bool snapshot_undo(Cli *cli, GError **error);
bool snapshot_restore(Cli *cli, GError **error);
bool plan_show(Cli *cli, GError **error);
bool doctor_show(Cli *cli, GError **error);
bool vm_clone(Cli *cli, GError **error);
bool vm_remove(Cli *cli, GError **error);
bool storage_list(Cli *cli, GError **error);
bool storage_import(Cli *cli, GError **error);
bool job_list(Cli *cli, GError **error);
bool job_show(Cli *cli, GError **error);
bool job_watch(Cli *cli, GError **error);
bool job_cancel(Cli *cli, GError **error);
bool job_resume(Cli *cli, GError **error);
bool event_list(Cli *cli, GError **error);
bool event_follow(Cli *cli, GError **error);
bool user_list(Cli *cli, GError **error);
bool user_add(Cli *cli, GError **error);
bool user_passwd(Cli *cli, GError **error);
bool user_role(Cli *cli, GError **error);
bool user_lock(Cli *cli, GError **error);
bool user_unlock(Cli *cli, GError **error);
bool user_remove(Cli *cli, GError **error);
bool session_list(Cli *cli, GError **error);
bool session_end(Cli *cli, GError **error);
bool certificate_show(Cli *cli, GError **error);
bool certificate_renew(Cli *cli, GError **error);
bool login(Cli *cli, GError **error);
bool logout(Cli *cli, GError **error);
bool version_show(Cli *cli, GError **error);
bool help_show(Cli *cli, GError **error);
