/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "facts.h"

#include "agent/qmp.h"

#include <string.h>

typedef struct {
    const Fact *fact;
    Run run;
} Play;

/* ---- for the bodies ---- */

bool
is_so(Run *run, bool so, const char *what)
{
    if (!so && run->wrong == NULL)
        run->wrong = g_strdup_printf("%s; the story:\n%s", what, run->ops.said->str);
    return run->wrong == NULL;
}

bool
must(Run *run, const char *line, const char *answer)
{
    if (run->wrong != NULL)
        return false;
    g_autofree char *got = ops_do(&run->ops, line);
    g_autofree char *what = g_strdup_printf("'%s' was answered '%s', not '%s'", line, got, answer);
    return is_so(run, ops_is_one_of(got, answer), what);
}

/* A node whose header names its backing file by a relative name has "json:{...}" for a name. */
static char *
file_of(const char *name)
{
    g_autoptr(json_t) json =
        g_str_has_prefix(name, "json:") ? json_loads(name + strlen("json:"), 0, NULL) : NULL;
    const char *inner =
        json_string_value(json_object_get(json_object_get(json, "file"), "filename"));

    return g_path_get_basename(inner != NULL ? inner : name);
}

static char *
leaf_of(const json_t *all)
{
    size_t i;
    json_t *one;

    json_array_foreach (all, i, one) {
        const char *device = json_string_value(json_object_get(one, "qdev"));
        json_t *inserted = json_object_get(one, "inserted");
        const char *file = json_string_value(json_object_get(inserted, "file"));
        if (device != NULL && file != NULL && strstr(device, "virtio-disk0") != NULL)
            return file_of(file);
    }
    return g_strdup("nothing");
}

char *
qemu_leaf(void)
{
    g_autoptr(json_t) all = real_qmp("query-block", NULL);

    return leaf_of(all);
}

void
kill_libvirtd_when(const char *leaf)
{
    g_autofree char *path = g_build_filename(stage.dir, "qmp", NULL);
    g_autoptr(Qmp) qmp = qmp_open(path, NULL);
    int64_t until = g_get_monotonic_time() + 5 * G_TIME_SPAN_SECOND;

    while (qmp != NULL && g_get_monotonic_time() < until) {
        g_autoptr(json_t) all = NULL;
        if (!qmp_call(qmp, "query-block", NULL, &all, NULL))
            break;
        g_autofree char *now = leaf_of(all);
        if (strcmp(now, leaf) == 0)
            break;
    }
    stage_kill_libvirtd();
}

void
begin_and_wait(Run *run, const char *line)
{
    static int64_t undisturbed_us;
    int64_t began = g_get_monotonic_time();
    g_autofree char *begin = g_strconcat("begin ", line, NULL);

    if (!must(run, begin, "begun"))
        return;
    if (run->round > 0) {
        g_usleep((gulong)(undisturbed_us * run->round / run->rounds));
        return;
    }
    ops_join(&run->ops);
    undisturbed_us = g_get_monotonic_time() - began;
}

/* ---- running them ---- */

static void
play(void *data)
{
    Play *self = data;

    ops_begin(&self->run.ops);
    self->fact->body(&self->run);
    ops_end(&self->run.ops);
}

static void
test_fact(gconstpointer data)
{
    const Fact *fact = data;
    Play self = { .fact = fact, .run = { .rounds = MAX(fact->rounds, 1) } };
    Run *run = &self.run;

    for (; run->round < run->rounds && !run->shown && run->wrong == NULL; run->round++)
        stage_run(MAX(fact->disks, 1), 0, play, &self);
    if (run->wrong != NULL) {
        g_test_message("round %u: %s", run->round, run->wrong);
        g_test_message("what rests on it: %s", fact->rule);
        g_test_fail();
    } else if (fact->rounds > 1) {
        g_test_message("%s", run->shown
                                 ? "it was shown"
                                 : "it did not show: only that what must hold does was tested");
    }
    g_free(run->wrong);
}

static void
add_all(const Fact *facts)
{
    for (; facts->name != NULL; facts++) {
        g_autofree char *path = g_strdup_printf("/facts/%s", facts->name);
        g_test_add_data_func(path, facts, test_fact);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_set_nonfatal_assertions();
    add_all(hazard_facts);
    add_all(job_facts);
    add_all(image_facts);
    stage_init();
    int status = g_test_run();
    stage_exit();
    return status;
}
