/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * livemerge plan: how a plan is drawn, and whole runs against a fake manager.
 */
#include "cli/plan.h"
#include "cli_json.h"
#include "fake_manager.h"

/* ---- plans ---- */

#define COSTS(written, peak, freed, seconds, pauses)                                \
    "\"bytes_read\":" written ",\"bytes_written\":" written ",\"space_peak\":" peak \
    ",\"space_freed\":" freed ",\"seconds\":" seconds ",\"pauses\":" pauses ",\"pause_ms\":30.0"
#define VOLUME(name) "{\"id\":\"" name "\",\"path\":\"/x/" name ".qcow2\"}"

static const char plan_good[] =
    "{\"vm\":{\"name\":\"web\"},\"possible\":true,\"wanted\":\"auto\",\"verify\":\"extents\","
    "\"exact\":true,\"totals\":{" COSTS(
        "3145728", "1048576", "1048576", "1.5",
        "1") "},"
             "\"runs\":{\"run\":[{\"disk\":{\"id\":\"d1\",\"name\":\"vda\"},\"strategy\":"
             "\"commit\","
             "\"volumes\":[" VOLUME("a") "," VOLUME("b") "," VOLUME("c") "]," COSTS(
                 "1048576", "1048576", "2097152", "0.5",
                 "0") ",\"options\":[{\"strategy\":\"commit\","
                      "\"possible\":true," COSTS(
                          "1048576", "1048576", "2097152", "0.5",
                          "0") "},{\"strategy\":"
                               "\"graft\",\"possible\":false,\"why\":\"/x cannot share "
                               "blocks\"},{\"strategy\":\"copy\","
                               "\"possible\":true," COSTS(
                                   "4194304", "4194304", "-1048576", "2.0",
                                   "1") "}]},"
                                        "{\"disk\":{\"id\":\"d2\",\"name\":\"vdb\"},\"strategy\":"
                                        "\"copy\",\"volumes\":[" VOLUME("a") "," VOLUME("b") "," VOLUME(
                                            "c") "," VOLUME("d") "],\"kept\":[\"/x/"
                                                                 "a.qcow2\"]," COSTS(
                                                                     "2097152", "2097152",
                                                                     "-1048576", "1.0",
                                                                     "1") ",\"optio"
                                                                          "ns\":[{"
                                                                          "\"strate"
                                                                          "gy\":"
                                                                          "\"copy\""
                                                                          ","
                                                                          "\"possib"
                                                                          "le\":"
                                                                          "true"
                                                                          "," COSTS("2097"
                                                                                    "152",
                                                                                    "2097"
                                                                                    "152",
                                                                                    "-104"
                                                                                    "857"
                                                                                    "6",
                                                                                    "1.0",
                                                                                    "1") "}]}]}}";

static const char plan_bad[] =
    "{\"possible\":false,\"why\":\"disk vda of VM 'web': VM we\\u001bb2 stands on it\","
    "\"code\":\"refused\",\"exact\":true,\"totals\":{" COSTS(
        "0", "0", "0", "0",
        "0") "},"
             "\"runs\":{\"run\":[{\"disk\":{\"id\":\"d1\",\"name\":\"vda\"},\"strategy\":"
             "\"commit\","
             "\"volumes\":[" VOLUME("a") "," VOLUME("b") "]," COSTS(
                 "5", "5", "5", "5",
                 "0") ",\"options\":[{\"strategy\":\"commit\",\"possible\":false,\"why\":\"VM "
                      "we\\u001bb2 stands on "
                      "it\"}]},{\"disk\":{\"id\":\"d2\",\"name\":\"vdb\"},\"strategy\":\"commit\","
                      "\"volumes\":[" VOLUME("c") "," VOLUME("d") "]," COSTS(
                          "5", "5", "5", "5",
                          "0") ",\"options\":[{\"strategy\":\"commit\",\"possible\":false,\"why\":"
                               "\"c is read-only\"}]}]}}";

static void
test_plan_text(void)
{
    static const char none[] = "{\"possible\":true,\"exact\":false,\"runs\":{\"run\":[]}}";
    static const struct {
        const char *plan;
        bool utf8, all;
        const char *wanted;
    } rows[] = {
        { plan_good, true, false,
          "DISK   STRATEGY   COPIES  EXTRA SPACE     FREED    TIME     PAUSES  MERGES\n"
          "vda    commit    1.0 MiB      1.0 MiB   2.0 MiB  500 ms       none  "
          "a.qcow2 \u2190 b.qcow2 \u2190 c.qcow2\n"
          "vdb    copy      2.0 MiB      2.0 MiB  -1.0 MiB   1.0 s  1 x 30 ms  "
          "a.qcow2 \u2190 \u2026 \u2190 d.qcow2 (4 volumes)\n"
          "total  -         3.0 MiB      1.0 MiB   1.0 MiB   1.5 s  1 x 30 ms  -\n"
          "\n"
          "/x/a.qcow2 stays: others stand on it.\n" },
        { plan_good, false, true,
          "DISK   STRATEGY   COPIES  EXTRA SPACE     FREED    TIME     PAUSES  MERGES\n"
          "vda    commit    1.0 MiB      1.0 MiB   2.0 MiB  500 ms       none  "
          "a.qcow2 <- b.qcow2 <- c.qcow2\n"
          "vdb    copy      2.0 MiB      2.0 MiB  -1.0 MiB   1.0 s  1 x 30 ms  "
          "a.qcow2 <- ... <- d.qcow2 (4 volumes)\n"
          "total  -         3.0 MiB      1.0 MiB   1.0 MiB   1.5 s  1 x 30 ms  -\n"
          "\n"
          "vda: a.qcow2 <- b.qcow2 <- c.qcow2\n"
          "OPTION   COPIES  EXTRA SPACE     FREED    TIME     PAUSES  VERDICT\n"
          "commit  1.0 MiB      1.0 MiB   2.0 MiB  500 ms       none  chosen\n"
          "graft         -            -         -       -          -  /x cannot share blocks\n"
          "copy    4.0 MiB      4.0 MiB  -1.0 MiB   2.0 s  1 x 30 ms  possible\n"
          "\n"
          "vdb: a.qcow2 <- ... <- d.qcow2 (4 volumes)\n"
          "OPTION   COPIES  EXTRA SPACE     FREED   TIME     PAUSES  VERDICT\n"
          "copy    2.0 MiB      2.0 MiB  -1.0 MiB  1.0 s  1 x 30 ms  chosen\n"
          "\n"
          "/x/a.qcow2 stays: others stand on it.\n" },
        { plan_bad, false, false,
          "DISK  STRATEGY  COPIES  EXTRA SPACE  FREED  TIME  PAUSES  MERGES\n"
          "vda   none           -            -      -     -       -  a.qcow2 <- b.qcow2\n"
          "vdb   none           -            -      -     -       -  c.qcow2 <- d.qcow2\n"
          "\n"
          "Not possible: disk vda of VM 'web': VM we\\x1bb2 stands on it.\n"
          "Disk vdb: c is read-only.\n" },
        { none, false, true, "No disk has to be merged; only the snapshots' entries go.\n" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(json_t) plan = parse(rows[i].plan);
        g_autofree char *text = plan_text(plan, 0, rows[i].utf8, rows[i].all);
        g_assert_cmpstr(text, ==, rows[i].wanted);
    }
}

/* ---- a fake manager ---- */

static void
test_plan(void)
{
    static const struct {
        const char *line, *plan;
        int code;
        const char *out, *err;
    } rows[] = {
        { "plan web nightly", plan_good, 0, "vda    commit    1.0 MiB", "" },
        { "plan web nightly --all-options", plan_good, 0, "/x cannot share blocks", "" },
        { "plan web nightly --json", plan_good, 0, "\"possible\": true", "" },
        { "plan web nightly", plan_bad, 1, "Not possible: disk vda", "" },
        { "plan web nightly --json", plan_bad, 1, "\"code\": \"refused\"", "" },
        { "snapshot delete web nightly -n", plan_good, 0, "vda    commit    1.0 MiB", "" },
        { "snapshot delete web nightly --dry-run -y", plan_bad, 1, "Disk vdb: c is read-only", "" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Fake fake = { .plan = rows[i].plan };
        fake_start(&fake);
        Run run = run_line(&fake, rows[i].line);
        g_test_message("%s\n%s%s", rows[i].line, run.out, run.err);
        g_assert_cmpint(run.code, ==, rows[i].code);
        assert_contains(run.out, rows[i].out);
        g_assert_cmpstr(run.err, ==, rows[i].err);
        g_assert_cmpstr(fake.last_body, ==,
                        "{\"snapshots\":{\"snapshot\":[{\"id\":\"" S2 "\"}]},\"dry_run\":true}");
        run_clear(&run);
        fake_stop(&fake);
    }
}

int
main(int argc, char **argv)
{
    g_setenv("TZ", "UTC", TRUE);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli/plan-text", test_plan_text);
    g_test_add_func("/cli/plan", test_plan);
    return g_test_run();
}
