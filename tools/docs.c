/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * docs DIRECTORY: writes the documents that are made from the program's tables: states.md,
 * routes.md and openapi.json. 'make docs' calls it; the unit tests tell when it was forgotten.
 */
#include "api/openapi.h"
#include "model/verbs.h"

static bool
write_text(const char *directory, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(directory, name, NULL);
    g_autoptr(GError) error = NULL;

    if (g_file_set_contents(path, text, -1, &error))
        return true;
    g_printerr("docs: %s\n", error->message);
    return false;
}

int
main(int argc, char **argv)
{
    g_autofree char *states = states_document();
    g_autofree char *openapi = openapi_text();
    g_autofree char *routes = routes_document();

    if (argc != 2) {
        g_printerr("usage: docs DIRECTORY\n");
        return 2;
    }
    return write_text(argv[1], "states.md", states) &&
                   write_text(argv[1], "openapi.json", openapi) &&
                   write_text(argv[1], "routes.md", routes)
               ? 0
               : 1;
}
