/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The API without a manager: XML and JSON both ways, bad input, searches.
 */
#include "api/media.h"
#include "api/search.h"
#include "api/xml.h"
#include "api_world.h"
#include "base/log.h"

#include <string.h>

#define XML_HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

/* ---- XML and JSON ---- */

static void
test_xml_write(void)
{
    static const struct {
        const char *root, *json, *xml;
    } rows[] = {
        { "vm", "{}", "<vm/>" },
        { "vms", "{\"vm\":[]}", "<vms/>" },
        { "vms", "{\"vm\":[{\"id\":\"1\"},{\"id\":\"2\"}]}",
          "<vms><vm id=\"1\"/><vm id=\"2\"/></vms>" },
        { "vm", "{\"name\":\"a<b&\\\"c\\\"\",\"href\":\"/x?a=1&b\",\"id\":\"<\"}",
          "<vm href=\"/x?a=1&amp;b\" id=\"&lt;\"><name>a&lt;b&amp;&quot;c&quot;</name></vm>" },
        { "a", "{\"n\":42,\"t\":true,\"f\":false,\"r\":0.5,\"z\":null,\"e\":\"\"}",
          "<a><n>42</n><t>true</t><f>false</f><r>0.5</r></a>" },
        { "vm",
          "{\"actions\":{\"link\":[{\"href\":\"/s\",\"rel\":\"start\"}]},"
          "\"link\":[{\"rel\":\"disks\"}]}",
          "<vm><actions><link href=\"/s\" rel=\"start\"/></actions><link rel=\"disks\"/></vm>" },
        { "vm", "{\"disk_attachments\":{\"disk_attachment\":[{\"id\":\"1\"}]}}",
          "<vm><disk_attachments><disk_attachment id=\"1\"/></disk_attachments></vm>" },
        { "disk", "{\"pauses\":[{\"milliseconds\":3},{}],\"volumes_removed\":[\"/a\",\"/b\"]}",
          "<disk><pauses><pause><milliseconds>3</milliseconds></pause><pause/></pauses>"
          "<volumes_removed><volume>/a</volume><volume>/b</volume></volumes_removed></disk>" },
        { "disk", "{\"pauses\":[]}", "<disk><pauses/></disk>" },
        { "vm", "{\"name\":\"a\\u0001\\n\\u00e9\"}",
          "<vm><name>a\xef\xbf\xbd&#10;\xc3\xa9</name></vm>" },
        /* an id that is no text is no attribute, but nothing is lost */
        { "vm", "{\"id\":7}", "<vm><id>7</id></vm>" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(json_t) json = parse(rows[i].json);
        g_autofree char *got = xml_write(rows[i].root, json);
        g_autofree char *wanted = g_strconcat(XML_HEAD, rows[i].xml, "\n", NULL);
        g_assert_cmpstr(got, ==, wanted);
    }
}

static void
test_xml_read(void)
{
    static const struct {
        const char *root, *xml, *json;
    } rows[] = {
        { "action", "<action/>", "{}" },
        { "action", "<action></action>", "{}" },
        { NULL, XML_HEAD "<!-- c --><a><?pi x?><b>1</b><!-- c --></a>", "{\"b\":\"1\"}" },
        { "snapshot",
          "<snapshot><description>a &amp; &#x62;</description>"
          "<persist_memorystate>false</persist_memorystate></snapshot>",
          "{\"description\":\"a & b\",\"persist_memorystate\":\"false\"}" },
        { "snapshot", "<snapshot><description><![CDATA[<x>]]></description></snapshot>",
          "{\"description\":\"<x>\"}" },
        { "snapshot",
          "<snapshot><disk_attachments>\n <disk_attachment><disk id=\"D\"><image_id>N</image_id>"
          "</disk></disk_attachment>\n</disk_attachments></snapshot>",
          "{\"disk_attachments\":{\"disk_attachment\":[{\"disk\":{\"id\":\"D\","
          "\"image_id\":\"N\"}}]}}" },
        { "snapshot", "<snapshot><disk_attachments/></snapshot>", "{\"disk_attachments\":{}}" },
        { "action",
          "<action><snapshots><snapshot id=\"1\"/><snapshot id=\"2\"/></snapshots></action>",
          "{\"snapshots\":{\"snapshot\":[{\"id\":\"1\"},{\"id\":\"2\"}]}}" },
        { "vms", "<vms><vm id=\"1\"/></vms>", "{\"vm\":[{\"id\":\"1\"}]}" },
        { "vm", "<vm><link rel=\"a\"/></vm>", "{\"link\":[{\"rel\":\"a\"}]}" },
        { "vm", "<vm><name>a</name><name>b</name></vm>", "{\"name\":[\"a\",\"b\"]}" },
        { "x", "<x xmlns:y=\"urn:y\"><y:n>1</y:n></x>", "{\"n\":\"1\"}" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(json_t) got = xml_read(rows[i].xml, strlen(rows[i].xml), rows[i].root, &error);
        g_autoptr(json_t) wanted = parse(rows[i].json);
        g_assert_no_error(error);
        autolibc char *text = json_dumps(got, JSON_COMPACT);
        if (!json_equal(got, wanted))
            g_error("%s reads as %s, wanted %s", rows[i].xml, text, rows[i].json);
    }
}

/* Our own documents survive the way through XML, but for the types of scalars. */
static void
test_round_trip(void)
{
    static const char text[] =
        "{\"id\":\"1\",\"href\":\"/a\",\"name\":\"x \\u00fc <&>\",\"link\":[{\"rel\":\"r\","
        "\"href\":\"/h\"}],\"disks\":{\"disk\":[{\"id\":\"2\"},{\"id\":\"3\",\"name\":\"n\"}]}}";
    g_autoptr(json_t) document = parse(text);
    g_autofree char *xml = xml_write("vm", document);
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) back = xml_read(xml, strlen(xml), "vm", &error);

    g_assert_no_error(error);
    g_assert_true(json_equal(document, back));
}

static char *
nested(const char *open, const char *close, int levels)
{
    GString *text = g_string_new(NULL);

    for (int i = 0; i < levels; i++)
        g_string_append(text, open);
    for (int i = 0; i < levels; i++)
        g_string_append(text, close);
    return g_string_free(text, FALSE);
}

static void
test_bad_bodies(void)
{
    g_autofree char *deep_xml = nested("<a>", "</a>", 10000);
    g_autofree char *deeper_than_we = nested("<a>", "</a>", 101);
    g_autofree char *deep_json = nested("{\"a\":", "}", 10000);
    g_autofree char *deeper_json = nested("[", "]", 150);
    g_autofree char *wide_json = g_strconcat("{\"a\":", deeper_json, "}", NULL);
    const struct {
        Media media;
        const char *text, *says;
    } rows[] = {
        { MEDIA_XML, "<a>", "XML line 1" },
        { MEDIA_XML, "<a>\n<b></a>", "XML line 2" },
        { MEDIA_XML, "hello", "XML line 1" },
        { MEDIA_XML, "   ", "XML" },
        { MEDIA_XML, "<a/><b/>", "XML line 1" },
        { MEDIA_XML, "<a>\xff\xfe</a>", "XML line 1" },
        { MEDIA_XML, "<a>&x;</a>", "XML line 1" },
        { MEDIA_XML, "<!DOCTYPE a><a/>", "DOCTYPE" },
        { MEDIA_XML, "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>", "DOCTYPE" },
        { MEDIA_XML, "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>",
          "DOCTYPE" },
        { MEDIA_XML,
          "<!DOCTYPE a [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">"
          "<!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\"><!ENTITY d \"&c;&c;&c;&c;&c;&c;&c;&c;\">]>"
          "<a>&d;&d;&d;&d;&d;&d;&d;&d;</a>",
          "DOCTYPE" },
        { MEDIA_XML, "<a b=\"1\" b=\"2\"/>", "XML line 1" },
        { MEDIA_XML, "<a><b>1</b>text</a>", "text beside" },
        { MEDIA_XML, "<a>text</a>", "elements are expected" },
        { MEDIA_XML, "<b/>", "expected <a>" },
        { MEDIA_XML, deep_xml, "XML line 1" },
        { MEDIA_XML, deeper_than_we, "more than 100 levels" },
        { MEDIA_JSON, "{", "JSON line 1" },
        { MEDIA_JSON, "{\"a\":1,\n\"a\":2}", "JSON line 2" },
        { MEDIA_JSON, "{\"a\":\"\xff\"}", "JSON line 1" },
        { MEDIA_JSON, "{\"a\":\"\\u0000\"}", "JSON line 1" },
        { MEDIA_JSON, "{\"a\":\"\\ud800\"}", "JSON line 1" },
        { MEDIA_JSON, "[1]", "an object" },
        { MEDIA_JSON, "7", "JSON" },
        { MEDIA_JSON, "{} {}", "JSON line 1" },
        { MEDIA_JSON, "{\"a\":1e999}", "JSON line 1" },
        { MEDIA_JSON, "{'a':1}", "JSON line 1" },
        { MEDIA_JSON, deep_json, "JSON line 1" },
        { MEDIA_JSON, wide_json, "more than 100 levels" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        gint64 start = g_get_monotonic_time();
        g_autoptr(json_t) got =
            media_read(rows[i].media, "a", rows[i].text, strlen(rows[i].text), &error);
        if (got != NULL)
            g_error("%.60s was accepted", rows[i].text);
        g_assert_error(error, ERR, ERR_INVALID);
        if (strstr(error->message, rows[i].says) == NULL)
            g_error("%.60s: '%s' does not say '%s'", rows[i].text, error->message, rows[i].says);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
        g_assert_cmpint(g_get_monotonic_time() - start, <, 10 * G_TIME_SPAN_SECOND);
    }
    g_autoptr(json_t) empty = media_read(MEDIA_XML, "a", "", 0, NULL);
    g_assert_cmpuint(json_object_size(empty), ==, 0);
}

static void
test_negotiation(void)
{
    static const struct {
        const char *accept;
        int media; /* -1 = none */
    } rows[] = {
        { NULL, MEDIA_XML },
        { "", MEDIA_XML },
        { "*/*", MEDIA_XML },
        { "application/xml", MEDIA_XML },
        { "Application/XML; charset=utf-8", MEDIA_XML },
        { "application/json", MEDIA_JSON },
        { "application/json, */*;q=0.5", MEDIA_JSON },
        { "text/html, application/json;q=0.9, */*;q=0.8", MEDIA_JSON },
        { "application/json;q=0.2, application/xml;q=0.3", MEDIA_XML },
        { "text/html", -1 },
        { "application/json;q=0", -1 },
        { "image/png, text/css", -1 },
        { ",,;;", -1 },
    };
    Media media;

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        bool good = media_accept(rows[i].accept, &media);
        if ((good ? (int)media : -1) != rows[i].media)
            g_error("Accept '%s' gives %d, wanted %d", rows[i].accept, good ? (int)media : -1,
                    rows[i].media);
    }
    g_assert_true(media_of_body(NULL, &media, NULL) && media == MEDIA_XML);
    g_assert_true(media_of_body("application/xml; charset=UTF-8", &media, NULL) &&
                  media == MEDIA_XML);
    g_assert_true(media_of_body("application/json;x", &media, NULL) && media == MEDIA_JSON);
    g_autoptr(GError) error = NULL;
    g_assert_false(media_of_body("application/x-www-form-urlencoded", &media, &error));
    g_assert_error(error, ERR, ERR_MEDIA);
    g_assert_false(media_of_body("*/*", &media, NULL));
}

static void
test_body_readers(void)
{
    g_autoptr(json_t) body = parse(
        "{\"t\":\"x\",\"n\":5,\"r\":0.5,\"yes\":true,\"no\":\"false\",\"one\":\"1\",\"zero\":0,"
        "\"maybe\":\"maybe\",\"twice\":[\"a\",\"b\"],\"object\":{\"a\":1},\"empty\":{},\"z\":null,"
        "\"list\":{\"m\":[{\"id\":\"1\"}]},\"flat\":[{\"id\":\"1\"}],\"single\":{\"m\":{\"id\":"
        "\"1\"}},"
        "\"blank\":\"\\n \",\"texts\":[\"a\"],\"other\":{\"q\":1}}");
    static const struct {
        const char *key, *text; /* NULL = absent; "!" = error */
    } texts[] = {
        { "t", "x" },      { "n", "5" },  { "r", "0.5" },   { "yes", "true" }, { "gone", NULL },
        { "empty", NULL }, { "z", NULL }, { "twice", "!" }, { "object", "!" },
    };
    static const struct {
        const char *key;
        int flag; /* 2 = unchanged, -1 = error */
    } flags[] = { { "yes", 1 },    { "no", 0 },   { "one", 1 },   { "zero", 0 },
                  { "maybe", -1 }, { "gone", 2 }, { "twice", -1 } };
    static const struct {
        const char *key;
        int size; /* -1 = absent, -2 = error */
    } lists[] = { { "list", 1 },  { "flat", 1 }, { "single", 1 }, { "empty", 0 }, { "blank", 0 },
                  { "gone", -1 }, { "z", -1 },   { "texts", -2 }, { "t", -2 },    { "other", -2 } };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *text = NULL;
        bool good = body_text(body, texts[i].key, &text, NULL);
        g_assert_cmpstr(good ? text : "!", ==, texts[i].text);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
        bool on = false, off = true;
        bool good = body_flag(body, flags[i].key, &on, NULL);
        body_flag(body, flags[i].key, &off, NULL);
        g_assert_cmpint(!good ? -1 : on != off ? 2 : on, ==, flags[i].flag);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        g_autoptr(json_t) list = NULL;
        bool good = body_list(body, lists[i].key, "m", &list, NULL);
        g_assert_cmpint(!good          ? -2
                        : list == NULL ? -1
                                       : (int)json_array_size(list),
                        ==, lists[i].size);
    }
}

/* ---- searches ---- */

static void
test_search(void)
{
    static const struct {
        const char *text;
        bool exact;
        int64_t max;
        const char *names; /* of what is found; "!" = error */
    } rows[] = {
        { "", false, -1, "web1 web2 DB" },
        { "name=web1", false, -1, "web1" },
        { "name = web1", false, -1, "web1" },
        { "name=\"web1\"", false, -1, "web1" },
        { "Vms: name=\"web1\"", false, -1, "web1" },
        { "name=WEB1", false, -1, "web1" },
        { "name=WEB1", true, -1, "" },
        { "name=web*", false, -1, "web1 web2" },
        { "name=\"*\"", false, -1, "web1 web2 DB" },
        { "name=*b*1", false, -1, "web1" },
        { "id=2", false, -1, "web2" },
        { "name!=web1", false, -1, "web2 DB" },
        { "memory > 5", false, -1, "web2 DB" },
        { "memory>=10 and memory<=10", false, -1, "web2" },
        { "status=up and name=web*", false, -1, "web1" },
        { "name=db or name=web1 and status=up", false, -1, "web1 DB" },
        { "name=web1 or name=web2 or name=db", false, -1, "web1 web2 DB" },
        { "web1", false, -1, "web1" },
        { "up", false, -1, "web1 DB" },
        { "host.name=h1", false, -1, "web1" },
        { "sortby name desc", false, -1, "web2 web1 DB" },
        { "sortby memory", false, -1, "web1 web2 DB" },
        { "", false, 2, "web1 web2" },
        { "", false, 0, "" },
        { "page 2", false, 2, "DB" },
        { "page 9", false, 2, "" },
        { "sortby memory desc page 1", false, 1, "DB" },
        { "page 2", false, -1, "" },
        { "(name=web1)", false, -1, "web1" },
        { "(name=db or name=web1) and status=up", false, -1, "web1 DB" },
        { "status=up and (name=web2 or name=db)", false, -1, "DB" },
        { "(name=db or name=web2) and (status=up or memory<5)", false, -1, "DB" },
        { "((name=web*) and (status=down or (memory<5 and id=1))) or id=9", false, -1,
          "web1 web2" },
        { "(up)(web1)", false, -1, "web1" },
        { "Vms:(name = \"web1\" OR name = \"DB\") sortby name desc page 1", false, 1, "web1" },
        { "name=web(1)", false, -1, "" },
        { "(name!=web(1))and(name=web(*) or id=2)", false, -1, "web2" },
        { "\"(web1)\"", false, -1, "" },
        { "(name=web1", false, -1, "!" },
        { "name=web1)", false, -1, "!" },
        { "()", false, -1, "!" },
        { "name=web1 and ()", false, -1, "!" },
        { "(name=web1 and)", false, -1, "!" },
        { "(name=web1 sortby name)", false, -1, "!" },
        { "(name=)", false, -1, "!" },
        { "name (= web1)", false, -1, "!" },
        { "name=web1 and sortby name", false, -1, "!" },
        { "name=web1 or page 2", false, -1, "!" },
        { "page 1 name=web1", false, -1, "!" },
        { "name=web1 or and name=web2", false, -1, "!" },
        { "name=web1 and or name=web2", false, -1, "!" },
        { "colour=red", false, -1, "!" },
        { "name=", false, -1, "!" },
        { "name=\"web1", false, -1, "!" },
        { "=web1", false, -1, "!" },
        { "and name=web1", false, -1, "!" },
        { "name=web1 and", false, -1, "!" },
        { "name==web1", false, -1, "!" },
        { "name=web1 page x", false, -1, "!" },
        { "sortby", false, -1, "!" },
        { "\xff", false, -1, "!" },
    };
    g_autoptr(json_t) vms =
        parse("[{\"id\":\"1\",\"name\":\"web1\",\"status\":\"up\",\"memory\":2,\"host\":{\"name\":"
              "\"h1\"}},"
              "{\"id\":\"2\",\"name\":\"web2\",\"status\":\"down\",\"memory\":10},"
              "{\"id\":\"3\",\"name\":\"DB\",\"status\":\"up\",\"memory\":100}]");

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Search) search = search_parse("vm", rows[i].text, rows[i].exact, &error);
        g_autoptr(json_t) found =
            search != NULL ? search_apply(search, vms, NULL, rows[i].max) : json_array();
        g_autoptr(GString) names = g_string_new(search == NULL ? "!" : "");
        json_t *vm;
        size_t j;
        if (search == NULL)
            g_assert_error(error, ERR, ERR_INVALID);
        json_array_foreach (found, j, vm)
            g_string_append_printf(names, "%s%s", j > 0 ? " " : "", json_text(vm, "name"));
        if (!g_str_equal(names->str, rows[i].names))
            g_error("search '%s' finds '%s', wanted '%s'", rows[i].text, names->str, rows[i].names);
    }
}

/* Parentheses by the thousand end in an error, not in a stack that is too small. */
static void
test_search_deep(void)
{
    static const struct {
        int open;
        bool good;
    } rows[] = { { 50, true }, { 51, false }, { 200000, false } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *open = g_strnfill((gsize)rows[i].open, '(');
        g_autofree char *close = g_strnfill((gsize)rows[i].open, ')');
        g_autofree char *text = g_strconcat(open, "name=web1", close, NULL);
        g_autoptr(GError) error = NULL;
        g_autoptr(Search) search = search_parse("vm", text, false, &error);
        g_assert_true((search != NULL) == rows[i].good);
        if (!rows[i].good)
            g_assert_error(error, ERR, ERR_INVALID);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_test");
    xml_init();
    g_test_add_func("/api/xml-write", test_xml_write);
    g_test_add_func("/api/xml-read", test_xml_read);
    g_test_add_func("/api/round-trip", test_round_trip);
    g_test_add_func("/api/bad-bodies", test_bad_bodies);
    g_test_add_func("/api/negotiation", test_negotiation);
    g_test_add_func("/api/body-readers", test_body_readers);
    g_test_add_func("/api/search", test_search);
    g_test_add_func("/api/search-deep", test_search_deep);
    return g_test_run();
}
