/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/clock.h"
#include "people/inside.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define FIRST_USER "admin"
/* Who fails: ten times at once from an address, then once in six seconds; a user has more, so
 * that a stranger cannot easily lock him out. */
#define PEER_TRIES 10
#define NAME_TRIES 30
#define REFILL_MS 6000
#define MOST_KEYS 10000

/* ---- who ---- */

Who *
who_local(const char *name, Role role)
{
    Who *who = g_new0(Who, 1);

    who->name = g_strdup(name);
    who->role = role;
    return who;
}

Who *
who_copy(const Who *who)
{
    Who *copy = g_new0(Who, 1);

    *copy = (Who){ .name = g_strdup(who->name),
                   .user = g_strdup(who->user),
                   .role = who->role,
                   .vms = who->vms != NULL ? g_hash_table_ref(who->vms) : NULL,
                   .life = who->life,
                   .token = g_strdup(who->token) };
    return copy;
}

void
who_free(Who *who)
{
    if (who == NULL)
        return;
    g_free(who->name);
    g_free(who->user);
    g_free(who->token);
    g_clear_pointer(&who->vms, g_hash_table_unref);
    g_free(who);
}

bool
people_is(const Who *who, const char *name)
{
    g_autofree char *plain = people_plain_name(name);

    return who->user != NULL && g_strcmp0(plain, who->user) == 0;
}

Role
who_role_on(const Who *who, const char *vm_id)
{
    Role role = who->vms == NULL || vm_id == NULL
                    ? ROLE_NONE
                    : (Role)GPOINTER_TO_INT(g_hash_table_lookup(who->vms, vm_id));

    return MAX(who->role, role);
}

Who *
people_who(const Member *member)
{
    Who *who = g_new0(Who, 1);

    who->user = g_strdup(member->row->name);
    who->name = g_strconcat(member->row->name, "@" PEOPLE_PROFILE, NULL);
    who->role = member->role;
    who->vms = g_hash_table_ref(member->vms);
    who->life = member->life;
    return who;
}

/* ---- names ---- */

static bool
name_is_plain(const char *name)
{
    if (!g_ascii_isalnum(*name) || strlen(name) > 64)
        return false;
    for (const char *p = name; *p != '\0'; p++)
        if (!g_ascii_isalnum(*p) && strchr("._-", *p) == NULL)
            return false;
    return true;
}

char *
people_plain_name(const char *text)
{
    const char *at = strrchr(text, '@');
    g_autofree char *name = at != NULL ? g_strndup(text, (gsize)(at - text)) : g_strdup(text);

    if (at != NULL && !g_str_equal(at + 1, PEOPLE_PROFILE))
        return NULL;
    return name_is_plain(name) ? g_steal_pointer(&name) : NULL;
}

static char *
check_name(const char *text, GError **error)
{
    char *name = people_plain_name(text);

    if (name == NULL)
        error_set(error, ERR_INVALID,
                  "'%.100s' is no name of a user: letters, digits, '.', '-' and '_', at most 64, "
                  "with or without @" PEOPLE_PROFILE,
                  text);
    return name;
}

bool
people_random(unsigned char bytes[32], GError **error)
{
    return getrandom(bytes, 32, 0) == 32 || error_set_errno(error, "asking for random bytes");
}

/* ---- members ---- */

static void
member_free(Member *member)
{
    person_row_free(member->row);
    g_hash_table_unref(member->vms);
    g_free(member);
}

static GHashTable *
read_vms(const json_t *vms)
{
    GHashTable *roles = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    const char *id;
    json_t *word;
    Role role;

    json_object_foreach ((json_t *)vms, id, word)
        if (role_from_word(json_string_value(word), &role) && role > ROLE_NONE)
            g_hash_table_insert(roles, g_strdup(id), GINT_TO_POINTER(role));
    return roles;
}

/* Takes the row. A role that is not known (of a newer version) is none. With lock held. */
static void
put_member(People *people, PersonRow *row, bool new_life)
{
    const Member *old = g_hash_table_lookup(people->members, row->name);
    Member *member = g_new0(Member, 1);

    member->row = row;
    role_from_word(row->role, &member->role);
    member->vms = read_vms(row->vms);
    member->life = old == NULL || new_life ? ++people->lives : old->life;
    g_hash_table_replace(people->members, row->name, member);
}

/* With lock held; ERR_NOT_FOUND */
static const Member *
member_of(People *people, const char *name, GError **error)
{
    g_autofree char *plain = people_plain_name(name);
    const Member *member = plain != NULL ? g_hash_table_lookup(people->members, plain) : NULL;

    if (member == NULL)
        error_set(error, ERR_NOT_FOUND, "there is no user '%.100s'", name);
    return member;
}

PersonRow *
people_row(People *people, const char *name, GError **error)
{
    WITH_LOCK(&people->lock);
    const Member *member = member_of(people, name, error);

    if (member == NULL)
        return NULL;
    PersonRow *row = g_new0(PersonRow, 1);
    row->name = g_strdup(member->row->name);
    row->role = g_strdup(member->row->role);
    row->password = g_strdup(member->row->password);
    row->vms = json_deep_copy(member->row->vms);
    row->created = member->row->created;
    row->locked = member->row->locked;
    return row;
}

bool
people_save(People *people, PersonRow *row, bool new_life, GError **error)
{
    g_autoptr(PersonRow) owned = row;

    row->changed = clock_wall_ms();
    if (!store_person_put(people->store, row, error))
        return false;
    WITH_LOCK(&people->lock);
    put_member(people, g_steal_pointer(&owned), new_life);
    return true;
}

/* ---- users ---- */

void
person_free(Person *person)
{
    if (person == NULL)
        return;
    g_free(person->name);
    g_hash_table_unref(person->vms);
    g_free(person);
}

static unsigned
count_tokens(People *people, const char *name)
{
    GHashTableIter all;
    void *token;
    unsigned n = 0;

    g_hash_table_iter_init(&all, people->tokens);
    while (g_hash_table_iter_next(&all, NULL, &token))
        n += g_str_equal(((Token *)token)->row->person, name);
    return n;
}

static Person *
view(People *people, const Member *member)
{
    Person *person = g_new0(Person, 1);

    person->name = g_strdup(member->row->name);
    person->role = member->role;
    person->vms = g_hash_table_ref(member->vms);
    person->has_password = people->pam == NULL && member->row->password != NULL;
    person->tokens = count_tokens(people, member->row->name);
    person->created = member->row->created;
    person->changed = member->row->changed;
    person->locked = member->row->locked;
    return person;
}

static gint
by_name(const void *a, const void *b)
{
    return g_strcmp0((*(Person *const *)a)->name, (*(Person *const *)b)->name);
}

GPtrArray *
people_list(People *people)
{
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)person_free);
    GHashTableIter all;
    void *member;
    WITH_LOCK(&people->lock);

    g_hash_table_iter_init(&all, people->members);
    while (g_hash_table_iter_next(&all, NULL, &member))
        g_ptr_array_add(list, view(people, member));
    g_ptr_array_sort(list, by_name);
    return list;
}

Person *
people_find(People *people, const char *name, GError **error)
{
    WITH_LOCK(&people->lock);
    const Member *member = member_of(people, name, error);

    return member != NULL ? view(people, member) : NULL;
}

bool
people_use_pam(const People *people)
{
    return people->pam != NULL;
}

bool
people_has_passwords(const People *people, GError **error)
{
    return people->pam == NULL ||
           error_set(error, ERR_REFUSED,
                     "passwords are the system's here ([people] password = pam): they are changed "
                     "where the account is kept (passwd, or its directory)");
}

static bool
may_add(People *people, const char *name, GError **error)
{
    WITH_LOCK(&people->lock);

    if (g_hash_table_contains(people->members, name))
        return error_set(error, ERR_EXISTS, "there is a user '%s' already", name);
    return g_hash_table_size(people->members) < PEOPLE_MOST ||
           error_set(error, ERR_REFUSED, "there are %d users already, which is the most",
                     PEOPLE_MOST);
}

bool
people_add(People *people, const char *name, Role role, const char *password, GError **error)
{
    g_autofree char *plain = check_name(name, error);
    g_autofree char *hash = NULL;

    if (plain == NULL || (password != NULL && !people_has_passwords(people, error)) ||
        (password != NULL && !password_check(password, error)) ||
        (password != NULL && (hash = password_hash(people->passwords, password, error)) == NULL))
        return false;
    WITH_LOCK(&people->writing);
    if (!may_add(people, plain, error))
        return false;
    PersonRow *row = g_new0(PersonRow, 1);
    row->name = g_steal_pointer(&plain);
    row->role = g_strdup(role_word(role));
    row->password = g_steal_pointer(&hash);
    row->vms = json_object();
    row->created = clock_wall_ms();
    return people_save(people, row, true, error);
}

/* Has the user another password than in that life? */
static bool
is_another_life(People *people, const char *name, unsigned life)
{
    WITH_LOCK(&people->lock);
    const Member *member = g_hash_table_lookup(people->members, name);

    return life != 0 && member != NULL && member->life != life;
}

bool
people_put_hash(People *people, const char *name, char *hash, unsigned life, const char *keep,
                GError **error)
{
    g_autofree char *owned = hash;
    WITH_LOCK(&people->writing);
    g_autoptr(PersonRow) row = people_row(people, name, error); /* once more: it took a while */

    if (row == NULL)
        return false;
    if (is_another_life(people, row->name, life))
        return error_set(error, ERR_BUSY,
                         "the password of user '%s' was changed by somebody else in this moment; "
                         "nothing was done",
                         row->name);
    g_free(row->password);
    row->password = g_steal_pointer(&owned);
    /* if this stops in between, the tokens are gone and the old password is still there */
    if (!store_tokens_remove(people->store, row->name, keep, error))
        return false;
    tokens_forget(people, row->name, keep);
    return people_save(people, g_steal_pointer(&row), true, error);
}

bool
people_set_password(People *people, const char *name, const char *password, GError **error)
{
    g_autoptr(PersonRow) known = people_row(people, name, error);
    g_autofree char *hash = NULL;

    if (known == NULL || !people_has_passwords(people, error) || !password_check(password, error) ||
        (hash = password_hash(people->passwords, password, error)) == NULL)
        return false;
    return people_put_hash(people, name, g_steal_pointer(&hash), 0, NULL, error);
}

bool
people_set_role(People *people, const char *name, const char *vm_id, Role role, GError **error)
{
    WITH_LOCK(&people->writing);
    PersonRow *row = people_row(people, name, error);

    if (row == NULL)
        return false;
    if (vm_id == NULL) {
        g_free(row->role);
        row->role = g_strdup(role_word(role));
    } else if (role == ROLE_NONE) {
        json_object_del(row->vms, vm_id);
    } else {
        json_object_set_new(row->vms, vm_id, json_string(role_word(role)));
    }
    return people_save(people, row, false, error);
}

static void
forget_member(People *people, const char *name)
{
    WITH_LOCK(&people->lock);
    g_hash_table_remove(people->members, name);
}

bool
people_remove(People *people, const char *name, GError **error)
{
    WITH_LOCK(&people->writing);
    g_autoptr(PersonRow) row = people_row(people, name, error);

    if (row == NULL || !store_person_remove(people->store, row->name, error))
        return false;
    tokens_forget(people, row->name, NULL);
    forget_member(people, row->name);
    return true;
}

bool
people_ready(People *people)
{
    GHashTableIter all;
    void *value;
    WITH_LOCK(&people->lock);

    g_hash_table_iter_init(&all, people->members);
    while (g_hash_table_iter_next(&all, NULL, &value)) {
        const Member *member = value;
        if (member->role == ROLE_ADMINISTRATOR && member->row->locked == 0 &&
            (people->pam != NULL || member->row->password != NULL))
            return true;
    }
    return false;
}

/* ---- open and close ---- */

static bool
load(People *people, GError **error)
{
    g_autoptr(GPtrArray) rows = store_people(people->store, error);

    if (rows == NULL)
        return false;
    while (rows->len > 0)
        put_member(people, g_ptr_array_steal_index(rows, rows->len - 1), true);
    if (g_hash_table_size(people->members) == 0 &&
        !people_add(people, FIRST_USER, ROLE_ADMINISTRATOR, NULL, error))
        return false;
    return tokens_load(people, error);
}

People *
people_open(Store *store, const PeopleOptions *options, GError **error)
{
    const char *service = options != NULL ? options->pam_service : NULL;
    g_autoptr(Pam) pam = service != NULL
                             ? pam_new(service, options->pam_dir, options->pam_patience_ms, error)
                             : NULL;
    People *people;

    if (service != NULL && pam == NULL)
        return NULL;
    people = g_new0(People, 1);
    people->store = store;
    people->pam = g_steal_pointer(&pam);
    g_mutex_init(&people->writing);
    g_mutex_init(&people->lock);
    people->members =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)member_free);
    people->tokens =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)token_free);
    people->basic =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)remembered_free);
    people->peers = limit_new(PEER_TRIES, REFILL_MS, MOST_KEYS);
    people->names = limit_new(NAME_TRIES, REFILL_MS, MOST_KEYS);
    people->passwords = passwords_new(error);
    if (people->passwords != NULL && people_random(people->key, error) && load(people, error))
        return people;
    people_close(people);
    return NULL;
}

void
people_close(People *people)
{
    if (people == NULL)
        return;
    passwords_free(people->passwords);
    pam_free(people->pam);
    limit_free(people->peers);
    limit_free(people->names);
    g_hash_table_unref(people->basic);
    g_hash_table_unref(people->tokens);
    g_hash_table_unref(people->members);
    g_mutex_clear(&people->lock);
    g_mutex_clear(&people->writing);
    explicit_bzero(people->key, sizeof people->key);
    g_free(people);
}
