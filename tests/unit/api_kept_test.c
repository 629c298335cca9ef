/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Kept answers: never older than what anybody was told before, packed only for who asks for it.
 */
#include "api/cache.h"
#include "api/gzip.h"
#include "api_site.h"

#include <zlib.h>

static HttpClient *
client_new(const Site *site)
{
    g_autofree char *address = g_strconcat("unix:", site->socket, NULL);
    g_autoptr(GError) error = NULL;
    HttpClient *client = http_client_new(address, NULL, false, &error);

    g_assert_no_error(error);
    return client;
}

static json_t *
get(HttpClient *client, const char *path)
{
    static const char *const headers[] = { "Accept: application/json", NULL };
    g_autofree char *url = g_strconcat(API_ROOT, path, NULL);
    g_autoptr(GError) error = NULL;
    g_auto(HttpAnswer) answer = { 0 };

    http_call(client, "GET", url, headers, NULL, 0, 20000, &answer, &error);
    g_assert_no_error(error);
    g_assert_cmpint(answer.status, ==, 200);
    json_t *doc = json_loads(answer.body, 0, NULL);
    g_assert_nonnull(doc);
    return doc;
}

/* The agent's VM has this many bytes of memory from now on, and the agent says so. */
static void
change_memory(Agent *agent, int64_t memory)
{
    WITH_LOCK(&agent->lock);

    json_object_set_new(agent->vm, "memory", json_integer(memory));
    g_queue_push_tail(&agent->lines, g_strdup("{\"event\":\"vm\",\"vm_id\":\"" VM_ID "\"}"));
    g_cond_broadcast(&agent->changed);
}

static int64_t
memory_now(const Site *site)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = manager_vm(site->manager, VM_ID, &error);

    g_assert_no_error(error);
    return (int64_t)vm->memory;
}

typedef struct {
    Site *site;
    const char *path;
    int over; /* atomic */
    unsigned requests;
} Watcher;

/* What the manager knew before the request is in its answer, or something newer. */
static gpointer
watch(gpointer data)
{
    Watcher *watcher = data;
    g_autoptr(HttpClient) client = client_new(watcher->site);

    while (g_atomic_int_get(&watcher->over) == 0) {
        int64_t known = memory_now(watcher->site);
        g_autoptr(json_t) doc = get(client, watcher->path);
        json_t *list = json_object_get(doc, "vm");
        int64_t told = json_number(list != NULL ? json_array_get(list, 0) : doc, "memory");
        if (told < known)
            g_error("%s is older than what the manager knew before: %" G_GINT64_FORMAT
                    " instead of %" G_GINT64_FORMAT,
                    watcher->path, told, known);
        watcher->requests++;
    }
    return NULL;
}

static void
test_never_old(void)
{
    static const char *const paths[] = { "/vms", "/vms/" VM_ID, "/vms?search=name=web1" };
    Site *site = site_new();
    Watcher watchers[G_N_ELEMENTS(paths)];
    GThread *threads[G_N_ELEMENTS(paths)];

    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        watchers[i] = (Watcher){ .site = site, .path = paths[i] };
        threads[i] = g_thread_new("watcher", watch, &watchers[i]);
    }
    for (int64_t memory = 1; memory <= 150; memory++) {
        change_memory(site->agent, memory << 20);
        for (int i = 0; i < 20000 && memory_now(site) != memory << 20; i++)
            g_usleep(500);
        g_assert_cmpint(memory_now(site), ==, memory << 20);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_atomic_int_set(&watchers[i].over, 1);
        g_thread_join(threads[i]);
        g_assert_cmpuint(watchers[i].requests, >, 10);
    }
    site_free(site);
}

/* What jobs and hosts do to VMs is seen at once, too. */
static void
test_jobs_and_hosts(void)
{
    Site *site = site_new();
    g_autoptr(HttpClient) client = client_new(site);
    g_autoptr(GError) error = NULL;
    g_autofree char *snapshot = NULL;
    SnapshotCreate what = { .vm_id = VM_ID, .name = "new" };
    g_autoptr(json_t) before = get(client, "/vms/" VM_ID "/snapshots");

    g_autofree char *job = manager_snapshot_create(site->manager, &what, &snapshot, &error);
    g_assert_no_error(error);
    g_autoptr(json_t) after = get(client, "/vms/" VM_ID "/snapshots");
    g_assert_cmpuint(json_array_size(json_object_get(after, "snapshot")), ==,
                     json_array_size(json_object_get(before, "snapshot")) + 1);

    g_autoptr(json_t) up = get(client, "/vms/" VM_ID);
    g_assert_cmpstr(json_text(up, "status"), ==, "up");
    g_mutex_lock(&site->agent->lock);
    site->agent->stopping = true;
    g_cond_broadcast(&site->agent->changed);
    g_mutex_unlock(&site->agent->lock);
    http_server_stop(g_steal_pointer(&site->agent->server));
    for (int i = 0; i < 2000; i++) {
        g_autoptr(Vm) vm = manager_vm(site->manager, VM_ID, NULL);
        if (vm->state == VM_UNKNOWN)
            break;
        g_usleep(10000);
    }
    g_autoptr(json_t) lost = get(client, "/vms/" VM_ID);
    g_assert_cmpstr(json_text(lost, "status"), ==, "unknown");
    site_free(site);
}

/* ---- one makes it for all ---- */

#define ASKING 30

typedef struct {
    Cache *cache;
    GBytes *made; /* by whoever is to make it; NULL = he fails */
    int makers;   /* atomic */
} Herd;

static gpointer
ask_one(gpointer herd_)
{
    Herd *herd = herd_;
    CacheTurn *turn = NULL;
    GBytes *answer = cache_begin(herd->cache, "list", &turn);

    if (answer != NULL)
        return answer;
    g_atomic_int_inc(&herd->makers);
    g_usleep(2000); /* the others come meanwhile, or find it kept: they are given the same */
    cache_end(herd->cache, turn, herd->made);
    return herd->made != NULL ? g_bytes_ref(herd->made) : NULL;
}

static void
ask_together(Herd *herd, GBytes *answers[ASKING])
{
    GThread *threads[ASKING];

    for (int i = 0; i < ASKING; i++)
        threads[i] = g_thread_new("asks", ask_one, herd);
    for (int i = 0; i < ASKING; i++)
        answers[i] = g_thread_join(threads[i]);
}

static void
test_one_makes_it(void)
{
    Site *site = site_new();
    Herd herd = { .cache = cache_new(site->manager), .made = g_bytes_new("all", 3) };
    GBytes *answers[ASKING];

    ask_together(&herd, answers);
    g_assert_cmpint(herd.makers, ==, 1);
    for (int i = 0; i < ASKING; i++) {
        g_assert_true(answers[i] == herd.made);
        g_bytes_unref(answers[i]);
    }
    g_bytes_unref(herd.made);
    cache_free(herd.cache);
    site_free(site);
}

/* Then each of the others tries by himself: nobody waits for what does not come. */
static void
test_one_fails(void)
{
    Site *site = site_new();
    Herd herd = { .cache = cache_new(site->manager) };
    GBytes *answers[ASKING];

    ask_together(&herd, answers);
    g_assert_cmpint(herd.makers, ==, ASKING);
    for (int i = 0; i < ASKING; i++)
        g_assert_null(answers[i]);
    cache_free(herd.cache);
    site_free(site);
}

/* Who asks after a change does not wait for what was begun before it, nor is it kept. */
static void
test_begun_before(void)
{
    Site *site = site_new();
    Cache *cache = cache_new(site->manager);
    g_autoptr(GBytes) old = g_bytes_new("old", 3);
    g_autoptr(GBytes) young = g_bytes_new("young", 5);
    CacheTurn *before = NULL, *after = NULL, *last = NULL;

    g_assert_null(cache_begin(cache, "list", &before));
    change_memory(site->agent, 7 << 20);
    for (int i = 0; i < 20000 && memory_now(site) != 7 << 20; i++)
        g_usleep(500);
    g_assert_null(cache_begin(cache, "list", &after));
    cache_end(cache, before, old);
    cache_end(cache, after, young);
    g_autoptr(GBytes) kept = cache_begin(cache, "list", &last);
    if (kept == NULL) /* something else has changed */
        cache_end(cache, last, NULL);
    else
        g_assert_true(kept == young);
    cache_free(cache);
    site_free(site);
}

/* ---- packed ---- */

static void
test_accepted(void)
{
    static const struct {
        const char *header;
        bool accepted;
    } rows[] = {
        { NULL, false },           { "", false },
        { "gzip", true },          { "GZIP", true },
        { "deflate, gzip", true }, { "gzip;q=0", false },
        { "gzip; q=0.5", true },   { "gzip;q=0.000", false },
        { "gzipped", false },      { "identity", false },
        { "br,gzip ;q=1", true },  { ",;,", false },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        if (gzip_accepted(rows[i].header) != rows[i].accepted)
            g_error("Accept-Encoding: %s", rows[i].header);
}

static GBytes *
unpack(const void *data, size_t size)
{
    z_stream stream = { .next_in = (Bytef *)data, .avail_in = (uInt)size };
    guint8 *plain = g_malloc(1 << 20);

    g_assert_cmpint(inflateInit2(&stream, 15 + 16), ==, Z_OK);
    stream.next_out = plain;
    stream.avail_out = 1 << 20;
    g_assert_cmpint(inflate(&stream, Z_FINISH), ==, Z_STREAM_END);
    gsize used = stream.total_out;
    inflateEnd(&stream);
    return g_bytes_new_take(plain, used);
}

static void
test_pack(void)
{
    g_autofree char *text = g_strnfill(100000, 'x');
    g_autoptr(GBytes) plain = g_bytes_new(text, 100000);
    g_autoptr(GBytes) packed = gzip_pack(plain);
    g_autoptr(GBytes) small = g_bytes_new("small", 5);

    g_assert_null(gzip_pack(small));
    g_autoptr(GBytes) back = unpack(g_bytes_get_data(packed, NULL), g_bytes_get_size(packed));
    g_assert_true(g_bytes_equal(plain, back));
    g_assert_cmpuint(g_bytes_get_size(packed), <, 2000);
}

static GString *
talk(const Site *site, const char *request)
{
    autofd int fd = site_connect(site);
    GString *got = g_string_new(NULL);
    char part[16384];
    ssize_t more;

    g_assert_true(site_send(fd, request, strlen(request)));
    while ((more = recv(fd, part, sizeof part, 0)) > 0)
        g_string_append_len(got, part, more);
    return got;
}

/* The same document either way, from the first request on and kept. */
static void
test_both_ways(void)
{
    static const char ask[] = "GET " API_ROOT "/vms?operations=true HTTP/1.1\r\n"
                              "Host: x\r\nConnection: close\r\nAccept: application/json\r\n";
    g_autofree char *plain_ask = g_strconcat(ask, "\r\n", NULL);
    g_autofree char *packed_ask = g_strconcat(ask, "Accept-Encoding: gzip\r\n\r\n", NULL);
    Site *site = site_new();

    for (int i = 0; i < 3; i++) {
        g_autoptr(GString) plain = talk(site, plain_ask);
        g_autoptr(GString) packed = talk(site, packed_ask);
        char *plain_body = strstr(plain->str, "\r\n\r\n");
        char *packed_body = strstr(packed->str, "\r\n\r\n");
        g_assert_nonnull(strstr(plain->str, "Vary: Accept, Accept-Encoding\r\n"));
        g_assert_null(strstr(plain->str, "Content-Encoding"));
        *packed_body = '\0';
        g_assert_nonnull(strstr(packed->str, "Content-Encoding: gzip\r"));
        packed_body += 4;
        g_autoptr(GBytes) back =
            unpack(packed_body, packed->len - (gsize)(packed_body - packed->str));
        g_autoptr(GBytes) wanted = g_bytes_new(plain_body + 4, strlen(plain_body + 4));
        g_assert_true(g_bytes_equal(back, wanted));
    }
    site_free(site);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_kept_test");
    xml_init();
    g_test_add_func("/api-kept/never-old", test_never_old);
    g_test_add_func("/api-kept/jobs-and-hosts", test_jobs_and_hosts);
    g_test_add_func("/api-kept/one-makes-it", test_one_makes_it);
    g_test_add_func("/api-kept/one-fails", test_one_fails);
    g_test_add_func("/api-kept/begun-before", test_begun_before);
    g_test_add_func("/api-kept/accepted", test_accepted);
    g_test_add_func("/api-kept/pack", test_pack);
    g_test_add_func("/api-kept/both-ways", test_both_ways);
    return g_test_run();
}
