/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libFuzzer target: any bytes as the body of a request, in XML or in JSON, through the readers that
 * handlers use. The first byte chooses the medium, and whether a root element is wanted. What comes
 * out is an object or an error; the fault that tells it can be read by every client. tests/fuzz/run
 * builds and runs it.
 */
#include "api/media.h"
#include "api/xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
demand(bool is_so, const char *what)
{
    if (is_so)
        return;
    fprintf(stderr, "it is not so: %s\n", what);
    abort();
}

/* As exchange.c tells it. */
static void
tell_fault(const GError *problem)
{
    g_autofree char *valid = g_utf8_make_valid(problem->message, -1);
    g_autoptr(json_t) fault = json_pack("{s:s, s:s}", "detail", valid, "reason", "x");
    g_autoptr(GError) error = NULL;

    demand(problem->domain == ERR && *valid != '\0', "an error has a text");
    demand(fault != NULL, "a fault can be made of it");
    g_autofree char *xml = media_write(MEDIA_XML, "fault", fault);
    g_autofree char *json = media_write(MEDIA_JSON, "fault", fault);
    g_autoptr(json_t) again = media_read(MEDIA_XML, "fault", xml, strlen(xml), &error);
    g_autoptr(json_t) same = media_read(MEDIA_JSON, "fault", json, strlen(json), NULL);
    demand(again != NULL && same != NULL, "the fault can be read");
}

static void
read_member(const json_t *body, const char *key)
{
    g_autoptr(GError) text_error = NULL, flag_error = NULL, list_error = NULL;
    g_autofree char *text = NULL;
    g_autoptr(json_t) list = NULL;
    bool flag = false;

    if (!body_text(body, key, &text, &text_error))
        tell_fault(text_error);
    if (!body_flag(body, key, &flag, &flag_error))
        tell_fault(flag_error);
    if (!body_list(body, key, "snapshot", &list, &list_error))
        tell_fault(list_error);
    demand(list == NULL || json_is_array(list), "a list is one");
}

static void
read_members(const json_t *body)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)body, key, value) {
        read_member(body, key);
        if (json_is_object(value))
            read_members(value);
    }
    read_member(body, "absent");
}

/* What was read from XML is written as XML again. */
static void
write_again(const json_t *body)
{
    g_autofree char *text = xml_write("again", body);
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) again = xml_read(text, strlen(text), "again", &error);

    /* text alone is no document of ours, and empty texts are left out */
    demand(again != NULL || json_object_size(body) == 0 || error != NULL, "it is told why not");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;

    if (size == 0)
        return 0;
    xml_init();
    Media media = (data[0] & 1) != 0 ? MEDIA_JSON : MEDIA_XML;
    const char *root = (data[0] & 2) != 0 ? NULL : "action";
    g_autofree char *text = g_memdup2(data + 1, size - 1); /* no byte more than it has */
    g_autoptr(json_t) body = media_read(media, root, text, size - 1, &error);

    demand((body != NULL) != (error != NULL), "a body or an error");
    if (error != NULL)
        tell_fault(error);
    if (body == NULL)
        return 0;
    demand(json_is_object(body), "a body is an object");
    read_members(body);
    if (media == MEDIA_XML)
        write_again(body);
    g_autofree char *json = media_write(MEDIA_JSON, "x", body);
    demand(*json == '{', "it can be written as JSON");
    return 0;
}
