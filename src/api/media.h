/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Media types: what the client wants (Accept), what it sent (Content-Type), and readers of what it
 * sent, which take XML's texts and JSON's scalars alike: true is "true", 1 is "1".
 *
 * Ownership: results of media_* belong to the caller, results of body_* are borrowed from the body.
 * Threads: any.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#include <stdint.h>

typedef enum { MEDIA_XML, MEDIA_JSON } Media;

/* False = nothing that we can write is accepted (406). NULL means "anything". */
bool media_accept(const char *accept, Media *ret_media);
/* ERR_MEDIA for anything but XML and JSON. NULL means XML. */
bool media_of_body(const char *content_type, Media *ret_media, GError **error);
const char *media_type(Media media);

char *media_write(Media media, const char *root, const json_t *document);
/* Always an object. ERR_INVALID says where the fault is. */
json_t *media_read(Media media, const char *root, const char *text, size_t size, GError **error);

/* Absent (or null, or an empty element) gives true and *ret NULL resp. unchanged; a member of the
 * wrong kind is ERR_INVALID that names it. Numbers read as text give their digits. */
bool body_text(const json_t *body, const char *key, char **ret_text, GError **error);
bool body_flag(const json_t *body, const char *key, bool *ret_flag, GError **error);
/* The members of a collection: {"disks":{"disk":[..]}}, also {"disks":[..]}. A new array; NULL
 * without an error = absent. */
bool body_list(const json_t *body, const char *key, const char *member, json_t **ret_list,
               GError **error);
/* "true", "yes", "1" and so on, as oVirt reads query parameters; invalid = fallback */
bool flag_from_text(const char *text, bool fallback);
