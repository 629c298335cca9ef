/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge: the command line. All of it is in src/cli.
 */
#include "cli/cli.h"

#include <locale.h>
#include <sys/ioctl.h>

static unsigned
terminal_width(int fd)
{
    struct winsize size;

    return isatty(fd) && ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

int
main(int argc, char **argv)
{
    setlocale(LC_CTYPE, ""); /* not LC_NUMERIC: what we print others may read */

    const CliIo io = {
        .in = stdin,
        .out = stdout,
        .err = stderr,
        .in_terminal = isatty(STDIN_FILENO),
        .err_terminal = isatty(STDERR_FILENO),
        .out_width = terminal_width(STDOUT_FILENO),
        .err_width = terminal_width(STDERR_FILENO),
        .utf8 = g_get_charset(NULL),
    };
    return (int)cli_run(argc, (const char *const *)argv, &io);
}
