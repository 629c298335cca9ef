/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Whole runs of the command line against a fake manager.
 */
#include "fake_manager.h"

/* What it says holds these; out NULL: it says nothing. */
static void
expect_run(Fake *fake, const char *line, int code, const char *out, const char *err)
{
    Run run = run_line(fake, line);

    g_test_message("%s\n%s%s", line, run.out, run.err);
    g_assert_cmpint(run.code, ==, code);
    if (out == NULL)
        g_assert_cmpstr(run.out, ==, "");
    else
        assert_contains(run.out, out);
    assert_contains(run.err, err);
    run_clear(&run);
}

static void
test_runs(void)
{
    static const struct {
        const char *line;
        int code;
        const char *out; /* a part of it; NULL = nothing at all */
        const char *err; /* a part of it */
    } rows[] = {
        { "vm list", 0, "web   up       -             2  " VM_ID, "" },
        { "vm list", 0, "network disk", "" },
        { "vm list --json", 0, "      \"memory\": 1073741824,\n", "" },
        { "vm list", 0, "web",
          "Host 'h2' does not answer, its VMs are shown as last seen: nobody is listening\n" },
        { "snapshot list a~b", 0, "NAME",
          "Host 'h2' does not answer, its VMs are shown as last seen: nobody is listening\n" },
        { "storage list", 0,
          "ID           FREE     USED  PATH\n"
          "24871534  1.0 GiB  4.0 KiB  /srv/images\n"
          "34871534        -        -  /srv/away\n",
          "" },
        { "vm show we", 0, "/x/base.qcow2", "" },
        { "vm show we", 0, "vda   web_disk  1.0 GiB", "" },
        { "vm show nobody", 3, NULL, "there is no VM 'nobody'" },
        { "snapshot list web", 0, "├─ nightly", "" },
        { "snapshot list web", 0, "└─ you are here", "" },
        { "snapshot list raw", 0, "NAME",
          "VM 'raw' is not managed now, and snapshots may be missing here: network" },
        { "snapshot show web before", 0, "before update", "" },
        { "snapshot show web never", 3, NULL, "there is no snapshot 'never'" },
        { "snapshot show web nightly", 3, NULL, "Entity not found: x\\x1b" },
        { "job list", 0, "22222222  started", "" },
        { "job show 2222", 0, "Checking", "" },
        { "job show " JOB_ID " --json", 0, "\"percent\": ", "" },
        { "job show 77777777-0000-4000-8000-000000000007", 3, NULL, "Entity not found" },
        { "event list", 0, "first\n2026-01-31 12:00:02  error     -    second\\a", "" },
        { "event list --json", 0, "\"severity\": \"error\"", "" },
        { "event follow --from 7 --timeout 1", 0, "12:00:02  error     second\\a", "" },
        { "event follow --from 0 --timeout 1", 0, "first\n2026-01-31 12:00:02  error ", "" },
        { "event follow --from 7 --json --timeout 1", 0, "{\"id\":\"8\",", "" },
        { "snapshot create web a\nb", 2, NULL, "control character" },
        { "snapshot create web x --disk vdz", 3, NULL, "there is no disk 'vdz'" },
        { "snapshot delete web nightly", 2, NULL, "use -y" },
        { "doctor web --fix", 2, NULL, "a yes is wanted, and there is no terminal" },
        { "doctor web --fix --undo 22 -y", 2, NULL, "--undo takes back what a fix has mended" },
        { "doctor web --class loop --undo 22", 2, NULL, "it goes with neither --fix nor --class" },
        { "vm show my~vm", 3, NULL, "no VM 'my vm'; what there is: livemerge --connect" },
        { "snapshot show a~b never", 3, NULL, " snapshot list 'a b'\n" },
        { "snapshot rename web nightly new", 0, S1, "is now called 'new'" },
        { "job cancel 2222", 0, NULL, "asked to stop" },
        { "job resume 2222", 0, NULL, "goes on" },
        { "job show 2222", 0, "vda   planned  commit", "" },
        { "snapshot delete web never -n", 3, NULL, "there is no snapshot 'never'" },
        { "plan web nightly", 1, NULL, "it has begun job " JOB_ID }, /* an old manager */
        { "plan --help", 0, "Usage: livemerge plan VM SNAPSHOT... [OPTION...]", "" },
        { "session list --user alice", 0,
          "a1b2c3d4e5f60718  program  2026-01-31 12:00:00  2026-01-31 13:00:00  192.0.2.7  "
          "2026-03-02 12:00:00  this one",
          "" },
        { "session list --user alice", 0, "12:00:00  2026-01-31 12:00:00  -          ", "" },
        { "session list --user bob", 0, NULL, "bob is signed in nowhere" },
        { "session end --user alice a1f", 0, NULL,
          "Session a1ffffffffffffff of alice has ended.\n" },
        { "session end --user alice a1b", 0, NULL, "it was this one: sign in again" },
        { "session end --user alice a1", 2, NULL, "'a1' fits 2 sessions" },
        { "session end --user alice c3", 3, NULL, "there is no session 'c3'" },
        { "session end --user alice --others", 0, NULL,
          "All sessions and tokens of alice have ended, but the one that asked." },
        { "session end --user alice", 2, NULL, "name one session" },
        { "session end --user alice a1b --others", 2, NULL, "name one session" },
        { "certificate show", 0, "2021-01-31 12:00:00: it has ended\n", "" },
        { "certificate show", 0, "host.example.org, 192.0.2.7\n", "" },
        { "certificate show", 0, "not by itself: it is yours\n", "" },
        { "version", 0, "manager 9.9", "" },
        { "help", 0, "snapshot delete VM SNAPSHOT...", "" },
        { "snapshot delete --help", 0, "--bandwidth MIB", "" },
        { "snapshot --help", 0, "snapshot rename VM SNAPSHOT NAME", "" },
        { "--version", 0, "livemerge ", "" },
        { "vm list --unknown", 2, NULL, "unknown option" },
        { "vm list --unknown", 2, NULL, "Try 'livemerge help vm'.\n" },
        { "snapshot --memory", 2, NULL, "Try 'livemerge help snapshot'.\n" },
        { "--unknown", 2, NULL, "Try 'livemerge --help'.\n" },
    };
    Fake fake = { 0 };

    fake_start(&fake);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        expect_run(&fake, rows[i].line, rows[i].code, rows[i].out, rows[i].err);
    }
    fake_stop(&fake);
}

/* A script must not take for complete what could not be written, however much was written. */
static void
test_full_disk(void)
{
    static const char *const lines[] = { "--help", "version", "vm list --json",
                                         "event follow --from 0 --timeout 1" };
    Fake fake = { 0 };

    fake_start(&fake);
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autofree char *line =
            g_strdup_printf("livemerge --connect %s %s", fake.address, lines[i]);
        g_auto(GStrv) words = g_strsplit(line, " ", -1);
        autolibc char *told = NULL;
        size_t size;
        CliIo io = { .out = fopen("/dev/full", "w"), .err = open_memstream(&told, &size) };

        g_assert_nonnull(io.out);
        int code = (int)cli_run((int)g_strv_length(words), (const char *const *)words, &io);
        fclose(io.out);
        fclose(io.err);
        g_test_message("%s: %s", lines[i], told);
        g_assert_cmpint(code, ==, 1);
        assert_contains(told, "could not write the output");
    }
    fake_stop(&fake);
}

static void
test_delete(void)
{
    Fake fake = { 0 };
    fake_start(&fake);
    Run run = run_line(&fake, "snapshot delete web before~update nightly night -y --strategy "
                              "commit --bandwidth 50 --disk vda");

    g_test_message("%s%s", run.out, run.err);
    g_assert_cmpint(run.code, ==, 0);
    g_assert_cmpstr(fake.last_path, ==, "POST vms/" VM_ID "/removesnapshots");
    g_assert_cmpstr(fake.last_body, ==,
                    "{\"snapshots\":{\"snapshot\":[{\"id\":\"" S1 "\"},{\"id\":\"" S2 "\"}]},"
                    "\"strategy\":\"commit\",\"bandwidth\":50,\"disk\":{\"id\":\"d1\"}}");
    assert_contains(run.out,
                    "DISK  STRATEGY   COPIED   TIME  LONGEST PAUSE  VOLUMES REMOVED  STATUS\n"
                    "vda   commit    1.0 MiB  2.5 s          31 ms                2  finished\n\n");
    assert_contains(run.out,
                    "DISK           STRATEGY  WRITTEN    FREED   TIME     PAUSES  CHECKED\n"
                    "vda   planned  commit    1.0 MiB  1.0 MiB  3.0 s  1 x 30 ms  -\n"
                    "vda   done     commit    1.0 MiB        -  2.5 s  1 x 31 ms  extents\n");
    assert_contains(run.err, "0 %, 10 B of 20 B, 5 B/s, ETA 1 s; vda: commit");
    assert_contains(run.err, "vda: delete-volume");
    assert_contains(run.err, "Done in 3.0 s: Deleting 2 snapshots of web");
    run_clear(&run);
    fake_stop(&fake);
}

static const char doctor_orphan[] =
    "{\"findings\":{\"finding\":[{\"class\":\"orphan-volume\",\"severity\":\"notice\",\"vm\":{"
    "\"id\":\"" VM_ID "\",\"name\":\"web\"},\"disk\":\"vda\",\"file\":\"/a\",\"text\":"
    "\"nobody has /a\",\"can_fix\":\"yes\",\"fix\":\"moves it\"}]},"
    "\"kept\":{\"files\":2,\"bytes\":1048576}}";
static const char doctor_job_of_others[] =
    "{\"findings\":{\"finding\":[{\"class\":\"foreign-job\",\"severity\":\"warning\",\"vm\":{"
    "\"id\":\"" VM_ID "\",\"name\":\"web\"},\"text\":\"a job\",\"can_fix\":\"asked\","
    "\"fix\":\"ends it\"}]}}";
static const char doctor_unseen[] =
    "{\"findings\":{\"finding\":[]},\"silent_hosts\":{\"host\":[{\"name\":\"h2\",\"why\":"
    "\"it is off\"}]},\"busy_vms\":{\"vm\":[{\"name\":\"db\",\"why\":\"a merge\"}]}}";
static const char doctor_busy[] = "{\"findings\":{\"finding\":[]},\"busy_vms\":{\"vm\":[{\"name\":"
                                  "\"web\",\"why\":\"a merge\"}]}}";

static void
test_doctor(void)
{
    static const char mend_safe[] = "{\"classes\":{\"class\":[]}}",
                      mend_job[] = "{\"classes\":{\"class\":[{\"name\":\"foreign-job\"}]}}";
    static const struct {
        const char *line, *found;
        int code;
        const char *out, *err, *body;
    } rows[] = {
        { "doctor", "{\"findings\":{\"finding\":[]}}", 0, "", "Nothing wrong was found.\n", NULL },
        { "doctor web", doctor_orphan, 1, "nobody has /a. A fix moves it.", "keep 2 files", NULL },
        { "doctor web --class loop", doctor_orphan, 0, "", "Nothing wrong", NULL },
        { "doctor --json", doctor_orphan, 1, "\"orphan-volume\"", "", NULL },
        { "doctor --fix -y --json", "{\"findings\":{\"finding\":[]}}", 0, "{\n  \"job\": []\n}\n",
          "Nothing wrong was found.\n", NULL },
        { "doctor web --fix -y --json", doctor_busy, 1, "{\n  \"job\": []\n}\n",
          "Nothing was mended.", NULL },
        { "doctor", doctor_unseen, 1, "", "Host 'h2' was not looked at: it is off", NULL },
        { "doctor", doctor_unseen, 1, "", "VM 'db' was not looked at: a merge", NULL },
        { "doctor web", doctor_busy, 1, "", "VM 'web' was not looked at: a merge", NULL },
        { "doctor web --json", doctor_busy, 1, "busy_vms", "was not looked at", NULL },
        { "doctor web --fix -y", doctor_busy, 1, "", "Nothing was mended.", NULL },
        { "doctor web --fix", doctor_orphan, 2, "", "-y", NULL },
        { "doctor web --fix -y", doctor_orphan, 0, "mended", "--undo " JOB_ID, mend_safe },
        { "doctor --fix -y --no-wait", doctor_orphan, 1, JOB_ID, "accepted", mend_safe },
        { "doctor web --fix -y", doctor_job_of_others, 1, "a job. A fix ends it.",
          "without naming its --class", NULL },
        { "doctor web --fix -y --class foreign-job", doctor_job_of_others, 0, "mended", "--undo",
          mend_job },
        { "doctor web --undo " JOB_ID, doctor_orphan, 1, "", "Not undone: a bitmap",
          "{\"undo\":\"" JOB_ID "\"}" },
        { "doctor --undo " JOB_ID, doctor_orphan, 2, "", "needs the VM", NULL },
        { "doctor web db", doctor_orphan, 2, "", "one argument too many", NULL },
        { "doctor --help", doctor_orphan, 0, "Usage: livemerge doctor [VM] [OPTION...]", "", NULL },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Fake fake = { .doctor = rows[i].found };
        fake_start(&fake);
        Run run = run_line(&fake, rows[i].line);
        g_test_message("%s\n%s%s", rows[i].line, run.out, run.err);
        g_assert_cmpint(run.code, ==, rows[i].code);
        assert_contains(run.out, rows[i].out);
        assert_contains(run.err, rows[i].err);
        if (strstr(run.err, "was not looked at") != NULL)
            g_assert_null(strstr(run.err, "Nothing wrong"));
        g_assert_cmpstr(fake.last_body, ==, rows[i].body);
        run_clear(&run);
        fake_stop(&fake);
    }
}

/* The agent mends some things unasked: it may have done so between what was found and what was to
 * be mended. */
static void
test_doctor_was_faster(void)
{
    static const char nothing[] = "{\"findings\":{\"finding\":[]}}";
    static const struct {
        const char *then;
        int code;
        const char *err;
    } rows[] = {
        { nothing, 0, "by now nothing is wrong any more" },
        { doctor_orphan, 1, "" },
        { doctor_busy, 1, "VM 'web' was not looked at: a merge" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Fake fake = { .doctor = doctor_orphan, .faster = rows[i].then };
        fake_start(&fake);
        expect_run(&fake, "doctor web --fix -y", rows[i].code, "nobody has /a", rows[i].err);
        fake_stop(&fake);
    }
}

/* Who watches hears of a pause once, and that it goes on. */
static void
test_watch_a_pause(void)
{
    Fake fake = { .paused_polls = 2 };
    fake_start(&fake);
    Run run = run_line(&fake, "job watch " JOB_ID);

    g_test_message("%s%s", run.out, run.err);
    g_assert_cmpint(run.code, ==, 0);
    assert_contains(run.err,
                    "The job has paused: 2 GiB are missing\nTo go on: livemerge --connect");
    assert_contains(run.err, "job resume " JOB_ID "\nTo give it up: ");
    assert_contains(run.err, "The job goes on.\n");
    g_assert_null(strstr(strstr(run.err, "has paused") + 1, "has paused"));
    run_clear(&run);
    fake_stop(&fake);
}

static void
test_delete_on_a_terminal(void)
{
    static const struct {
        const char *answer;
        int code;
    } rows[] = { { "y\n", 0 }, { "YES\n", 0 }, { "n\n", 1 }, { "", 1 } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Fake fake = { 0 };
        g_autofree char *answer = g_strconcat(rows[i].answer, " ", NULL);
        CliIo io = { .in_terminal = true, .err_terminal = true, .err_width = 100, .utf8 = true };
        fake_start(&fake);
        io.in = fmemopen(answer, strlen(answer), "r");
        Run run = run_with(&io, fake.address, "snapshot delete web nightly");
        g_assert_cmpint(run.code, ==, rows[i].code);
        assert_contains(run.err, "Delete snapshot 'nightly' of VM 'web'?");
        assert_contains(run.err, rows[i].code == 0 ? "100 %" : "nothing was done");
        g_assert_true((fake.last_path != NULL) == (rows[i].code == 0));
        fclose(io.in);
        run_clear(&run);
        fake_stop(&fake);
    }
}

static void
test_delete_outcomes(void)
{
    static const struct {
        const char *line;
        int refuse;
        bool fails, never_ends;
        int code;
        const char *out, *err; /* parts */
    } rows[] = {
        { "snapshot delete web nightly -y", 409, false, false, 4, "",
          "livemerge: Cannot remove Snapshot. The VM is migrating.\n" },
        { "snapshot delete web nightly -y", 400, false, false, 2, "", "migrating" },
        { "snapshot delete web nightly -y", 500, false, false, 1, "", "migrating" },
        { "snapshot delete web nightly -y", 507, false, false, 4, "", "migrating" },
        { "plan web nightly", 409, false, false, 4, "", "migrating" },
        { "snapshot delete web gone -y", 0, false, false, 3, "", "no snapshot 'gone'" },
        { "snapshot delete nobody x -y", 0, false, false, 3, "", "no VM 'nobody'" },
        { "snapshot delete web nightly -y", 0, true, false, 1, "vda",
          "failed: the storage is full" },
        { "snapshot delete web nightly -y --json", 0, true, false, 1, "\"status\": \"failed\"",
          "failed: the storage is full" },
        { "snapshot delete web nightly -y --json", 0, false, false, 0, "\"status\": \"finished\"",
          "Done" },
        { "snapshot delete web nightly -y --no-wait", 0, false, true, 0, JOB_ID "\n", "accepted" },
        { "snapshot delete web nightly -y --no-wait --json", 0, false, true, 0,
          "\"status\": \"started\"", "accepted" },
        { "snapshot delete web nightly -y --timeout 0", 0, false, true, 5, "",
          "job watch " JOB_ID },
        { "snapshot create web new", 0, false, false, 0, S1 "\n", "is taken" },
        { "snapshot create web new --json", 0, false, false, 0, "\"snapshot_status\": \"ok\"", "" },
        { "snapshot create web new --json --no-wait", 0, false, false, 0,
          "\"snapshot_status\": \"locked\"", "" },
        { "snapshot create web new --no-wait", 0, false, false, 0, JOB_ID "\n", "" },
        { "snapshot create web new", 0, true, false, 1, "", "failed: the storage is full" },
        { "job watch 22", 0, false, false, 0, "vda", "Done" },
        { "job cancel 22 --wait", 0, true, false, 0, "", "has ended: failed" },
        { "job cancel 22 --wait", 0, false, false, 1, "", "before it could be cancelled" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Fake fake = { .refuse = rows[i].refuse,
                      .fails = rows[i].fails,
                      .never_ends = rows[i].never_ends };
        fake_start(&fake);
        expect_run(&fake, rows[i].line, rows[i].code, rows[i].out, rows[i].err);
        fake_stop(&fake);
    }
}

static void
test_create_body(void)
{
    Fake fake = { 0 };
    fake_start(&fake);
    Run run = run_line(&fake, "snapshot create web my~name --memory --quiesce=require --disk vda");

    g_assert_cmpint(run.code, ==, 0);
    g_assert_cmpstr(fake.last_body, ==,
                    "{\"description\":\"my name\",\"persist_memorystate\":true,\"quiesce\":"
                    "\"require\",\"disk_attachments\":{\"disk_attachment\":[{\"disk\":{\"id\":"
                    "\"d1\"}}]}}");
    run_clear(&run);
    fake_stop(&fake);
}

/* A shell completes a directory with a slash at its end, and relative to where it is. */
static void
test_clone_into_a_directory(void)
{
    static const char *const words[] = { "/srv/images/", "/srv/./images", "/srv/x/../images" };

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        Fake fake = { 0 };
        g_autofree char *line = g_strdup_printf("vm clone web n --no-wait --storage %s", words[i]);

        fake_start(&fake);
        Run run = run_line(&fake, line);
        g_assert_cmpint(run.code, ==, 0);
        g_assert_cmpstr(fake.last_body, ==,
                        "{\"vm\":{\"name\":\"n\"},\"async\":true,\"storage_domain\":{\"name\":"
                        "\"/srv/images\"}}");
        run_clear(&run);
        fake_stop(&fake);
    }
}

static void
test_create_config_only(void)
{
    static const char *const others[] = { "--disk vda", "--memory", "--quiesce=require" };
    Fake fake = { 0 };
    fake_start(&fake);
    Run run = run_line(&fake, "snapshot create web x --config-only --quiesce=auto");

    g_assert_cmpint(run.code, ==, 0);
    g_assert_cmpstr(fake.last_body, ==,
                    "{\"description\":\"x\",\"persist_memorystate\":false,\"quiesce\":\"auto\","
                    "\"disk_attachments\":{\"disk_attachment\":[]}}");
    run_clear(&run);
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        g_autofree char *line =
            g_strconcat("snapshot create web x --config-only ", others[i], NULL);
        run = run_line(&fake, line);
        g_assert_cmpint(run.code, !=, 0);
        g_assert_nonnull(strstr(run.err, "--config-only takes no disk"));
        run_clear(&run);
    }
    fake_stop(&fake);
}

int
main(int argc, char **argv)
{
    g_setenv("TZ", "UTC", TRUE);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli/runs", test_runs);
    g_test_add_func("/cli/full-disk", test_full_disk);
    g_test_add_func("/cli/delete", test_delete);
    g_test_add_func("/cli/doctor", test_doctor);
    g_test_add_func("/cli/doctor-was-faster", test_doctor_was_faster);
    g_test_add_func("/cli/watch-a-pause", test_watch_a_pause);
    g_test_add_func("/cli/delete-on-a-terminal", test_delete_on_a_terminal);
    g_test_add_func("/cli/delete-outcomes", test_delete_outcomes);
    g_test_add_func("/cli/create-body", test_create_body);
    g_test_add_func("/cli/clone-into-a-directory", test_clone_into_a_directory);
    g_test_add_func("/cli/create-config-only", test_create_config_only);
    return g_test_run();
}
