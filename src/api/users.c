/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Users, for administrators. A user's id is the name, without the profile.
 */
#include "api/audit.h"

#include "api/media.h"

static json_t *
user_document(const Call *call, const Person *person)
{
    Manager *manager = call->manager;
    g_autofree char *full = g_strconcat(person->name, "@" PEOPLE_PROFILE, NULL);
    json_t *doc = doc_new(person->name, "/users/%s", person->name);
    json_t *roles = json_array();
    GHashTableIter all;
    void *id, *role;

    doc_text(doc, "name", person->name);
    doc_text(doc, "user_name", full);
    doc_text(doc, "principal", person->name);
    doc_text(doc, "role", role_word(person->role));
    if (!people_use_pam(call->people)) /* else we do not know */
        doc_flag(doc, "has_password", person->has_password);
    doc_flag(doc, "locked", person->locked != 0);
    doc_time(doc, "locked_since", person->locked);
    doc_number(doc, "tokens", person->tokens);
    doc_link(doc, "sessions", "/users/%s/sessions", person->name);
    doc_time(doc, "created", person->created);
    doc_time(doc, "changed", person->changed);
    g_hash_table_iter_init(&all, person->vms);
    while (g_hash_table_iter_next(&all, &id, &role)) {
        g_autoptr(Vm) vm = manager_vm(manager, id, NULL);
        json_t *row = json_object();
        doc_ref(row, "vm", id, "/vms/%s", (const char *)id);
        doc_text(json_object_get(row, "vm"), "name", vm != NULL ? vm->name : NULL);
        doc_text(row, "role", role_word((Role)GPOINTER_TO_INT(role)));
        json_array_append_new(roles, row);
    }
    json_object_set_new(doc, "vm_roles", json_pack("{s:o}", "vm_role", roles));
    return doc;
}

static bool
reply_user(Call *call, Reply *reply, const char *name, GError **error)
{
    g_autoptr(Person) person = people_find(call->people, name, error);

    if (person == NULL)
        return false;
    reply->body = user_document(call, person);
    return true;
}

bool
get_users(Call *call, Reply *reply, GError **error)
{
    g_autoptr(GPtrArray) people = people_list(call->people);
    json_t *list = json_array();

    for (guint i = 0; i < people->len; i++)
        json_array_append_new(list, user_document(call, people->pdata[i]));
    return reply_list(call, reply, "user", list, error);
}

bool
get_user(Call *call, Reply *reply, GError **error)
{
    return reply_user(call, reply, call->id, error);
}

/* Absent leaves *ret_role as it is, and *ret_given false. */
static bool
read_role(const json_t *body, Role *ret_role, bool *ret_given, GError **error)
{
    g_autofree char *word = NULL;

    if (!body_text(body, "role", &word, error))
        return false;
    *ret_given = word != NULL;
    return word == NULL || role_from_word(word, ret_role) ||
           error_set(error, ERR_INVALID,
                     "role: '%.40s' is none of viewer, operator, administrator, none", word);
}

bool
post_users(Call *call, Reply *reply, GError **error)
{
    g_autofree char *name = NULL, *user_name = NULL, *password = NULL;
    Role role = ROLE_VIEWER;
    bool given;

    call->in_body = true;
    if (!body_text(call->body, "name", &name, error) ||
        !body_text(call->body, "user_name", &user_name, error) ||
        !body_text(call->body, "password", &password, error) ||
        !read_role(call->body, &role, &given, error))
        return false;
    const char *wanted = user_name != NULL ? user_name : name;
    if (wanted == NULL)
        return error_set(error, ERR_INVALID, "user_name is missing");
    if (!people_add(call->people, wanted, role, password, error))
        return false;
    audit_changed(call, NULL, NULL, "User '%s' was added with the role %s", wanted,
                  role_word(role));
    reply->status = 201;
    return reply_user(call, reply, wanted, error);
}

static bool
set_vm_role(Call *call, const json_t *row, GError **error)
{
    g_autofree char *id = NULL;
    Role role = ROLE_NONE;
    bool given = false;

    if (!json_is_object(row) || !body_text(json_object_get(row, "vm"), "id", &id, error) ||
        !read_role(row, &role, &given, error))
        return json_is_object(row) ||
               error_set(error, ERR_INVALID, "vm_roles: each wants vm and role");
    if (id == NULL || !given)
        return error_set(error, ERR_INVALID, "vm_roles: each wants vm.id and role");
    if (role == ROLE_ADMINISTRATOR)
        return error_set(error, ERR_INVALID,
                         "the role of one VM can be viewer, operator or none, not administrator");
    g_autoptr(Vm) vm = manager_vm(call->manager, id, role == ROLE_NONE ? NULL : error);
    if (vm == NULL && role != ROLE_NONE) /* but one that is gone may be taken away */
        return false;
    if (!people_set_role(call->people, call->id, vm != NULL ? vm->id : id, role, error))
        return false;
    audit_changed(call, vm != NULL ? vm->id : NULL, NULL,
                  "The role of user '%s' for VM '%s' is %s now", call->id,
                  vm != NULL ? vm->name : id, role_word(role));
    return true;
}

static bool
set_vm_roles(Call *call, GError **error)
{
    g_autoptr(json_t) rows = NULL;
    size_t i;
    json_t *row;

    if (!body_list(call->body, "vm_roles", "vm_role", &rows, error))
        return false;
    json_array_foreach (rows, i, row)
        if (!set_vm_role(call, row, error))
            return false;
    return true;
}

/* Absent leaves it as it is. */
static bool
set_locked(Call *call, bool locked, GError **error)
{
    const json_t *given = json_object_get(call->body, "locked");
    bool changed;

    if (given == NULL || json_is_null(given))
        return true;
    if (!people_set_locked(call->people, call->who, call->id, locked, &changed, error))
        return false;
    if (changed)
        audit_changed(call, NULL, NULL, "User '%s' was %s", call->id,
                      locked ? "locked, and signed out everywhere" : "unlocked");
    return true;
}

bool
put_user(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Person) person = people_find(call->people, call->id, error);
    g_autofree char *password = NULL;
    Role role = ROLE_NONE;
    bool given = false, locked = false;

    if (person == NULL)
        return false;
    call->in_body = true;
    if (!body_text(call->body, "password", &password, error) ||
        !body_flag(call->body, "locked", &locked, error) ||
        !read_role(call->body, &role, &given, error))
        return false;
    if (!set_locked(call, locked, error))
        return false;
    if (password != NULL) {
        if (!people_set_password(call->people, call->id, password, error))
            return false;
        audit_changed(call, NULL, NULL, "The password of user '%s' was changed", call->id);
    }
    if (given) {
        if (!people_set_role(call->people, call->id, NULL, role, error))
            return false;
        audit_changed(call, NULL, NULL, "The role of user '%s' is %s now", call->id,
                      role_word(role));
    }
    if (!set_vm_roles(call, error))
        return false;
    return reply_user(call, reply, call->id, error);
}

/* The members first: who may do it is found out by the same answer. */
bool
post_user_password(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Person) person = people_find(call->people, call->id, error);
    g_autofree char *old = NULL, *password = NULL;
    g_autoptr(GError) problem = NULL;

    if (person == NULL)
        return false;
    call->in_body = true;
    if (!body_text(call->body, "old_password", &old, error) ||
        !body_text(call->body, "password", &password, error))
        return false;
    if (old == NULL || password == NULL)
        return error_set(error, ERR_INVALID, "old_password and password are needed");
    if (!people_is(call->who, call->id))
        return error_set(error, ERR_FORBIDDEN,
                         "%s may not do this: it is for '%s' alone; an administrator sets a new "
                         "password without the old one: livemerge user passwd %s",
                         call->user, person->name, person->name);
    if (!people_change_password(call->people, call->who, old, password, call->peer, &problem)) {
        if (g_error_matches(problem, ERR, ERR_FORBIDDEN))
            audit_failed(call,
                         "User '%s' failed to change the own password from %s: the old one "
                         "was wrong",
                         call->user, call->peer);
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    audit_changed(call, NULL, NULL, "The password of user '%s' was changed by the user, from %s",
                  person->name, call->peer);
    reply->body = json_pack("{s:s}", "status", "complete");
    return true;
}

bool
delete_user(Call *call, Reply *reply, GError **error)
{
    if (!people_remove(call->people, call->id, error))
        return false;
    audit_changed(call, NULL, NULL, "User '%s' was removed", call->id);
    reply->body = json_pack("{s:s}", "status", "complete");
    return true;
}
