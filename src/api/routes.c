/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What can be asked for: a row for each method and path. docs/routes.md is made of it.
 */
#include "api/routes.h"

/* clang-format off */
const Route api_routes[] = {
    { "GET",    "",                                         RIGHT_SIGNED_IN,  "api",              get_api },
    { "GET",    "openapi.json",                             RIGHT_PUBLIC,     "openapi",          get_openapi },
    { "GET",    "vms",                                      RIGHT_SIGNED_IN,  "vms",              get_vms, NULL, true },
    { "GET",    "vms/*",                                    RIGHT_READ,       "vm",               get_vm, NULL, true },
    { "POST",   "vms",                                      RIGHT_OPERATE,    "vm",               post_vms, "vm" },
    { "PUT",    "vms/*",                                    RIGHT_ADMINISTER, "vm",               change_vm, "vm" },
    { "DELETE", "vms/*",                                    RIGHT_ADMINISTER, "action",           delete_vm },
    { "POST",   "vms/*/clone",                              RIGHT_OPERATE,    "action",           post_vm_clone, "action" },
    { "POST",   "vms/*/start",                              RIGHT_OPERATE,    "action",           post_vm_start, "action" },
    { "POST",   "vms/*/stop",                               RIGHT_OPERATE,    "action",           post_vm_stop, "action" },
    { "POST",   "vms/*/shutdown",                           RIGHT_OPERATE,    "action",           post_vm_shutdown, "action" },
    { "POST",   "vms/*/reboot",                             RIGHT_OPERATE,    "action",           post_vm_reboot, "action" },
    { "POST",   "vms/*/reset",                              RIGHT_OPERATE,    "action",           post_vm_reset, "action" },
    { "POST",   "vms/*/suspend",                            RIGHT_OPERATE,    "action",           post_vm_suspend, "action" },
    { "POST",   "vms/*/freezefilesystems",                  RIGHT_OPERATE,    "action",           post_vm_freeze, "action" },
    { "POST",   "vms/*/thawfilesystems",                    RIGHT_OPERATE,    "action",           post_vm_thaw, "action" },
    { "GET",    "vms/*/diskattachments",                    RIGHT_READ,       "disk_attachments", get_attachments, NULL, true },
    { "GET",    "vms/*/diskattachments/*",                  RIGHT_READ,       "disk_attachment",  get_attachment, NULL, true },
    { "GET",    "vms/*/snapshots",                          RIGHT_READ,       "snapshots",        get_snapshots },
    { "POST",   "vms/*/snapshots",                          RIGHT_OPERATE,    "snapshot",         post_snapshots, "snapshot" },
    { "GET",    "vms/*/snapshots/*",                        RIGHT_READ,       "snapshot",         get_snapshot },
    { "PUT",    "vms/*/snapshots/*",                        RIGHT_OPERATE,    "snapshot",         put_snapshot, "snapshot" },
    { "DELETE", "vms/*/snapshots/*",                        RIGHT_OPERATE,    "action",           delete_snapshot },
    { "GET",    "vms/*/snapshots/*/disks",                  RIGHT_READ,       "disks",            get_snapshot_disks },
    { "GET",    "vms/*/snapshots/*/nics",                   RIGHT_READ,       "nics",             get_nothing },
    { "GET",    "vms/*/snapshots/*/cdroms",                 RIGHT_READ,       "cdroms",           get_nothing },
    { "POST",   "vms/*/removesnapshots",                    RIGHT_OPERATE,    "action",           post_removesnapshots, "action" },
    { "POST",   "vms/*/previewsnapshot",                    RIGHT_OPERATE,    "action",           post_previewsnapshot, "action" },
    { "POST",   "vms/*/commitsnapshot",                     RIGHT_OPERATE,    "action",           post_commitsnapshot, "action" },
    { "POST",   "vms/*/undosnapshot",                       RIGHT_OPERATE,    "action",           post_undosnapshot, "action" },
    { "POST",   "vms/*/snapshots/*/restore",                RIGHT_OPERATE,    "action",           post_restore, "action" },
    { "GET",    "vms/*/doctor",                             RIGHT_READ,       "doctor",           get_vm_doctor },
    { "POST",   "vms/*/doctor",                             RIGHT_ADMINISTER, "action",           post_vm_doctor, "action" },
    { "GET",    "doctor",                                   RIGHT_READ,       "doctor",           get_doctor },
    /* what clients ask for on their way and can do without */
    { "GET",    "vms/*/nics",                               RIGHT_READ,       "nics",             get_nothing },
    { "GET",    "vms/*/graphicsconsoles",                   RIGHT_READ,       "graphics_consoles", get_consoles },
    { "GET",    "vms/*/graphicsconsoles/*",                 RIGHT_READ,       "graphics_console", get_console },
    { "POST",   "vms/*/graphicsconsoles/*/ticket",          RIGHT_OPERATE,    "action",           post_console_ticket, "action" },
    { "POST",   "vms/*/graphicsconsoles/*/remoteviewerconnectionfile", RIGHT_OPERATE, "action",   post_viewer_file, "action" },
    { "POST",   "vms/*/ticket",                             RIGHT_OPERATE,    "action",           post_vm_ticket, "action" },
    { "GET",    "vms/*/cdroms",                             RIGHT_READ,       "cdroms",           get_nothing },
    { "GET",    "vms/*/numanodes",                          RIGHT_READ,       "vm_numa_nodes",    get_nothing },
    { "GET",    "vms/*/statistics",                         RIGHT_READ,       "statistics",       get_vm_statistics },
    { "GET",    "vms/*/statistics/*",                       RIGHT_READ,       "statistic",        get_vm_statistic },
    { "GET",    "vms/*/tags",                               RIGHT_READ,       "tags",             get_nothing },
    { "GET",    "vms/*/permissions",                        RIGHT_READ,       "permissions",      get_nothing },
    { "GET",    "vms/*/applications",                       RIGHT_READ,       "applications",     get_nothing },
    { "GET",    "vms/*/watchdogs",                          RIGHT_READ,       "watchdogs",        get_nothing },
    { "GET",    "vms/*/hostdevices",                        RIGHT_READ,       "host_devices",     get_nothing },
    { "GET",    "vms/*/backups",                            RIGHT_READ,       "backups",          get_nothing },
    { "GET",    "vms/*/checkpoints",                        RIGHT_READ,       "checkpoints",      get_nothing },
    { "GET",    "vms/*/diskattachments/*/permissions",      RIGHT_READ,       "permissions",  get_nothing },
    { "GET",    "hosts/*/statistics",                       RIGHT_SIGNED_IN,  "statistics",       get_nothing },
    { "GET",    "hosts/*/nics",                             RIGHT_SIGNED_IN,  "host_nics",        get_nothing },
    { "GET",    "hosts/*/vms",                              RIGHT_SIGNED_IN,  "vms",              get_host_vms },
    { "GET",    "hosts/*/tags",                             RIGHT_SIGNED_IN,  "tags",             get_nothing },
    { "GET",    "clusters/*/networks",                      RIGHT_SIGNED_IN,  "networks",         get_nothing },
    { "GET",    "clusters/*/hosts",                         RIGHT_SIGNED_IN,  "hosts",            get_hosts },
    { "GET",    "clusters/*/permissions",                   RIGHT_SIGNED_IN,  "permissions",      get_nothing },
    { "GET",    "datacenters/*/clusters",                   RIGHT_SIGNED_IN,  "clusters",         get_clusters },
    { "GET",    "datacenters/*/networks",                   RIGHT_SIGNED_IN,  "networks",         get_nothing },
    { "GET",    "datacenters/*/permissions",                RIGHT_SIGNED_IN,  "permissions",      get_nothing },
    { "GET",    "disks/*/permissions",                      RIGHT_READ,       "permissions",      get_nothing },
    { "GET",    "disks/*/statistics",                       RIGHT_READ,       "statistics",       get_nothing },
    { "GET",    "disks/*/disksnapshots",                    RIGHT_READ,       "disk_snapshots",   get_disk_snapshots },
    { "GET",    "disks/*/disksnapshots/*",                  RIGHT_READ,       "disk_snapshot",    get_disk_snapshot },
    { "GET",    "storagedomains/*/disks",                   RIGHT_SIGNED_IN,  "disks",            get_domain_disks },
    { "GET",    "storagedomains/*/vms",                     RIGHT_SIGNED_IN,  "vms",              get_domain_vms },
    { "GET",    "storagedomains/*/disksnapshots",           RIGHT_READ,       "disk_snapshots",   get_domain_disk_snapshots },
    { "GET",    "storagedomains/*/diskprofiles",            RIGHT_SIGNED_IN,  "disk_profiles",    get_nothing },
    { "GET",    "storagedomains/*/templates",               RIGHT_SIGNED_IN,  "templates",        get_nothing },
    { "GET",    "storagedomains/*/files",                   RIGHT_SIGNED_IN,  "files",            get_nothing },
    { "GET",    "storagedomains/*/images",                  RIGHT_SIGNED_IN,  "images",           get_nothing },
    { "GET",    "storagedomains/*/storageconnections",      RIGHT_SIGNED_IN,  "storage_connections", get_nothing },
    { "GET",    "storagedomains/*/permissions",             RIGHT_SIGNED_IN,  "permissions",      get_nothing },
    { "GET",    "templates/*/diskattachments",              RIGHT_SIGNED_IN,  "disk_attachments", get_nothing },
    { "GET",    "templates/*/nics",                         RIGHT_SIGNED_IN,  "nics",             get_nothing },
    { "GET",    "templates/*/permissions",                  RIGHT_SIGNED_IN,  "permissions",      get_nothing },
    { "GET",    "groups",                                   RIGHT_SIGNED_IN,  "groups",            get_none },
    { "GET",    "permissions",                              RIGHT_SIGNED_IN,  "permissions",       get_none },
    { "GET",    "roles",                                    RIGHT_SIGNED_IN,  "roles",             get_none },
    { "GET",    "domains",                                  RIGHT_SIGNED_IN,  "domains",           get_none },
    { "GET",    "networks",                                 RIGHT_SIGNED_IN,  "networks",         get_none },
    { "GET",    "vnicprofiles",                             RIGHT_SIGNED_IN,  "vnic_profiles",    get_none },
    { "GET",    "diskprofiles",                             RIGHT_SIGNED_IN,  "disk_profiles",    get_none },
    { "GET",    "vmpools",                                  RIGHT_SIGNED_IN,  "vm_pools",         get_none },
    { "GET",    "instancetypes",                            RIGHT_SIGNED_IN,  "instance_types",   get_none },
    { "GET",    "imagetransfers",                           RIGHT_SIGNED_IN,  "image_transfers",  get_none },
    { "GET",    "storageconnections",                       RIGHT_SIGNED_IN,  "storage_connections", get_none },
    { "GET",    "options/*",                                RIGHT_SIGNED_IN,  "system_option",    get_option },
    { "GET",    "tags",                                     RIGHT_SIGNED_IN,  "tags",             get_tags },
    { "GET",    "tags/*",                                   RIGHT_SIGNED_IN,  "tag",              get_tag },
    { "GET",    "disks",                                    RIGHT_SIGNED_IN,  "disks",            get_disks, NULL, true },
    { "GET",    "disks/*",                                  RIGHT_READ,       "disk",             get_disk, NULL, true },
    { "GET",    "jobs",                                     RIGHT_SIGNED_IN,  "jobs",             get_jobs },
    { "POST",   "jobs",                                     RIGHT_OPERATE,    "job",              post_jobs, "job" },
    { "GET",    "jobs/*",                                   RIGHT_READ,       "job",              get_job },
    { "GET",    "jobs/*/steps",                             RIGHT_READ,       "steps",            get_steps },
    { "POST",   "jobs/*/steps",                             RIGHT_OPERATE,    "step",             post_steps, "step" },
    { "GET",    "jobs/*/steps/*",                           RIGHT_READ,       "step",             get_step },
    { "POST",   "jobs/*/steps/*/end",                       RIGHT_OPERATE,    "action",           post_step_end, "action" },
    { "POST",   "jobs/*/end",                               RIGHT_OPERATE,    "action",           post_job_end, "action" },
    { "POST",   "jobs/*/clear",                             RIGHT_OPERATE,    "action",           post_job_clear, "action" },
    { "POST",   "jobs/*/cancel",                            RIGHT_OPERATE,    "action",           post_job_cancel, "action" },
    { "POST",   "jobs/*/resume",                            RIGHT_OPERATE,    "action",           post_job_resume, "action" },
    { "GET",    "events",                                   RIGHT_SIGNED_IN,  "events",           get_events },
    { "GET",    "events/stream",                            RIGHT_SIGNED_IN,  "events",           get_event_stream },
    { "POST",   "events",                                   RIGHT_OPERATE,    "event",            post_event, "event" },
    { "GET",    "events/*",                                 RIGHT_READ,       "event",            get_event },
    { "DELETE", "events/*",                                 RIGHT_ADMINISTER, "action",           delete_event },
    { "GET",    "hosts",                                    RIGHT_SIGNED_IN,  "hosts",            get_hosts },
    { "GET",    "hosts/*",                                  RIGHT_SIGNED_IN,  "host",             get_host },
    { "GET",    "clusters",                                 RIGHT_SIGNED_IN,  "clusters",         get_clusters },
    { "GET",    "clusters/*",                               RIGHT_SIGNED_IN,  "cluster",          get_cluster },
    { "GET",    "datacenters",                              RIGHT_SIGNED_IN,  "data_centers",     get_datacenters },
    { "GET",    "datacenters/*",                            RIGHT_SIGNED_IN,  "data_center",      get_datacenter },
    { "GET",    "datacenters/*/storagedomains",             RIGHT_SIGNED_IN,  "storage_domains",  get_datacenter_storagedomains },
    { "GET",    "datacenters/*/storagedomains/*",           RIGHT_SIGNED_IN,  "storage_domain",   get_datacenter_storagedomain },
    { "GET",    "storagedomains",                           RIGHT_SIGNED_IN,  "storage_domains",  get_storagedomains },
    { "GET",    "storagedomains/*",                         RIGHT_SIGNED_IN,  "storage_domain",   get_storagedomain },
    { "POST",   "storagedomains/import",                    RIGHT_ADMINISTER, "action",           post_import, "action" },
    { "GET",    "certificate",                              RIGHT_SIGNED_IN,  "certificate",      get_certificate },
    { "POST",   "certificate/renew",                        RIGHT_ADMINISTER, "action",           post_certificate_renew, "action" },
    { "GET",    "templates",                                RIGHT_SIGNED_IN,  "templates",        get_templates },
    { "GET",    "templates/*",                              RIGHT_SIGNED_IN,  "template",         get_template },
    { "GET",    "users",                                    RIGHT_ADMINISTER, "users",            get_users },
    { "POST",   "users",                                    RIGHT_ADMINISTER, "user",             post_users, "user" },
    { "GET",    "users/*",                                  RIGHT_OWN,        "user",             get_user },
    { "PUT",    "users/*",                                  RIGHT_ADMINISTER, "user",             put_user, "user" },
    { "DELETE", "users/*",                                  RIGHT_ADMINISTER, "action",           delete_user },
    { "POST",   "users/*/password",                         RIGHT_OWN,        "action",           post_user_password, "action" },
    { "GET",    "users/*/sessions",                         RIGHT_OWN,        "sessions",         get_user_sessions },
    { "DELETE", "users/*/sessions",                         RIGHT_OWN,        "action",           delete_user_sessions },
    { "GET",    "users/*/sessions/*",                       RIGHT_OWN,        "session",          get_user_session },
    { "DELETE", "users/*/sessions/*",                       RIGHT_OWN,        "action",           delete_user_session },
    { NULL },
};
/* clang-format on */

/* ---- looking up ---- */

/* Fills ids with what the stars stand for. */
static bool
path_matches(const char *pattern, char *const *segments, const char *ids[2])
{
    g_auto(GStrv) words = g_strsplit(pattern, "/", -1);
    unsigned n = 0;

    if (*pattern == '\0')
        return *segments == NULL;
    for (char **word = words; *word != NULL; word++, segments++) {
        if (*segments == NULL)
            return false;
        if (g_str_equal(*word, "*") && n < 2)
            ids[n++] = *segments;
        else if (!g_str_equal(*word, *segments))
            return false;
    }
    return *segments == NULL;
}

const Route *
route_find(const char *method, char *const *segments, const char *ids[2])
{
    for (const Route *route = api_routes; route->method != NULL; route++) {
        const char *found[2] = { NULL, NULL };
        if (g_str_equal(route->method, method) && path_matches(route->path, segments, found)) {
            ids[0] = found[0];
            ids[1] = found[1];
            return route;
        }
    }
    return NULL;
}

char *
route_methods(char *const *segments)
{
    GString *allow = g_string_new(NULL);

    for (const Route *route = api_routes; route->method != NULL; route++) {
        const char *unused[2] = { NULL, NULL };
        if (!path_matches(route->path, segments, unused))
            continue;
        g_string_append_printf(allow, "%s%s", allow->len > 0 ? ", " : "", route->method);
        if (g_str_equal(route->method, "GET"))
            g_string_append(allow, ", HEAD");
    }
    if (allow->len > 0)
        g_string_append(allow, ", OPTIONS");
    return g_string_free(allow, FALSE);
}
