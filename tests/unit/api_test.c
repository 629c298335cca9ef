/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The API: documents, XML and JSON both ways, bad input, searches, and the whole of it
 * over a local socket with a real manager and an agent that the test plays.
 */
#include "api/api.h"
#include "api/media.h"
#include "api/routes.h"
#include "api/search.h"
#include "api/xml.h"
#include "api_world.h"
#include "base/clock.h"
#include "base/log.h"

#include <glib/gstdio.h>
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
        g_assert_cmpint(g_get_monotonic_time() - start, <, G_TIME_SPAN_SECOND);
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
            search != NULL ? search_apply(search, vms, rows[i].max) : json_array();
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

/* ---- documents ---- */

static void
test_vm_document(void)
{
    g_autoptr(Vm) vm = sample_vm();
    g_autoptr(json_t) doc = vm_document(vm, NULL, "h");

    assert_at(doc, "id", "\"" VM_ID "\"");
    assert_at(doc, "href", "\"/ovirt-engine/api/vms/" VM_ID "\"");
    assert_at(doc, "name", "\"web1\"");
    assert_at(doc, "status", "\"up\"");
    assert_at(doc, "display.type", "\"vnc\"");
    assert_at(doc, "cpu.topology.sockets", "2");
    assert_at(doc, "memory", "1073741824");
    assert_at(doc, "host.id", "\"h\"");
    assert_at(doc, "template.id", "\"" API_NIL_ID "\"");
    assert_at(doc, "unmanaged", NULL);
    assert_at(doc, "has_illegal_images", NULL);
    g_assert_nonnull(at(doc, "cluster.id"));
    g_assert_nonnull(at(doc, "actions.link.0.href"));

    ((SnapshotDisk *)vm_snapshot(vm, SNAP_1)->disks->pdata[0])->unusable = true;
    vm->state = VM_DOWN;
    vm->unmanaged = g_strdup("why");
    g_autoptr(json_t) down = vm_document(vm, NULL, "h");
    assert_at(down, "has_illegal_images", "true");
    assert_at(down, "host", NULL);
    assert_at(down, "unmanaged", "\"why\"");
    g_autofree char *xml = xml_write("vm", down);
    g_assert_null(strstr(xml, "<description"));
    g_assert_nonnull(strstr(xml, "<boot><devices><device>hd</device></devices></boot>"));
}

static void
test_disk_documents(void)
{
    g_autoptr(Vm) vm = sample_vm();
    g_autoptr(json_t) a = disk_document(vm, vm_disk(vm, "vda"));
    g_autoptr(json_t) b = disk_document(vm, vm_disk(vm, "vdb"));
    g_autoptr(json_t) attachment = disk_attachment_document(vm, vm_disk(vm, "vda"));

    assert_at(a, "name", "\"web1_vda\"");
    assert_at(a, "status", "\"ok\"");
    assert_at(a, "format", "\"cow\"");
    assert_at(a, "provisioned_size", "1073741824");
    assert_at(a, "actual_size", "30");
    assert_at(a, "total_size", "130");
    assert_at(a, "image_id", "\"44444444-0000-4000-8000-000000000002\"");
    assert_at(a, "volumes.volume.0.path", "\"/images/base.qcow2\"");
    assert_at(a, "volumes.volume.1.allocated", "30");
    assert_at(a, "vms.vm.0.name", "\"web1\"");
    g_assert_nonnull(at(a, "storage_domains.storage_domain.0.id"));
    assert_at(b, "unmanaged", "\"network disk\"");
    assert_at(b, "volumes.volume", "[]");
    assert_at(attachment, "href", "\"/ovirt-engine/api/vms/" VM_ID "/diskattachments/" DISK_A "\"");
    assert_at(attachment, "bootable", "true");
    assert_at(attachment, "interface", "\"virtio\"");
    assert_at(attachment, "logical_name", "\"/dev/vda\"");
    g_assert_true(disk_find(vm, "web1_vda") == disk_find(vm, DISK_A));
    g_assert_null(disk_find(vm, "vdz"));

    const Snapshot *one = vm_snapshot(vm, SNAP_1);
    g_autoptr(json_t) part = snapshot_disk_document(vm, one, one->disks->pdata[0]);
    assert_at(part, "image_id", "\"44444444-0000-4000-8000-000000000001\"");
    assert_at(part, "actual_size", "100");
    assert_at(part, "snapshot.id", "\"" SNAP_1 "\"");
}

static void
test_snapshot_documents(void)
{
    g_autoptr(Vm) vm = sample_vm();
    Snapshot *one = vm_snapshot(vm, SNAP_1);
    g_autoptr(json_t) regular = snapshot_document(vm, one, false);
    g_autoptr(json_t) locked = snapshot_document(vm, one, true);
    g_autoptr(json_t) active = active_snapshot_document(vm);
    g_autofree char *first_id = active_snapshot_id(vm);

    assert_at(regular, "description", "\"before update\"");
    assert_at(regular, "date", "\"2023-11-14T22:13:20.123Z\"");
    assert_at(regular, "snapshot_status", "\"ok\"");
    assert_at(regular, "snapshot_type", "\"regular\"");
    assert_at(regular, "persist_memorystate", "false");
    assert_at(regular, "vm.name", "\"web1\"");
    assert_at(regular, "size", "100");
    assert_at(regular, "unusable", NULL);
    assert_at(locked, "snapshot_status", "\"locked\"");
    assert_at(active, "snapshot_type", "\"active\"");
    assert_at(active, "description", "\"Active VM\"");
    assert_at(active, "vm", NULL);
    assert_at(active, "link", NULL);
    assert_at(active, "parent.id", "\"" SNAP_1 "\"");
    g_assert_cmpstr(json_text(active, "id"), ==, first_id);
    g_assert_true(g_uuid_string_is_valid(first_id));

    /* the id goes with the leaf */
    add_volume(vm_disk(vm, "vda"), "44444444-0000-4000-8000-000000000003", "/images/3", "qcow2", 1);
    g_autofree char *second_id = active_snapshot_id(vm);
    g_assert_cmpstr(first_id, !=, second_id);

    one->memory = g_strdup("/images/m");
    one->memory_size = 5;
    ((SnapshotDisk *)one->disks->pdata[0])->unusable = true;
    g_autoptr(json_t) with_memory = snapshot_document(vm, one, false);
    assert_at(with_memory, "persist_memorystate", "true");
    assert_at(with_memory, "size", "105");
    assert_at(with_memory, "unusable", "true");
}

static void
test_job_document(void)
{
    g_autoptr(json_t) job = parse(
        "{\"id\":\"J\",\"kind\":\"remove-snapshots\",\"description\":\"d\",\"vm_id\":\"V\","
        "\"vm_name\":\"web1\",\"snapshots\":[\"S\"],\"correlation_id\":\"c\",\"status\":"
        "\"finished\","
        "\"start_time\":1700000000123,\"end_time\":1700000001123,\"last_updated\":1700000001123,"
        "\"progress\":{\"percent\":100},\"error\":null,\"rev\":7,"
        "\"disks\":[{\"id\":\"D\",\"strategy\":\"commit\",\"seconds\":1.25,"
        "\"pauses\":[{\"kind\":\"pivot\",\"milliseconds\":12}],\"volumes_removed\":[\"/v\"]}],"
        "\"steps\":[{\"id\":\"T\",\"description\":\"merge\",\"status\":\"finished\","
        "\"start_time\":1700000000123,\"end_time\":0,\"progress\":50,\"number\":0}]}");
    g_autoptr(json_t) doc = job_document(job);
    g_autoptr(json_t) step = step_document(json_array_get(json_object_get(job, "steps"), 0), "J");
    g_autofree char *xml = xml_write("job", doc);

    assert_at(doc, "href", "\"/ovirt-engine/api/jobs/J\"");
    assert_at(doc, "start_time", "\"2023-11-14T22:13:20.123Z\"");
    assert_at(doc, "end_time", "\"2023-11-14T22:13:21.123Z\"");
    assert_at(doc, "disks.disk.0.seconds", "1.25");
    assert_at(doc, "snapshots.snapshot.0.id", "\"S\"");
    assert_at(doc, "actions", NULL); /* nothing left to cancel */
    assert_at(doc, "rev", "7");
    assert_at(doc, "error", NULL);
    g_assert_nonnull(strstr(xml, "<pauses><pause><kind>pivot</kind><milliseconds>12</milliseconds>"
                                 "</pause></pauses><volumes_removed><volume>/v</volume>"));
    assert_at(step, "href", "\"/ovirt-engine/api/jobs/J/steps/T\"");
    assert_at(step, "progress", "50");
    assert_at(step, "end_time", NULL);
}

/* Each path once per method, each link of the root document served. */
static void
test_routes_table(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (const Route *route = api_routes; route->method != NULL; route++) {
        char *key = g_strconcat(route->method, " ", route->path, NULL);
        if (!g_hash_table_add(seen, key))
            g_error("%s is there twice", key);
        g_assert_nonnull(route->handler);
        g_assert_nonnull(route->root);
        bool sends = g_str_equal(route->method, "POST") || g_str_equal(route->method, "PUT");
        g_assert_cmpint(route->body_root != NULL, ==, sends);
    }
}

static void
test_options(void)
{
    static const struct {
        const char *listen, *says; /* NULL = good with TLS */
        bool open;                 /* good without TLS, too */
    } rows[] = {
        { "127.0.0.1:8443", NULL, true },
        { "[::1]:0", NULL, true },
        { "localhost:1", NULL, true },
        { "127.1.2.3:80", NULL, true },
        { "", NULL, true },
        { "0.0.0.0:8443", NULL, false },
        { "[::]:8443", NULL, false },
        { "192.0.2.1:1", NULL, false },
        { "host:1", NULL, false },
        { ":8443", "ADDRESS:PORT" },
        { "127.0.0.1", "ADDRESS:PORT" },
        { "127.0.0.1:99999", "ADDRESS:PORT" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        ApiOptions options = { .listen = rows[i].listen, .tls = true, .socket = "/run/x.sock" };
        g_autoptr(GError) error = NULL;
        bool good = api_options_check(&options, &error);
        g_assert_cmpint(good, ==, rows[i].says == NULL);
        if (!good && strstr(error->message, rows[i].says) == NULL)
            g_error("listen=%s: '%s'", rows[i].listen, error->message);
        if (rows[i].says != NULL)
            continue;
        options.tls = false;
        g_assert_cmpint(api_options_check(&options, &error), ==, rows[i].open);
        if (!rows[i].open)
            g_assert_nonnull(strstr(error->message, "tls = yes"));
    }
}

/* ---- the whole of it ---- */

static void
check_reading(World *w)
{
    static const char *const xml[] = { "Accept: application/xml", NULL };
    static const char *const html[] = { "Accept: text/html", NULL };
    static const char *const version[] = { "Version: 3", NULL };
    static const char *const origin[] = { "Origin: https://example.org", NULL };

    call(w, "GET", PATH(""), NULL, NULL);
    g_assert_cmpint(w->answer.status, ==, 200);
    g_assert_cmpstr(w->answer.content_type, ==, "application/xml;charset=UTF-8");
    g_assert_nonnull(strstr(w->answer.body, "href=\"/ovirt-engine/api/vms?search={query}\" "
                                            "rel=\"vms/search\"")
                         ?: strstr(w->answer.body,
                                   "rel=\"vms/search\" "
                                   "href=\"/ovirt-engine/api/vms?search={query}\""));
    json_call(w, "GET", PATH("/"), NULL, 200);
    assert_at(w->doc, "product_info.version.minor", "5");
    assert_at(w->doc, "product_info.name", "\"livemerge\"");
    call(w, "GET", PATH("/v4/vms/"), xml, NULL);
    g_assert_cmpint(w->answer.status, ==, 200);
    g_assert_nonnull(strstr(w->answer.body, "<vms><vm id=\"" VM_ID "\""));
    call(w, "GET", PATH("/vms"), xml, "<action></action>"); /* libgovirt */
    g_assert_cmpint(w->answer.status, ==, 200);
    call(w, "HEAD", PATH("/vms"), xml, NULL);
    g_assert_cmpint(w->answer.status, ==, 200);

    call(w, "GET", PATH("/vms"), html, NULL);
    g_assert_cmpint(w->answer.status, ==, 406);
    call(w, "GET", PATH("/vms"), version, NULL);
    g_assert_cmpint(w->answer.status, ==, 400);
    call(w, "GET", PATH("/vms"), origin, NULL);
    g_assert_cmpint(w->answer.status, ==, 403);
    json_call(w, "GET", PATH("/v3/vms"), NULL, 400);
    json_call(w, "GET", g_strdup("/elsewhere"), NULL, 404);
    assert_at(w->doc, "reason", "\"Operation Failed\"");
    json_call(w, "GET", g_strdup("/ovirt-engine/apix"), NULL, 404);
    json_call(w, "GET", PATH("/nothing"), NULL, 404);
    json_call(w, "DELETE", PATH("/vms"), NULL, 405);
    json_call(w, "PUT", PATH("/jobs"), "{}", 405);
    json_call(w, "GET", PATH("/vms?search=colour%%3Dred"), NULL, 400);
    json_call(w, "GET", PATH("/vms?search=name%%3D%%22web1%%22&case_sensitive=true&follow="), NULL,
              200);
    assert_at(w->doc, "vm.0.name", "\"web1\"");
    assert_at(w->doc, "vm.1", NULL);
    json_call(w, "GET", PATH("/vms;max=0?search=name=web1"), NULL, 200);
    assert_at(w->doc, "vm", "[]");
    json_call(w, "GET", PATH("/vms?max=x"), NULL, 400);
    json_call(w, "GET", PATH("/vms?follow=disk_attachments.disk,snapshots"), NULL, 200);
    assert_at(w->doc, "vm.0.disk_attachments.disk_attachment.0.disk.name", "\"web1_vda\"");
    assert_at(w->doc, "vm.0.snapshots.snapshot.1.description", "\"before update\"");
}

/* An action is there for POST alone. */
static void
check_served(World *w, const char *href)
{
    static const char *const headers[] = { "Accept: application/json", NULL };

    call(w, "GET", g_strdup(href), headers, NULL);
    if (w->answer.status != 200 &&
        (w->answer.status != 405 || strstr(w->answer.body, "possible: POST") == NULL))
        g_error("%s: %d: %s", href, w->answer.status, w->answer.body);
}

/* Every path that a document names is served. */
static void
check_links(World *w)
{
    static const char *const starts[] = {
        "",
        "/vms/" VM_ID,
        "/vms/" VM_ID "/snapshots/" SNAP_1,
        "/hosts",
        "/disks",
        "/templates",
        "/storagedomains",
        "/datacenters",
        "/clusters",
        "/events",
        "/jobs",
        "/vms/" VM_ID "/diskattachments",
    };
    unsigned links = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(starts); i++) {
        json_call(w, "GET", PATH("%s", starts[i]), NULL, 200);
        g_autofree char *text = g_strdup(w->answer.body);
        g_autoptr(GRegex) regex = g_regex_new("\"href\": ?\"(/[^\"{;]*[^\"{;=?])\"", 0, 0, NULL);
        g_autoptr(GMatchInfo) match = NULL;
        g_regex_match(regex, text, 0, &match);
        for (; g_match_info_matches(match); g_match_info_next(match, NULL)) {
            g_autofree char *href = g_match_info_fetch(match, 1);
            if (strstr(href, "?") != NULL)
                continue;
            check_served(w, href);
            links++;
        }
    }
    g_assert_cmpuint(links, >, 100);
}

static void
check_snapshots_listed(World *w)
{
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots"), NULL, 200);
    assert_at(w->doc, "snapshot.0.snapshot_type", "\"active\"");
    assert_at(w->doc, "snapshot.1.id", "\"" SNAP_1 "\"");
    assert_at(w->doc, "snapshot.2", NULL);
    g_autofree char *active = g_strdup(json_text(at(w->doc, "snapshot.0"), "id"));
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/%s", active), NULL, 200);
    json_call(w, "DELETE", PATH("/vms/" VM_ID "/snapshots/%s", active), NULL, 409);
    json_call(w, "PUT", PATH("/vms/" VM_ID "/snapshots/%s", active), "{\"description\":\"x\"}",
              409);
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/None"), NULL, 404);
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/" SNAP_2), NULL, 404);
    json_call(w, "DELETE", PATH("/vms/" VM_ID "/snapshots/" SNAP_2), NULL, 404);
    json_call(w, "GET", PATH("/vms/" SNAP_2 "/snapshots"), NULL, 404);
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/" SNAP_1 "/disks"), NULL, 200);
    assert_at(w->doc, "disk.0.id", "\"" DISK_A "\"");
}

static void
check_bad_requests(World *w)
{
    g_autofree char *long_name = g_strnfill(4096, 'n');
    g_autofree char *long_body = g_strdup_printf("{\"description\":\"%s\"}", long_name);
    const struct {
        const char *method, *path, *body;
        int status;
        const char *says;
    } rows[] = {
        { "POST", "/snapshots", "{}", 400, "Snapshot [description] required for doAdd" },
        { "POST", "/snapshots", "{\"description\":\"\"}", 400, "required" },
        { "POST", "/snapshots", "{\"description\":[\"a\",\"b\"]}", 400, "more than once" },
        { "POST", "/snapshots", "{\"description\":\"a\\nb\"}", 400, "control character" },
        { "POST", "/snapshots", long_body, 400, "4096 bytes" },
        { "POST", "/snapshots", "{\"description\":\"a\",\"persist_memorystate\":\"x\"}", 400,
          "true or false" },
        { "POST", "/snapshots", "{\"description\":\"a\",\"quiesce\":\"x\"}", 400, "quiesce" },
        { "POST", "/snapshots",
          "{\"description\":\"a\",\"disk_attachments\":{\"disk_attachment\":[{\"disk\":"
          "{\"id\":\"vdz\"}}]}}",
          400, "no disk 'vdz'" },
        { "POST", "/snapshots",
          "{\"description\":\"a\",\"disk_attachments\":[{\"id\":\"" DISK_A "\"},{\"disk\":"
          "{\"name\":\"vda\"}}]}",
          400, "named twice" },
        { "POST", "/snapshots", "{\"description\":\"a\",\"disk_attachments\":[{}]}", 400,
          "names no disk" },
        { "POST", "/snapshots", "{\"description\":\"a\",\"disk_attachments\":{}}", 400,
          "configuration alone" },
        { "POST", "/snapshots", "{\"description\":\"a\"", 400, "JSON line 1" },
        { "PUT", "/snapshots/" SNAP_1, "{}", 400, "required" },
        { "PUT", "/snapshots/" SNAP_2, "{\"description\":\"a\"}", 404, SNAP_2 },
        { "POST", "/removesnapshots", "{}", 400, "no snapshot is named" },
        { "POST", "/removesnapshots", "{\"snapshots\":{\"snapshot\":[{}]}}", 400, "no id" },
        { "POST", "/removesnapshots", "{\"snapshots\":[{\"id\":\"" SNAP_2 "\"}]}", 400, SNAP_2 },
        { "POST", "/removesnapshots",
          "{\"snapshots\":[{\"id\":\"" SNAP_1 "\"},{\"id\":\"" SNAP_1 "\"}]}", 400, "named twice" },
        { "POST", "/removesnapshots",
          "{\"snapshots\":[{\"id\":\"" SNAP_1 "\"}],\"strategy\":\"fast\"}", 400, "commit-active" },
        { "POST", "/removesnapshots",
          "{\"snapshots\":[{\"id\":\"" SNAP_1 "\"}],\"bandwidth\":\"-1\"}", 400, "bandwidth" },
        { "POST", "/removesnapshots",
          "{\"snapshots\":[{\"id\":\"" SNAP_1 "\"}],\"bandwidth\":\"1x\"}", 400, "bandwidth" },
        { "POST", "/removesnapshots",
          "{\"snapshots\":[{\"id\":\"" SNAP_1 "\"}],\"disk\":{\"id\":\"vdz\"}}", 400, "vdz" },
        { "DELETE", "/snapshots/" SNAP_1 "?strategy=fast", NULL, 400, "commit-active" },
        { "POST", "/removesnapshots",
          "{\"snapshots\":[{\"id\":\"" SNAP_1 "\"}],\"verify\":\"maybe\"}", 400, "extents" },
        { "POST", "/removesnapshots",
          "{\"snapshots\":[{\"id\":\"" SNAP_1 "\"}],\"dry_run\":\"maybe\"}", 400, "dry_run" },
        { "POST", "/removesnapshots", "{\"snapshots\":[{\"id\":\"" SNAP_2 "\"}],\"dry_run\":true}",
          400, SNAP_2 },
        { "DELETE", "/snapshots/" SNAP_1 "?disk=vdz", NULL, 400, "vdz" },
        { "DELETE", "/snapshots/" SNAP_1 "?verify=maybe", NULL, 400, "extents" },
        { "DELETE", "/snapshots/" SNAP_1 "?dry_run=maybe", NULL, 400, "dry_run" },
        { "DELETE", "/snapshots/" SNAP_2 "?dry_run=true", NULL, 404, SNAP_2 },
        { "DELETE", "/snapshots/" SNAP_1 "?bandwidth=nan", NULL, 400, "bandwidth" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_call(w, rows[i].method, PATH("/vms/" VM_ID "%s", rows[i].path), rows[i].body,
                  rows[i].status);
        if (strstr(w->answer.body, rows[i].says) == NULL)
            g_error("%s %s %.80s: '%s' does not say '%s'", rows[i].method, rows[i].path,
                    rows[i].body, w->answer.body, rows[i].says);
        bool action = g_str_equal(rows[i].path, "/removesnapshots");
        assert_at(w->doc, "status", action ? "\"failed\"" : NULL);
    }
    json_call(w, "GET", PATH("/jobs"), NULL, 200);
    assert_at(w->doc, "job", "[]"); /* none of them began anything */
}

static void
check_media(World *w)
{
    static const char *const form[] = { "Content-Type: application/x-www-form-urlencoded", NULL };
    static const char *const none[] = { "Content-Type:", NULL };
    static const char doctype[] = "<!DOCTYPE a [<!ENTITY x \"y\">]><snapshot/>";

    call(w, "POST", PATH("/vms/" VM_ID "/snapshots"), form, "description=x");
    g_assert_cmpint(w->answer.status, ==, 415);
    g_assert_nonnull(strstr(w->answer.body, "<fault><detail>["));
    call(w, "POST", PATH("/vms/" VM_ID "/snapshots"), none, doctype);
    g_assert_cmpint(w->answer.status, ==, 400);
    g_assert_nonnull(strstr(w->answer.body, "DOCTYPE"));
    call(w, "POST", PATH("/vms/" VM_ID "/snapshots"), none, "<snap/>");
    g_assert_cmpint(w->answer.status, ==, 400);
    call(w, "POST", PATH("/vms/" VM_ID "/removesnapshots"), none, "<action/>");
    g_assert_cmpint(w->answer.status, ==, 400);
    g_assert_nonnull(strstr(w->answer.body, "<action><fault><detail>["));
    g_assert_nonnull(strstr(w->answer.body, "</fault><status>failed</status></action>"));
    /* refused by the HTTP server, before a handler */
    g_autofree char *large = g_strnfill(2 << 20, 'x');
    json_call(w, "POST", PATH("/vms/" VM_ID "/snapshots"), large, 413);
    assert_at(w->doc, "code", "\"too-large\"");
    call(w, "POST", PATH("/vms/" VM_ID "/snapshots"), NULL, large);
    g_assert_cmpint(w->answer.status, ==, 413);
    g_assert_nonnull(strstr(w->answer.body, "<fault><detail>[the request"));
}

/* What a delete would be, in XML and JSON; nothing is begun. */
static void
check_plan(World *w)
{
    static const char *const xml[] = { "Content-Type: application/xml", NULL };

    call(w, "POST", PATH("/vms/" VM_ID "/removesnapshots"), xml,
         "<action><snapshots><snapshot id=\"" SNAP_1 "\"/></snapshots><dry_run>true</dry_run>"
         "</action>");
    if (w->answer.status != 200)
        g_error("plan: %d %s", w->answer.status, w->answer.body);
    static const char *const parts[] = { "<plan><vm ",
                                         "<name>web1</name>",
                                         "<possible>true</possible>",
                                         "<exact>false</exact>",
                                         "<totals><bytes_read>",
                                         "<runs><run><disk ",
                                         "<name>vda</name>",
                                         "<volumes><volume id=\"",
                                         "</path></volume>",
                                         "<options><option><strategy>",
                                         "<wanted>auto</wanted>",
                                         "<verify>extents</verify>",
                                         "<space_peak>" };
    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++)
        if (strstr(w->answer.body, parts[i]) == NULL)
            g_error("the plan does not hold %s: %s", parts[i], w->answer.body);

    json_call(w, "DELETE",
              PATH("/vms/" VM_ID "/snapshots/" SNAP_1 "?dry_run&strategy=cold-commit&disk=vda"),
              NULL, 200);
    assert_at(w->doc, "possible", "false");
    assert_at(w->doc, "code", "\"refused\"");
    assert_at(w->doc, "wanted", "\"cold-commit\"");
    assert_at(w->doc, "runs.run.0.disk.id", "\"" DISK_A "\"");
    assert_at(w->doc, "runs.run.0.disk.name", "\"vda\"");
    assert_at(w->doc, "runs.run.0.target", NULL);
    assert_at(w->doc, "snapshots.snapshot.0.id", "\"" SNAP_1 "\"");
    g_assert_nonnull(strstr(w->answer.body, "\"why\""));
    json_call(w, "POST", PATH("/vms/" VM_ID "/removesnapshots"),
              "{\"snapshots\":[{\"id\":\"" SNAP_1
              "\"}],\"dry_run\":true,\"verify\":\"none\",\"disk\":{\"id\":\"" DISK_A "\"}}",
              200);
    assert_at(w->doc, "possible", "true");
    assert_at(w->doc, "verify", "\"none\"");
    json_call(w, "GET", PATH("/jobs"), NULL, 200);
    assert_at(w->doc, "job", "[]");
}

static void
check_doctor(World *w)
{
    json_call(w, "GET", PATH("/doctor"), NULL, 200);
    assert_at(w->doc, "findings.finding.0.class", "\"orphan-volume\"");
    assert_at(w->doc, "findings.finding.0.vm.id", "\"other\"");
    assert_at(w->doc, "findings.finding.0.vm_id", NULL);
    assert_at(w->doc, "busy_vms.vm.0.why", "\"a merge\"");
    assert_at(w->doc, "silent_hosts.host", "[]");
    assert_at(w->doc, "kept.files", "1");
    json_call(w, "GET", PATH("/vms/" VM_ID "/doctor"), NULL, 200);
    assert_at(w->doc, "findings.finding.0.vm.id", "\"" VM_ID "\"");
    json_call(w, "GET", PATH("/vms/nobody/doctor"), NULL, 404);
    call(w, "GET", PATH("/doctor"), NULL, NULL);
    g_assert_nonnull(strstr(w->answer.body, "<doctor><findings><finding><vm "));
    g_assert_nonnull(strstr(w->answer.body, "<silent_hosts/>"));

    static const char *const bad[] = {
        "{\"classes\":{\"class\":[{\"name\":\"headache\"}]}}",
        "{\"classes\":{\"class\":[{\"name\":\"loop\"}]},\"undo\":\"x\"}",
        "{\"undo\":\"nonsense\"}",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        json_call(w, "POST", PATH("/vms/" VM_ID "/doctor"), bad[i], 400);
        assert_at(w->doc, "status", "\"failed\"");
    }
    json_call(w, "GET", PATH("/jobs"), NULL, 200);
    assert_at(w->doc, "job", "[]");
}

/* A snapshot is taken: locked at once, found at once, ok when the agent is done. */
static void
check_create(World *w)
{
    static const char *const headers[] = { "Accept: application/json",
                                           "Content-Type: application/xml",
                                           "Correlation-Id: test/one two-3", NULL };
    g_autoptr(Vm) vm = sample_vm();

    call(w, "POST", PATH("/vms/" VM_ID "/snapshots"), headers,
         "<snapshot><description>two \xc3\xbc</description><disk_attachments><disk_attachment>"
         "<disk id=\"" DISK_A "\"/></disk_attachment></disk_attachments></snapshot>");
    if (w->answer.status != 201)
        g_error("creating: %d %s", w->answer.status, w->answer.body);
    assert_at(w->doc, "snapshot_status", "\"locked\"");
    assert_at(w->doc, "persist_memorystate", "true"); /* nothing was said, and the VM runs */
    assert_at(w->doc, "vm.name", "\"web1\"");
    g_autofree char *id = g_strdup(json_text(w->doc, "id"));
    g_autofree char *job = g_strdup(json_text(at(w->doc, "job"), "id"));
    g_assert_true(g_uuid_string_is_valid(id));

    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/%s", id), NULL, 200);
    assert_at(w->doc, "snapshot_status", "\"locked\"");
    assert_at(w->doc, "description", "\"two ü\"");
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots"), NULL, 200);
    g_assert_cmpstr(json_text(at(w->doc, "snapshot.2"), "id"), ==, id);
    assert_at(w->doc, "snapshot.0.parent.id", "\"" SNAP_1 "\"");
    json_call(w, "DELETE", PATH("/vms/" VM_ID "/snapshots/%s", id), NULL, 409);
    json_call(w, "DELETE", PATH("/vms/" VM_ID "/snapshots/" SNAP_1), NULL, 409);
    json_call(w, "GET", PATH("/jobs?search=correlation_id=testonetwo-3"), NULL, 200);
    g_assert_cmpstr(json_text(at(w->doc, "job.0"), "id"), ==, job);
    assert_at(w->doc, "job.0.status", "\"started\"");

    g_autofree char *operation = agent_wait_operation(w->agent, "snapshot-create");
    add_volume(vm_disk(vm, "vda"), "44444444-0000-4000-8000-000000000003", "/images/3", "qcow2", 1);
    Snapshot *two = snapshot_new(id, "two ü", 1700000002000);
    two->parent = g_strdup(SNAP_1);
    vm_add_snapshot_disk(two, DISK_A, "44444444-0000-4000-8000-000000000002");
    g_ptr_array_add(vm->snapshots, two);
    vm->generation++;
    agent_end_operation(w->agent, operation, vm);

    json_call(w, "GET", PATH("/jobs/%s", job), NULL, 200);
    while (g_strcmp0(json_text(w->doc, "status"), "started") == 0)
        json_call(w, "GET",
                  PATH("/jobs/%s?wait=30&pace=30000&rev=%" G_GINT64_FORMAT, job,
                       (gint64)json_number(w->doc, "rev")),
                  NULL, 200);
    assert_at(w->doc, "status", "\"finished\"");
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/%s", id), NULL, 200);
    assert_at(w->doc, "snapshot_status", "\"ok\"");
    assert_at(w->doc, "parent.id", "\"" SNAP_1 "\"");
    assert_at(w->doc, "size", "30");
}

static void
check_delete(World *w)
{
    json_call(w, "DELETE",
              PATH("/vms/" VM_ID "/snapshots/" SNAP_1 "?async=true&bandwidth=0.5&disk=vda"
                   "&dry_run=false&verify=none"),
              NULL, 200);
    assert_at(w->doc, "status", "\"complete\"");
    g_autofree char *job = g_strdup(json_text(at(w->doc, "job"), "id"));
    json_call(w, "GET", PATH("/vms/" VM_ID "/snapshots/" SNAP_1), NULL, 200);
    assert_at(w->doc, "snapshot_status", "\"locked\"");
    g_autofree char *operation = agent_wait_operation(w->agent, "merge");
    g_mutex_lock(&w->agent->lock);
    json_t *sent = json_object_get(w->agent->operations, operation);
    g_assert_cmpint(json_number(sent, "bandwidth"), ==, 524288);
    g_assert_cmpstr(json_text(sent, "disk_id"), ==, DISK_A);
    g_assert_cmpstr(json_text(sent, "verify"), ==, "none");
    g_mutex_unlock(&w->agent->lock);
    json_call(w, "GET", PATH("/jobs/%s/steps", job), NULL, 200);
    g_assert_nonnull(at(w->doc, "step.0.id"));
    g_autofree char *step = g_strdup(json_text(at(w->doc, "step.0"), "id"));
    json_call(w, "GET", PATH("/jobs/%s/steps/%s", job, step), NULL, 200);
    json_call(w, "GET", PATH("/jobs/%s/steps/x", job), NULL, 404);
    json_call(w, "GET", PATH("/jobs/x"), NULL, 404);
    json_call(w, "GET", PATH("/jobs/%s?wait=x", job), NULL, 400);
    json_call(w, "GET", PATH("/jobs/%s?wait=1&pace=x", job), NULL, 400);
    json_call(w, "GET", PATH("/jobs/%s?wait=1&pace=60001", job), NULL, 400);
    /* it has another rev than 0 at once, but that is told after the pace */
    int64_t asked = g_get_monotonic_time();
    json_call(w, "GET", PATH("/jobs/%s?wait=10&rev=0&pace=150", job), NULL, 200);
    assert_at(w->doc, "status", "\"started\"");
    g_assert_cmpint(g_get_monotonic_time() - asked, >=, 150000);
    json_call(w, "POST", PATH("/jobs/x/cancel"), "{}", 404);
    assert_at(w->doc, "status", "\"failed\"");
    json_call(w, "POST", PATH("/jobs/x/resume"), "{}", 404);
    json_call(w, "POST", PATH("/jobs/%s/resume", job), "{}", 409);
    agent_pause_operation(w->agent, operation, "3 GiB are missing");
    do
        json_call(w, "GET", PATH("/jobs/%s", job), NULL, 200);
    while (at(w->doc, "attention") == NULL);
    assert_at(w->doc, "attention", "\"3 GiB are missing\"");
    assert_at(w->doc, "disks.disk.0.status", "\"paused\"");
    assert_at(w->doc, "disks.disk.0.plan.bytes_written", "30");
    g_assert_nonnull(strstr(w->answer.body, "/resume\""));
    json_call(w, "POST", PATH("/jobs/%s/resume", job), "{}", 200);
    assert_at(w->doc, "status", "\"complete\"");
    json_call(w, "GET", PATH("/jobs/%s", job), NULL, 200);
    assert_at(w->doc, "attention", NULL);
}

static void
check_events(World *w)
{
    json_call(w, "GET", PATH("/events?max=1"), NULL, 200);
    gint64 newest = json_number(at(w->doc, "event.0"), "index");
    g_assert_cmpint(newest, >, 0);
    assert_at(w->doc, "event.1", NULL);
    json_call(w, "GET", PATH("/events?from=0&wait=1"), NULL, 200);
    g_assert_cmpint(json_number(at(w->doc, "event.0"), "index"), <, newest + 1);
    json_call(w, "GET", PATH("/events;from=%" G_GINT64_FORMAT "?search=severity>normal", newest),
              NULL, 200);
    assert_at(w->doc, "event", "[]");
    json_call(w, "GET", PATH("/events/%" G_GINT64_FORMAT, newest), NULL, 200);
    assert_at(w->doc, "origin", "\"livemerge\"");
    json_call(w, "GET", PATH("/events/0"), NULL, 404);
    json_call(w, "GET", PATH("/events/999999"), NULL, 404);
}

static void *
long_poll(void *data)
{
    World *w = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *address = g_strconcat("unix:", w->dir, "/api", NULL);
    g_autoptr(HttpClient) client = http_client_new(address, NULL, false, &error);
    g_auto(HttpAnswer) answer = { 0 };

    http_call(client, "GET", API_ROOT "/events?from=999999&wait=60", NULL, NULL, 0, 60000, &answer,
              &error);
    return NULL;
}

static void
test_whole(void)
{
    World w = { 0 };

    world_start(&w);
    check_reading(&w);
    check_links(&w);
    check_snapshots_listed(&w);
    check_media(&w);
    check_bad_requests(&w);
    check_plan(&w);
    check_doctor(&w);
    check_create(&w);
    check_delete(&w);
    check_events(&w);
    /* somebody who waits does not hold up the end (world_stop measures it) */
    GThread *waiter = g_thread_new("waiter", long_poll, &w);
    g_usleep(200000);
    world_stop(&w);
    g_thread_join(waiter);
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
    g_test_add_func("/api/vm-document", test_vm_document);
    g_test_add_func("/api/disk-documents", test_disk_documents);
    g_test_add_func("/api/snapshot-documents", test_snapshot_documents);
    g_test_add_func("/api/job-document", test_job_document);
    g_test_add_func("/api/routes-table", test_routes_table);
    g_test_add_func("/api/options", test_options);
    g_test_add_func("/api/whole", test_whole);
    return g_test_run();
}
