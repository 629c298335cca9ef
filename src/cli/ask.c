/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/ask.h"

#include <string.h>
#include <termios.h>

#define INTERRUPT 3 /* Ctrl-C */
#define LONGEST 1024

/* Ctrl-C comes as a character: a signal would leave the terminal without echo. */
static bool
read_hidden(int fd, char *line, size_t size)
{
    struct termios before, hidden;
    size_t n = 0;
    char c = '\0';

    if (tcgetattr(fd, &before) < 0)
        return false;
    hidden = before;
    hidden.c_lflag &= (tcflag_t) ~(ECHO | ISIG);
    hidden.c_cc[VEOL] = INTERRUPT;
    tcsetattr(fd, TCSAFLUSH, &hidden);
    while (read(fd, &c, 1) == 1 && c != '\n' && c != INTERRUPT)
        if (n + 1 < size)
            line[n++] = c;
    tcsetattr(fd, TCSAFLUSH, &before);
    line[n] = '\0';
    return c == '\n';
}

static bool
read_line(FILE *in, char *line, size_t size)
{
    if (fgets(line, (int)size, in) == NULL)
        return false;
    line[strcspn(line, "\r\n")] = '\0';
    return true;
}

char *
ask_password(Cli *cli, const char *prompt, GError **error)
{
    char line[LONGEST];
    char *password = NULL;
    bool got;

    if (cli->io->in_terminal) {
        fprintf(cli->io->err, "%s: ", prompt);
        fflush(cli->io->err);
        got = read_hidden(fileno(cli->io->in), line, sizeof line);
        fputc('\n', cli->io->err);
    } else {
        got = read_line(cli->io->in, line, sizeof line);
    }
    if (!got)
        error_set(error, ERR_CANCELLED, "no password was given; nothing was done");
    else if (!g_utf8_validate(line, -1, NULL))
        error_set(error, ERR_INVALID, "the password is not valid UTF-8");
    else
        password = g_strdup(line);
    explicit_bzero(line, sizeof line);
    return password;
}

char *
ask_new_password(Cli *cli, const char *user, GError **error)
{
    g_autofree char *safe = g_strescape(user, NULL);
    g_autofree char *prompt = g_strdup_printf("New password of %s", safe);
    g_autofree char *first = ask_password(cli, prompt, error);

    if (first == NULL || !cli->io->in_terminal)
        return g_steal_pointer(&first);
    g_autofree char *second = ask_password(cli, "The same again", error);
    if (second == NULL)
        return NULL;
    if (g_str_equal(first, second))
        return g_steal_pointer(&first);
    error_set(error, ERR_INVALID, "the two passwords differ; nothing was done");
    return NULL;
}
