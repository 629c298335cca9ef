/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The client of a storage daemon's monitor: what an agent that died has asked is answered to the
 * next one, which must not take it for its own. The daemon is played.
 */
#include "agent/qmp.h"
#include "model/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct {
    const char *name;
    const char *before; /* what comes before the answer to our command */
    const char *answer; /* of the command, with our id added */
    const char *fails;  /* part of the error; NULL: it must succeed */
} Case;

static const char *const stale_error =
    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, stray 'node\"}}\n";

/* clang-format off */
static const Case cases[] = {
    { "plain", "", "{\"return\": {\"mine\": true}}", NULL },
    { "event", "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {}}\n", "{\"return\": {\"mine\": true}}", NULL },
    { "half-line", NULL, "{\"return\": {\"mine\": true}}", NULL },
    { "answer-to-the-dead", "{\"return\": {}, \"id\": \"of another\"}\n", "{\"return\": {\"mine\": true}}", NULL },
    { "refusal-of-the-dead", "{\"error\": {\"desc\": \"theirs\"}, \"id\": \"of another\"}\n",
      "{\"return\": {\"mine\": true}}", NULL },
    { "refused", "{\"return\": {}, \"id\": \"of another\"}\n", "{\"error\": {\"desc\": \"not now\"}}", "not now" },
    { "closed", "{\"return\": {}, \"id\": \"of another\"}\n", NULL, "closed its monitor" },
};
/* clang-format on */

typedef struct {
    int listener;
    const Case *c;
} Daemon;

static void
say(int fd, const char *text)
{
    g_assert_cmpint(send(fd, text, strlen(text), MSG_NOSIGNAL), ==, (ssize_t)strlen(text));
}

/* With the id of the request. */
static void
answer(int fd, FILE *in, const char *text)
{
    char line[512];

    g_assert_nonnull(fgets(line, sizeof line, in));
    if (text == NULL)
        return;
    g_autoptr(json_t) request = json_loads(line, 0, NULL);
    g_autoptr(json_t) reply = json_loads(text, 0, NULL);
    g_assert_nonnull(reply);
    if (json_object_get(request, "id") != NULL)
        json_object_set(reply, "id", json_object_get(request, "id"));
    autolibc char *said = json_dumps(reply, JSON_COMPACT);
    say(fd, said);
    say(fd, "\n");
}

static gpointer
play(gpointer data)
{
    const Daemon *daemon = data;
    int fd = accept(daemon->listener, NULL, NULL);
    FILE *in = fdopen(dup(fd), "r");

    say(fd, "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n");
    answer(fd, in, "{\"return\": {}}");
    say(fd, daemon->c->before != NULL ? daemon->c->before : stale_error);
    answer(fd, in, daemon->c->answer);
    fclose(in);
    close(fd);
    return NULL;
}

static void
test_answer(gconstpointer data)
{
    Daemon daemon = { .c = data };
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_autofree char *dir = g_dir_make_tmp("livemerge-qmp-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "socket", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) result = NULL;

    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    daemon.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(daemon.listener, (struct sockaddr *)&address, sizeof address), ==, 0);
    g_assert_cmpint(listen(daemon.listener, 1), ==, 0);
    GThread *thread = g_thread_new("daemon", play, &daemon);

    g_autoptr(Qmp) qmp = qmp_open(path, &error);
    g_assert_no_error(error);
    bool ok = qmp_call(qmp, "query-jobs", NULL, &result, &error);
    g_thread_join(thread);
    close(daemon.listener);
    unlink(path);
    rmdir(dir);
    if (daemon.c->fails == NULL) {
        g_assert_no_error(error);
        g_assert_true(json_flag(result, "mine"));
        return;
    }
    g_assert_false(ok);
    g_assert_nonnull(strstr(error->message, daemon.c->fails));
}

int
main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *name = g_strconcat("/agent/qmp/", cases[i].name, NULL);
        g_test_add_data_func(name, &cases[i], test_answer);
    }
    return g_test_run();
}
