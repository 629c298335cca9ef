/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The command line: livemerge NOUN VERB, over the manager's REST API.
 *
 * Promise: data goes to stdout and nothing else does; talk, questions and progress go to stderr.
 * What a name holds cannot reach the terminal as a control character. Waiting for a job can be
 * given up at any time without harm: the job goes on in the manager.
 *
 * How: options.h has the tables of commands and options, from which parsing, help and
 * completion come. One file a noun (vm.c, snapshot.c, job.c, event.c) with one function a verb;
 * deleting and planning, which ask for the same, are in delete.c.
 *
 * Errors: a verb returns false with an error; its code gives the exit code (table below).
 * Threads: one.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"
#include "cli/options.h"
#include "http/http.h"

#include <stdio.h>

typedef enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,         /* also what the manager calls a request without sense (400) */
    EXIT_NOT_FOUND = 3,     /* 404 */
    EXIT_REFUSED = 4,       /* 409: a safety check, or somebody else's operation */
    EXIT_STILL_RUNNING = 5, /* gave up waiting; the job goes on */
} CliExit;

/* Where a run reads and writes; tests put memory there. */
typedef struct {
    FILE *in, *out, *err;
    bool in_terminal;    /* somebody can answer a question */
    bool err_terminal;   /* progress may redraw its line */
    unsigned out_width;  /* columns; 0 = not a terminal, do not wrap */
    unsigned err_width;  /* the same for stderr; 0 = 80 */
    bool utf8;           /* may draw with more than ASCII */
    unsigned patience_s; /* how long to try again when the manager vanishes while we wait; 0 = 30 */
} CliIo;

/* One run of the program; what every verb gets. */
struct Cli {
    const CliIo *io;
    const Options *options;
    char *address;
    HttpClient *client;  /* made by the first call */
    char *authorization; /* with it: a header; NULL = no token */
    bool bar_drawn;      /* a progress bar stands on the last line of stderr */
    CliExit exit_code;   /* of a verb that returned true */
    CliExit error_exit;  /* instead of the error's own; EXIT_DONE = unset */
};

/* The whole program. argv[0] is skipped. */
CliExit cli_run(int argc, const char *const *argv, const CliIo *io);

/* --connect, else $LIVEMERGE_CONNECT, else the local socket; the caller frees it. */
char *cli_address(const Options *options);
/* One line of talk on stderr; takes a progress bar out of the way first. Control characters are
 * escaped but for newlines. */
void cli_say(Cli *cli, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* The API's document as it is, indented, on stdout. */
void cli_print_json(Cli *cli, const json_t *doc);
/* "livemerge [--connect X] job watch ID", to be shown to the user; the caller frees it */
char *cli_command(const Cli *cli, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Asks; true = yes. Without a terminal and without -y: false with ERR_INVALID that says to use -y;
 * a "no" is ERR_CANCELLED. */
bool cli_confirm(Cli *cli, const char *question, GError **error);
/* The same false before anything is looked up. */
bool cli_can_ask(Cli *cli, GError **error);
