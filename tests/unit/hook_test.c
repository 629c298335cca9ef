/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/hook: what the agent is asked, every kind of answer and of silence, where the agent
 * is found, and the judgement without it.
 */
#include "../lib/image_tools.h"
#include "base/clock.h"
#include "hook/hook.h"
#include "storage/storage.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define VM_ID "11111111-2222-3333-4444-555555555555"

/* ---- the question ---- */

static void
test_question(void)
{
    static const char xml[] =
        "<domain><name>web</name><uuid>" VM_ID "</uuid><devices>"
        "<disk type='file' device='disk'><driver type='qcow2'/><source file='/x/a.qcow2'/>"
        "<target dev='vda'/></disk>"
        "<disk type='file'><source file='/x/b &amp; &lt;c&gt;.img'/><target dev='vdb'/></disk>"
        "<disk type='file' device='cdrom'><source file='/x/cd.iso'/><target dev='sda'/></disk>"
        "<disk type='file' device='disk'><source file='/x/r'/><target dev='vdc'/><readonly/></disk>"
        "<disk type='block' device='disk'><source dev='/dev/loop9'/><target dev='vdd'/></disk>"
        "<disk type='network' device='disk'><source protocol='nbd'/><target dev='vde'/></disk>"
        "<disk type='file' device='disk'><target dev='vdf'/></disk>"
        "</devices></domain>";
    g_autoptr(HvDomain) domain = hv_domain_new();
    g_autoptr(GError) error = NULL;

    g_assert_true(hv_parse_domain(xml, domain, &domain->disks, &error));
    g_assert_no_error(error);
    g_autoptr(json_t) question = hook_question(domain->disks);
    g_autoptr(json_t) wanted =
        json_pack("{s:[{s:s, s:s, s:s}, {s:s, s:s}]}", "disks", "target", "vda", "source",
                  "/x/a.qcow2", "format", "qcow2", "target", "vdb", "source", "/x/b & <c>.img");
    autolibc char *text = json_dumps(question, JSON_COMPACT);
    if (!json_equal(question, wanted))
        g_error("the question is %s", text);
}

/* ---- the answer ---- */

typedef struct {
    const char *what;
    const char *answer;  /* NULL = none, and the connection stays open */
    const char *refusal; /* NULL = none */
    int error;           /* an ErrorCode; 0 = it was an answer */
} Row;

#define HEAD "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
#define REFUSED "{\"error\":{\"code\":\"refused\",\"message\":\"no, because \\u00e9\"}}"

static const Row rows[] = {
    { "it may", HEAD "{}", NULL, 0 },
    { "with more in it", HEAD "{\"new\": 1}", NULL, 0 },
    { "refused", "HTTP/1.1 409 Conflict\r\nX: y\r\n\r\n" REFUSED, "no, because é", 0 },
    { "busy is no refusal",
      "HTTP/1.1 409 Conflict\r\n\r\n{\"error\":{\"code\":\"busy\",\"message\":\"x\"}}", NULL,
      ERR_UNREACHABLE },
    { "an older agent",
      "HTTP/1.1 404 Not Found\r\n\r\n{\"error\":{\"code\":\"not-found\",\"message\":\"x\"}}", NULL,
      ERR_UNREACHABLE },
    { "a bug", "HTTP/1.1 500 Oops\r\n\r\n{\"error\":{\"code\":\"internal\",\"message\":\"x\"}}",
      NULL, ERR_UNREACHABLE },
    { "no JSON", "HTTP/1.1 409 Conflict\r\n\r\n<html>", NULL, ERR_UNREACHABLE },
    { "half of it", "HTTP/1.1 409 Conf", NULL, ERR_UNREACHABLE },
    { "nothing", "", NULL, ERR_UNREACHABLE },
    { "not HTTP", "SSH-2.0 200 \r\n\r\n{}", NULL, ERR_UNREACHABLE },
    { "silence", NULL, NULL, ERR_TIMEOUT },
};

typedef struct {
    int listener;
    const Row *row;
    GString *request;
} Server;

static void *
serve_one(void *data)
{
    Server *server = data;
    autofd int fd = accept(server->listener, NULL, NULL);
    char part[4096];

    while (strstr(server->request->str, "}]}") == NULL) {
        ssize_t n = recv(fd, part, sizeof part, 0);
        g_assert_cmpint(n, >, 0);
        g_string_append_len(server->request, part, n);
    }
    if (server->row->answer != NULL) {
        size_t length = strlen(server->row->answer);
        /* in two pieces: nobody promised that it comes at once */
        g_assert_cmpint(send(fd, server->row->answer, length / 2, MSG_NOSIGNAL), >=, 0);
        g_assert_cmpint(
            send(fd, server->row->answer + length / 2, length - length / 2, MSG_NOSIGNAL), >=, 0);
    } else {
        g_assert_cmpint(recv(fd, part, sizeof part, 0), ==, 0); /* until it is given up */
    }
    return NULL;
}

static int
listen_at(const char *path)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(at.sun_path, path, sizeof at.sun_path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&at, sizeof at), ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    return fd;
}

static json_t *
question_make(const char *source)
{
    return json_pack("{s:[{s:s, s:s}]}", "disks", "target", "vda", "source", source);
}

static void
test_ask(void)
{
    FOLDER(folder);
    g_autofree char *path = in(folder, "s");
    g_autofree char *address = g_strconcat("unix:", path, NULL);
    autofd int listener = listen_at(path);
    g_autoptr(json_t) question = question_make("/x/é.qcow2");

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Server server = { listener, &rows[i], g_string_new(NULL) };
        GThread *thread = g_thread_new("server", serve_one, &server);
        g_autoptr(GError) error = NULL;
        g_autofree char *refusal = NULL;
        bool ok = hook_ask(address, VM_ID, question, rows[i].answer != NULL ? 30000 : 100, &refusal,
                           &error);
        g_thread_join(thread);
        g_test_message("%s: %s", rows[i].what, error != NULL ? error->message : "answered");
        g_assert_true(ok == (rows[i].error == 0));
        g_assert_cmpstr(refusal, ==, rows[i].refusal);
        if (!ok)
            g_assert_error(error, ERR, rows[i].error);
        g_assert_true(
            g_str_has_prefix(server.request->str, "POST /v1/vms/" VM_ID "/starting HTTP/1.1\r\n"));
        g_assert_nonnull(strstr(server.request->str, "\r\n\r\n{\"disks\":[{\"target\":\"vda\","));
        g_string_free(server.request, TRUE);
    }
}

static void
test_nobody_there(void)
{
    static const char *const addresses[] = {
        "unix:/nonexistent/s", "127.0.0.1:1", "[::1]:1", "web:80", "", "unix:"
    };
    g_autoptr(json_t) question = question_make("/x/a.qcow2");
    FOLDER(folder);
    int64_t began = clock_mono_us();

    for (size_t i = 0; i < G_N_ELEMENTS(addresses); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *refusal = NULL;
        g_assert_false(hook_ask(addresses[i], VM_ID, question, 60000, &refusal, &error));
        g_assert_error(error, ERR, ERR_UNREACHABLE);
        g_assert_null(refusal);
    }
    g_assert_cmpint(clock_mono_us() - began, <, 30 * G_TIME_SPAN_SECOND);
}

static void
test_address(void)
{
    FOLDER(folder);
    g_autofree char *file = in(folder, "agent.conf");
    g_autofree char *drop_in = in(folder, "agent.conf.d/x.conf");

    g_autofree char *none = hook_agent_address(file);
    g_assert_cmpstr(none, ==, "unix:/run/livemerge/agent.sock");
    /* what a newer agent may be told is none of the hook's business */
    g_assert_true(g_file_set_contents(
        file, "[agent]\nlisten=unix:/x/s\nbrand_new=1\n[weather]\nsun=yes\n", -1, NULL));
    g_autofree char *set = hook_agent_address(file);
    g_assert_cmpstr(set, ==, "unix:/x/s");
    MUST(folder, "mkdir agent.conf.d");
    g_assert_true(g_file_set_contents(drop_in, "[agent]\nlisten=127.0.0.1:9\n", -1, NULL));
    g_autofree char *later = hook_agent_address(file);
    g_assert_cmpstr(later, ==, "127.0.0.1:9");
    g_assert_true(g_file_set_contents(file, "[agent\nlisten\n", -1, NULL));
    g_autofree char *damaged = hook_agent_address(file);
    g_assert_cmpstr(damaged, ==, "unix:/run/livemerge/agent.sock");
}

/* ---- alone ---- */

/* The table of all cases is storage_guard_test's. */
static void
test_judge(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_autoptr(Domain) domain = domain_open(folder, NULL, &error);
    g_autoptr(Vm) vm = vm_new(VM_ID, "web");
    Disk *disk = disk_new("d1", "vda");
    g_autofree char *base = image(folder, "a.qcow2", MIB, NULL, NULL);
    g_autofree char *leaf = image(folder, "b.qcow2", MIB, "a.qcow2", "qcow2");
    g_autoptr(json_t) stale = question_make(base);
    g_autoptr(json_t) fine = question_make(leaf);

    g_assert_no_error(error);
    g_assert_null(hook_judge(VM_ID, stale, &error)); /* no manifest */
    g_assert_no_error(error);
    g_ptr_array_add(vm->disks, disk);
    g_ptr_array_add(disk->volumes, volume_new("v1", base, "qcow2", MIB));
    g_ptr_array_add(disk->volumes, volume_new("v2", leaf, "qcow2", MIB));
    g_assert_true(manifest_save(domain, vm, &error));

    g_assert_null(hook_judge(VM_ID, fine, &error));
    g_autofree char *refusal = hook_judge(VM_ID, stale, &error);
    g_assert_no_error(error);
    static const char *const wanted[] = { "'web'",          "vda",
                                          "a.qcow2",        "b.qcow2",
                                          "virsh edit web", "systemctl start livemerge-agent" };
    g_assert_nonnull(refusal);
    for (size_t i = 0; i < G_N_ELEMENTS(wanted); i++)
        if (strstr(refusal, wanted[i]) == NULL)
            g_error("the refusal lacks %s: %s", wanted[i], refusal);

    g_autofree char *manifest = g_strdup_printf("%s/.livemerge/vms/" VM_ID ".json", folder);
    g_assert_true(g_file_set_contents(manifest, "{", 1, NULL));
    g_assert_null(hook_judge(VM_ID, stale, &error));
    g_assert_error(error, ERR, ERR_CORRUPT);
}

/* What stands for a QEMU that libvirt has lost: only its arguments count. */
static void
test_lost(void)
{
    const char *const args[] = { "sh",         "-c",    "read x", "qemu", "-name",
                                 "guest=web,", "-uuid", VM_ID,    NULL };
    g_autoptr(GError) error = NULL;
    GPid pid;
    int in;

    g_assert_null(hook_lost(VM_ID, "web"));
    g_spawn_async_with_pipes(NULL, (char **)args, NULL,
                             G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH, NULL, NULL, &pid, &in,
                             NULL, NULL, &error);
    g_assert_no_error(error);
    g_autofree char *why = hook_lost(VM_ID, "web");
    g_autofree char *kill = g_strdup_printf("kill %d)", (int)pid);
    g_assert_nonnull(why);
    g_assert_nonnull(strstr(why, "'web'"));
    g_assert_nonnull(strstr(why, kill));
    g_assert_null(hook_lost("11111111-2222-3333-4444-555555555556", "other"));
    close(in); /* its end */
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
    g_assert_null(hook_lost(VM_ID, "web"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hook/question", test_question);
    g_test_add_func("/hook/ask", test_ask);
    g_test_add_func("/hook/nobody-there", test_nobody_there);
    g_test_add_func("/hook/address", test_address);
    g_test_add_func("/hook/judge", test_judge);
    g_test_add_func("/hook/lost", test_lost);
    return g_test_run();
}
