/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "people/password.h"

#include "base/cleanup.h"

#include <crypt.h>
#include <string.h>
#include <sys/resource.h>

#define PREFIX "$y$"
#define MOST_THREADS 4
#define MOST_WAITING 64 /* each holds a thread of the server, which has 200 */
#define NICE 10

struct Passwords {
    GMutex lock;
    GCond done;
    GThreadPool *pool;
    unsigned waiting;
    char *nobody; /* a hash that no password has */
};

typedef struct {
    Passwords *passwords;
    const char *setting; /* a hash or a salt */
    const char *password;
    PasswordMay may; /* NULL = yes */
    void *may_data;
    char *hash; /* NULL = it could not be computed */
    GError *refused;
    bool done;
} Turn;

static void
compute(Turn *turn)
{
    g_autofree struct crypt_data *data = g_new0(struct crypt_data, 1);
    const char *hash;

    if (turn->may != NULL && !turn->may(turn->may_data, &turn->refused))
        return;
    hash = crypt_r(turn->password, turn->setting, data);
    if (hash != NULL && *hash != '*')
        turn->hash = g_strdup(hash);
    explicit_bzero(data, sizeof *data);
}

static void
take_turn(void *item, void *data)
{
    static _Thread_local bool low;
    Passwords *passwords = data;
    Turn *turn = item;

    if (!low) {
        setpriority(PRIO_PROCESS, 0, NICE); /* Linux: of this thread; nothing is lost if it fails */
        low = true;
    }
    compute(turn);
    WITH_LOCK(&passwords->lock);
    turn->done = true;
    g_cond_broadcast(&passwords->done);
}

static bool
wait_turn(Passwords *passwords, Turn *turn, GError **error)
{
    WITH_LOCK(&passwords->lock);

    if (passwords->waiting >= MOST_WAITING)
        return error_set(error, ERR_LIMITED,
                         "too many people sign in at this moment; try again in a few seconds");
    passwords->waiting++;
    g_thread_pool_push(passwords->pool, turn, NULL); /* never fails once the threads are there */
    while (!turn->done)
        g_cond_wait(&passwords->done, &passwords->lock);
    passwords->waiting--;
    if (turn->refused == NULL)
        return true;
    g_propagate_error(error, g_steal_pointer(&turn->refused));
    return false;
}

bool
password_check(const char *password, GError **error)
{
    if (strlen(password) < PASSWORD_SHORTEST)
        return error_set(error, ERR_INVALID, "the password is too short: %d characters at least",
                         PASSWORD_SHORTEST);
    return strlen(password) <= PASSWORD_LONGEST ||
           error_set(error, ERR_INVALID, "the password is too long: %d bytes at most",
                     PASSWORD_LONGEST);
}

char *
password_hash(Passwords *passwords, const char *password, GError **error)
{
    char salt[CRYPT_GENSALT_OUTPUT_SIZE];

    if (crypt_gensalt_rn(PREFIX, 0, NULL, 0, salt, sizeof salt) == NULL) {
        error_set_errno(error, "making the salt of a password");
        return NULL;
    }
    Turn turn = { .passwords = passwords, .setting = salt, .password = password };
    if (wait_turn(passwords, &turn, error) && turn.hash == NULL)
        error_set(error, ERR_INTERNAL, "the password could not be hashed with yescrypt");
    return turn.hash;
}

/* Takes the same time wherever they differ. */
static bool
same(const char *a, const char *b)
{
    size_t length = strlen(a);
    unsigned char differ = strlen(b) != length;

    for (size_t i = 0; i < length && b[i] != '\0'; i++)
        differ |= (unsigned char)(a[i] ^ b[i]);
    return differ == 0;
}

bool
password_matches(Passwords *passwords, const char *hash, const char *password, PasswordMay may,
                 void *data, GError **error)
{
    bool possible = hash != NULL && strlen(password) <= PASSWORD_LONGEST;
    Turn turn = { .passwords = passwords,
                  .setting = possible ? hash : passwords->nobody,
                  .password = possible ? password : "",
                  .may = may,
                  .may_data = data };
    bool good = wait_turn(passwords, &turn, error) && turn.hash != NULL &&
                same(turn.hash, turn.setting) && possible;

    g_free(turn.hash);
    return good;
}

Passwords *
passwords_new(GError **error)
{
    Passwords *passwords = g_new0(Passwords, 1);
    unsigned threads = CLAMP(g_get_num_processors() / 2, 1, MOST_THREADS);

    g_mutex_init(&passwords->lock);
    g_cond_init(&passwords->done);
    /* exclusive: threads of the common kind would carry the low priority to others */
    passwords->pool = g_thread_pool_new(take_turn, passwords, (int)threads, TRUE, NULL);
    passwords->nobody =
        passwords->pool == NULL ? NULL : password_hash(passwords, "there is no such user", error);
    if (passwords->nobody != NULL)
        return passwords;
    if (passwords->pool == NULL)
        error_set(error, ERR_INTERNAL, "the threads for passwords could not be started");
    passwords_free(passwords);
    return NULL;
}

void
passwords_free(Passwords *passwords)
{
    if (passwords == NULL)
        return;
    if (passwords->pool != NULL)
        g_thread_pool_free(passwords->pool, FALSE, TRUE);
    g_free(passwords->nobody);
    g_cond_clear(&passwords->done);
    g_mutex_clear(&passwords->lock);
    g_free(passwords);
}
