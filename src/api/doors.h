/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What stands beside the API's tree and is answered without a sign-in: getting and revoking tokens
 * as oVirt's clients do it, the page's session, and the certificate authority. JSON in, JSON out.
 */
#pragma once

#include "api/routes.h"

typedef struct {
    const char *method;
    const char *path; /* whole */
    void (*answer)(Api *api, const HttpRequest *request, HttpResponse *response);
} Door;
extern const Door api_doors[]; /* ends with a row of NULLs */

/* False = it is none of these paths. */
bool doors_answer(Api *api, const HttpRequest *request, HttpResponse *response);
