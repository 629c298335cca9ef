/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The web page: the files that Vite made of web/ and the build put into the program.
 *
 * Promise: a file is answered as it was built, packed if the browser takes that, with a tag by
 * which it is not fetched again; a policy lets the page load nothing from elsewhere and run no
 * script inside its text. What is not one of its files is nobody's business here. Built without
 * Node.js, "/" says that there is no page.
 *
 * Ownership: the response is the caller's. Threads: any.
 */
#pragma once

#include "http/http.h"

/* False if the path is none of the page's: nothing was filled in then. */
bool page_answer(const HttpRequest *request, HttpResponse *response);
