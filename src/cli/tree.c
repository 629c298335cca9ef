/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/tree.h"
#include "base/text.h"
#include "cli/doc.h"
#include "cli/table.h"

#include <string.h>

typedef struct Node Node;
struct Node {
    const json_t *snapshot;
    Node *parent; /* NULL = a root */
    GPtrArray *children;
    bool active;
    bool on_main_line; /* the active one is here or below */
    bool drawn;
};

typedef struct {
    GPtrArray *nodes; /* of Node, by date, the active one last */
    Table *table;
    bool utf8;
} Tree;

static void
node_free(void *data)
{
    Node *node = data;

    g_ptr_array_unref(node->children);
    g_free(node);
}

static bool
is_active(const json_t *snapshot)
{
    return g_str_equal(doc_text(snapshot, "snapshot_type"), "active");
}

static int
by_date(const void *a, const void *b)
{
    const Node *x = *(Node *const *)a, *y = *(Node *const *)b;

    if (x->active != y->active)
        return x->active ? 1 : -1;
    /* The manager writes all dates in one form, in UTC: they sort as text. */
    int order = strcmp(doc_text(x->snapshot, "date"), doc_text(y->snapshot, "date"));
    return order != 0 ? order : strcmp(doc_text(x->snapshot, "id"), doc_text(y->snapshot, "id"));
}

static Node *
find_node(const Tree *tree, const char *id)
{
    for (guint i = 0; i < tree->nodes->len; i++) {
        Node *node = tree->nodes->pdata[i];
        if (*id != '\0' && g_str_equal(doc_text(node->snapshot, "id"), id))
            return node;
    }
    return NULL;
}

/* True if making parent the parent of node would close a loop: what a manager says is not trusted
 * to be a tree. */
static bool
closes_loop(const Node *node, const Node *parent)
{
    for (; parent != NULL; parent = parent->parent)
        if (parent == node)
            return true;
    return false;
}

static void
connect_nodes(Tree *tree)
{
    for (guint i = 0; i < tree->nodes->len; i++) {
        Node *node = tree->nodes->pdata[i];
        Node *parent = find_node(tree, doc_text(node->snapshot, "parent.id"));
        if (parent == NULL || closes_loop(node, parent))
            continue;
        node->parent = parent;
        g_ptr_array_add(parent->children, node);
    }
    for (guint i = 0; i < tree->nodes->len; i++) {
        Node *node = tree->nodes->pdata[i];
        for (Node *n = node->active ? node : NULL; n != NULL; n = n->parent)
            n->on_main_line = true;
    }
}

static void
add_row(Tree *tree, const Node *node, const char *prefix)
{
    const json_t *s = node->snapshot;
    const char *problem = doc_text(s, "unusable");
    const char *status = doc_text(s, "snapshot_status");
    g_autofree char *name =
        g_strconcat(prefix, node->active ? "you are here" : doc_text(s, "description"), NULL);
    g_autofree char *id = short_id(doc_text(s, "id"));
    g_autofree char *date = date_text(doc_text(s, "date"));
    g_autofree char *age = age_text(doc_text(s, "date"));
    g_autofree char *when = *age != '\0' ? g_strdup_printf("%s (%s)", date, age) : g_strdup(date);
    g_autofree char *size =
        doc_at(s, "size") != NULL ? size_text(doc_bytes(s, "size")) : g_strdup("");
    g_autofree char *state = NULL;

    if (*problem != '\0' && g_ascii_strcasecmp(problem, "true") != 0)
        state = g_strdup_printf("unusable: %s", problem);
    else if (doc_bool(s, "unusable") && g_str_equal(status, "ok"))
        state = g_strdup("unusable (can only be deleted)");
    else if (doc_bool(s, "unusable")) /* locked: that just goes on */
        state = g_strdup_printf("%s, unusable (can only be deleted)", status);
    else if (doc_bool(s, "configuration_only"))
        state = g_strdup_printf("%s, configuration only", status);
    else
        state = g_strdup(status);
    table_row(tree->table, name, id, node->active ? "" : when, size,
              node->active                         ? ""
              : doc_bool(s, "persist_memorystate") ? "yes"
                                                   : "no",
              state);
}

/* The child that carries on its parent's level: the way to the active one, else the newest. */
static Node *
heir(const Node *node)
{
    for (guint i = 0; i < node->children->len; i++) {
        Node *child = node->children->pdata[i];
        if (child->on_main_line)
            return child;
    }
    return node->children->len > 0 ? node->children->pdata[node->children->len - 1] : NULL;
}

/* Draws a level: node, what branches off it, its heir, and so on. */
static void
draw_level(Tree *tree, Node *node, const char *indent, bool root)
{
    const char *first = tree->utf8 ? "┌─ " : ",- ";
    const char *middle = tree->utf8 ? "├─ " : "|- ";
    const char *last = tree->utf8 ? "└─ " : "`- ";
    g_autofree char *deeper = g_strconcat(indent, tree->utf8 ? "│  " : "|  ", NULL);
    bool at_top = root;

    for (Node *next; node != NULL; node = next, at_top = false) {
        next = heir(node);
        g_autofree char *prefix = g_strconcat(indent,
                                              next == NULL ? last
                                              : at_top     ? first
                                                           : middle,
                                              NULL);
        node->drawn = true;
        add_row(tree, node, prefix);
        for (guint i = 0; i < node->children->len; i++)
            if (node->children->pdata[i] != next)
                draw_level(tree, node->children->pdata[i], deeper, false);
    }
}

static void
load_nodes(Tree *tree, const json_t *items)
{
    size_t i;
    json_t *snapshot;

    json_array_foreach ((json_t *)items, i, snapshot) {
        Node *node = g_new0(Node, 1);
        node->snapshot = snapshot;
        node->children = g_ptr_array_new();
        node->active = is_active(snapshot);
        g_ptr_array_add(tree->nodes, node);
    }
    g_ptr_array_sort(tree->nodes, by_date);
}

char *
tree_text(const json_t *items, unsigned width, bool utf8)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(node_free);
    g_autoptr(Table) table = table_new("NAME", "ID", "DATE", ">SIZE", "MEMORY", "STATUS", NULL);
    Tree tree = { nodes, table, utf8 };

    load_nodes(&tree, items);
    connect_nodes(&tree);
    for (guint i = 0; i < nodes->len; i++) {
        Node *node = nodes->pdata[i];
        if (node->parent == NULL)
            draw_level(&tree, node, "", true);
    }
    return table_text(table, width);
}
