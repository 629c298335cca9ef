/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/tell.h"

#include "api/document.h"

bool
tell_from_text(const char *text, unsigned *ret_tell, GError **error)
{
    static const char *const words[] = { "event", "job", "vm", NULL };
    g_auto(GStrv) parts = g_strsplit(text != NULL ? text : "event,job,vm", ",", -1);

    *ret_tell = 0;
    for (char **part = parts; *part != NULL; part++) {
        unsigned i = 0;
        while (words[i] != NULL && !g_str_equal(words[i], g_strstrip(*part)))
            i++;
        if (words[i] == NULL)
            return error_set(error, ERR_INVALID,
                             "parameter 'types': '%.40s' is none of event, job, vm", *part);
        *ret_tell |= 1u << i;
    }
    return true;
}

static void
put_json(GString *into, const char *name, const json_t *doc)
{
    autolibc char *text = json_dumps(doc, JSON_COMPACT);

    g_string_append_printf(into, "event: %s\ndata: %s\n\n", name, text != NULL ? text : "{}");
}

void
tell_event(GString *into, const EventRow *row)
{
    g_autoptr(json_t) doc = event_document(row);

    g_string_append_printf(into, "id: %" G_GINT64_FORMAT "\n", row->id);
    put_json(into, "event", doc);
}

void
tell_job(GString *into, const json_t *job)
{
    g_autoptr(json_t) doc = job_document(job);

    put_json(into, "job", doc);
}

void
tell_vm(GString *into, Manager *manager, const char *id)
{
    g_autoptr(Vm) vm = manager_vm(manager, id, NULL);
    g_autoptr(json_t) doc = doc_new(id, "/vms/%s", id);

    doc_text(doc, "name", vm != NULL ? vm->name : NULL);
    doc_text(doc, "status", vm != NULL ? vm_state_word(vm->state) : NULL);
    doc_flag(doc, "gone", vm == NULL);
    put_json(into, "vm", doc);
}
