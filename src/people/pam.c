/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Who waits for PAM, and for how long.
 */
#include "people/pam.h"

#include "base/cleanup.h"

#include <string.h>
#include <unistd.h>

#define MOST_THREADS 8
#define MOST_WAITING 64 /* each holds a thread of the server, which has 200 */
#define PATIENCE_MS 20000

struct Pam {
    gatomicrefcount refs; /* one for each turn, too: those that were left behind outlive us */
    char *service, *dir;
    unsigned patience_ms;
    GThreadPool *pool; /* of Turn */
    GMutex lock;       /* of the rest, and of all turns */
    GCond done;
    unsigned waiting;
    unsigned stuck; /* turns that run, and for which nobody waits any more */
    bool closed;
};

typedef struct {
    gatomicrefcount refs;
    Pam *pam;
    PamQuestion question;
    PasswordMay may; /* valid until it was left behind */
    void *may_data;
    bool runs, left_behind, ended;
    GError *problem; /* of what has ended; NULL = it is right */
} Turn;

static void
pam_unref(Pam *pam)
{
    if (!g_atomic_ref_count_dec(&pam->refs))
        return;
    g_mutex_clear(&pam->lock);
    g_cond_clear(&pam->done);
    g_free(pam->service);
    g_free(pam->dir);
    g_free(pam);
}

static void
turn_unref(void *data)
{
    Turn *turn = data;

    if (!g_atomic_ref_count_dec(&turn->refs))
        return;
    explicit_bzero(turn->question.password, strlen(turn->question.password));
    g_free(turn->question.user);
    g_free(turn->question.password);
    g_free(turn->question.peer);
    g_clear_error(&turn->problem);
    pam_unref(turn->pam);
    g_free(turn);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Turn, turn_unref)

/* False: nobody waits any more, or he may not try. */
static bool
begin(Turn *turn)
{
    WITH_LOCK(&turn->pam->lock);

    if (turn->left_behind || turn->pam->closed)
        return false;
    if (turn->may != NULL && !turn->may(turn->may_data, &turn->problem)) {
        turn->ended = true;
        g_cond_broadcast(&turn->pam->done);
        return false;
    }
    return turn->runs = true;
}

static void
end(Turn *turn, GError *take_problem)
{
    WITH_LOCK(&turn->pam->lock);

    turn->problem = take_problem;
    turn->ended = true;
    if (turn->left_behind)
        turn->pam->stuck--;
    g_cond_broadcast(&turn->pam->done);
}

static void
take_turn(void *item, void *unused)
{
    g_autoptr(Turn) turn = item;
    GError *problem = NULL;

    if (!begin(turn))
        return;
    pam_ask(&turn->question, &problem);
    end(turn, problem);
}

/* ---- the side that waits ---- */

static Turn *
turn_new(Pam *pam, const char *user, const char *password, const char *peer)
{
    Turn *turn = g_new0(Turn, 1);

    g_atomic_ref_count_init(&turn->refs);
    g_atomic_ref_count_inc(&pam->refs);
    turn->pam = pam;
    turn->question = (PamQuestion){ .service = pam->service,
                                    .dir = pam->dir,
                                    .user = g_strdup(user),
                                    .password = g_strdup(password),
                                    .peer = g_strdup(peer) };
    return turn;
}

static bool
may_wait(const Pam *pam, GError **error)
{
    if (pam->stuck >= MOST_THREADS)
        return error_set(
            error, ERR_TIMEOUT,
            "PAM's service '%s' has not answered %u earlier sign-ins; who is signed in "
            "and the local socket are not affected",
            pam->service, pam->stuck);
    return pam->waiting < MOST_WAITING ||
           error_set(error, ERR_LIMITED,
                     "too many people sign in at this moment; try again in a few seconds");
}

static bool
wait_turn(Turn *turn, GError **error)
{
    Pam *pam = turn->pam;
    gint64 until = g_get_monotonic_time() + pam->patience_ms * G_TIME_SPAN_MILLISECOND;
    WITH_LOCK(&pam->lock);

    if (!may_wait(pam, error))
        return false;
    pam->waiting++;
    g_atomic_ref_count_inc(&turn->refs);
    g_thread_pool_push(pam->pool, turn, NULL);
    while (!turn->ended && g_cond_wait_until(&pam->done, &pam->lock, until))
        ;
    pam->waiting--;
    if (!turn->ended) {
        turn->left_behind = true;
        pam->stuck += turn->runs;
        return error_set(error, ERR_TIMEOUT,
                         "PAM's service '%s' did not answer within %u s; nobody was signed in",
                         pam->service, (pam->patience_ms + 999) / 1000);
    }
    if (turn->problem == NULL)
        return true;
    g_propagate_error(error, g_steal_pointer(&turn->problem));
    return false;
}

bool
pam_check(Pam *pam, const char *user, const char *password, const char *peer, PasswordMay may,
          void *data, GError **error)
{
    if (strlen(password) > PASSWORD_LONGEST)
        return error_set(error, ERR_SIGN_IN, "the user name or the password is not right");
    g_autoptr(Turn) turn = turn_new(pam, user, password, peer);
    turn->may = may;
    turn->may_data = data;
    return wait_turn(turn, error);
}

/* ---- begin and end ---- */

/* Else PAM would take the service "other", which mostly refuses without a word. */
static bool
find_service(const char *service, const char *dir, GError **error)
{
    static const char *const places[] = { "/etc/pam.d", "/usr/lib/pam.d" };

    for (size_t i = 0; i < (dir != NULL ? 1 : G_N_ELEMENTS(places)); i++) {
        g_autofree char *file = g_build_filename(dir != NULL ? dir : places[i], service, NULL);
        if (access(file, R_OK) == 0)
            return true;
    }
    return error_set(error, ERR_INVALID,
                     "there is no PAM service '%s': %s/%s is missing or cannot be read (livemerge "
                     "comes with one, packaging/pam.d)",
                     service, dir != NULL ? dir : places[0], service);
}

Pam *
pam_new(const char *service, const char *dir, unsigned patience_ms, GError **error)
{
    if (!pam_is_there()) {
        pam_refuse(error);
        return NULL;
    }
    if (*service == '\0' || strchr(service, '/') != NULL) {
        error_set(error, ERR_INVALID, "'%s' is no name of a PAM service", service);
        return NULL;
    }
    if (!find_service(service, dir, error))
        return NULL;
    Pam *pam = g_new0(Pam, 1);
    g_atomic_ref_count_init(&pam->refs);
    g_mutex_init(&pam->lock);
    g_cond_init(&pam->done);
    pam->service = g_strdup(service);
    pam->dir = g_strdup(dir);
    pam->patience_ms = patience_ms != 0 ? patience_ms : PATIENCE_MS;
    pam->pool = g_thread_pool_new(take_turn, NULL, MOST_THREADS, FALSE, NULL);
    return pam;
}

void
pam_free(Pam *pam)
{
    if (pam == NULL)
        return;
    g_mutex_lock(&pam->lock);
    pam->closed = true;
    g_mutex_unlock(&pam->lock);
    /* what is left in its queue ends at once; GLib 2.74 itself would free its own marks for threads
     * that are to stop, as if they were turns */
    g_thread_pool_free(pam->pool, FALSE, FALSE);
    pam_unref(pam);
}
