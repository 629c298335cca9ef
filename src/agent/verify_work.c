/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/verify_work.h"

#define QEMU_FLUSHES_US (1 * G_TIME_SPAN_SECOND)

struct VerifyWork {
    GPtrArray *comparisons;
    GStringChunk *texts;
    GThread *thread;
    int stop; /* atomic */
    bool twice;
    GMutex lock; /* the rest */
    GCond end;
    bool ended;
    uint64_t done, total;
    uint64_t before; /* of the comparisons that are done */
    Qcow2Compared compared;
    GError *error;
};

static void
comparison_free(void *p)
{
    Comparison *c = p;

    g_array_unref(c->a);
    g_array_unref(c->b);
    g_free(c);
}

VerifyWork *
verify_work_new(bool twice)
{
    VerifyWork *work = g_new0(VerifyWork, 1);

    work->twice = twice;
    work->comparisons = g_ptr_array_new_with_free_func(comparison_free);
    work->texts = g_string_chunk_new(1024);
    g_mutex_init(&work->lock);
    g_cond_init(&work->end);
    return work;
}

void
verify_work_free(VerifyWork *work)
{
    if (work == NULL)
        return;
    g_atomic_int_set(&work->stop, 1);
    if (work->thread != NULL)
        g_thread_join(work->thread);
    g_clear_error(&work->error);
    g_ptr_array_unref(work->comparisons);
    g_string_chunk_free(work->texts);
    g_mutex_clear(&work->lock);
    g_cond_clear(&work->end);
    g_free(work);
}
Comparison *
verify_work_add(VerifyWork *work, What what, uint64_t virtual_size)
{
    Comparison *c = g_new0(Comparison, 1);

    c->what = what;
    c->a = g_array_new(FALSE, FALSE, sizeof(Qcow2Source));
    c->b = g_array_new(FALSE, FALSE, sizeof(Qcow2Source));
    c->virtual_size = virtual_size;
    g_ptr_array_add(work->comparisons, c);
    return c;
}

void
verify_work_source(VerifyWork *work, GArray *list, const char *path, const char *format)
{
    Qcow2Source source = { g_string_chunk_insert_const(work->texts, path),
                           g_string_chunk_insert_const(work->texts, format) };

    g_array_append_val(list, source);
}

void
verify_work_layers(VerifyWork *work, GArray *list, GPtrArray *layers, guint from, guint to)
{
    for (guint i = from; i < to; i++) {
        const Qcow2Layer *layer = layers->pdata[i];
        verify_work_source(work, list, layer->path, layer->format);
    }
}

static bool
tell(uint64_t done, uint64_t total, void *data)
{
    VerifyWork *work = data;
    WITH_LOCK(&work->lock);

    work->done = work->before + done;
    work->total = MAX(work->total, work->before + total);
    return g_atomic_int_get(&work->stop) == 0;
}

/* The headers lead from the top to the base through the volumes that they should. */
static bool
compare_links(const Comparison *c, GError **error)
{
    const Qcow2Source *wanted = (const Qcow2Source *)c->a->data, *top = &wanted[c->a->len - 1];
    g_autoptr(GPtrArray) layers = qcow2_chain_walk(top->path, top->format, NULL, error);
    const Qcow2Layer *last;

    if (layers == NULL)
        return false;
    last = layers->pdata[layers->len - 1];
    if (last->virtual_size != c->virtual_size)
        return error_set(error, ERR_CORRUPT,
                         "%s has a disk of %" G_GUINT64_FORMAT
                         " bytes, expected %" G_GUINT64_FORMAT,
                         top->path, last->virtual_size, c->virtual_size);
    for (guint i = 0; i < MAX(layers->len, c->a->len); i++) {
        const char *is = i < layers->len ? ((Qcow2Layer *)layers->pdata[i])->path : "nothing";
        const char *expected = i < c->a->len ? wanted[i].path : "nothing";
        if (!g_str_equal(is, expected))
            return error_set(error, ERR_CORRUPT, "%s stands on %s, expected %s", top->path, is,
                             expected);
    }
    return true;
}

static bool
compare(VerifyWork *work, const Comparison *c, Qcow2Compared *ret_compared, GError **error)
{
    const Qcow2Verify how = { c->virtual_size, c->maps_only, tell, work };
    const Qcow2Source *a = (const Qcow2Source *)c->a->data, *b = (const Qcow2Source *)c->b->data;

    switch (c->what) {
    case COMPARE_MAP:
        return qcow2_verify_map(a, c->a->len, b->path, &how, ret_compared, error);
    case COMPARE_COMMIT:
        return qcow2_verify_commit(a, c->a->len, b, &how, ret_compared, error);
    case COMPARE_CONTENT:
        return qcow2_verify_content(a, c->a->len, b, c->b->len, &how, ret_compared, error);
    case COMPARE_LINKS:
        return compare_links(c, error);
    }
    g_assert_not_reached();
}

static bool
compare_twice(VerifyWork *work, const Comparison *c, Qcow2Compared *ret_compared, GError **error)
{
    g_autoptr(GError) problem = NULL;

    if (compare(work, c, ret_compared, &problem))
        return true;
    if (!work->twice || !g_error_matches(problem, ERR, ERR_CORRUPT)) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    for (int64_t us = 0; us < QEMU_FLUSHES_US && !g_atomic_int_get(&work->stop); us += 20000)
        g_usleep(20000);
    return compare(work, c, ret_compared, error);
}

static void *
compare_all(void *data)
{
    VerifyWork *work = data;
    GError *error = NULL;

    for (guint i = 0; i < work->comparisons->len && error == NULL; i++) {
        Qcow2Compared compared = { 0 };
        compare_twice(work, work->comparisons->pdata[i], &compared, &error);
        WITH_LOCK(&work->lock);
        work->before = work->total;
        work->compared.bytes_compared += compared.bytes_compared;
        work->compared.bytes_same_blocks += compared.bytes_same_blocks;
    }
    WITH_LOCK(&work->lock);
    work->error = error;
    work->ended = true;
    g_cond_broadcast(&work->end);
    return NULL;
}

void
verify_work_start(VerifyWork *work)
{
    work->thread = g_thread_new("verify", compare_all, work);
}

bool
verify_work_wait(VerifyWork *work, int64_t until_us, uint64_t *ret_done, uint64_t *ret_total)
{
    WITH_LOCK(&work->lock);

    while (!work->ended && g_cond_wait_until(&work->end, &work->lock, until_us))
        ;
    *ret_done = work->done;
    *ret_total = work->total;
    return work->ended;
}

GError *
verify_work_result(VerifyWork *work, Qcow2Compared *ret_compared)
{
    WITH_LOCK(&work->lock);

    *ret_compared = work->compared;
    return g_steal_pointer(&work->error);
}
