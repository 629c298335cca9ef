/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The routes table and what a handler gets and gives.
 *
 * A handler fills reply->body (and status, if not 200) and returns true, or returns false with an
 * error, which becomes a fault. An ERR_NOT_FOUND is 404 as long as it speaks of the URL; once a
 * handler looks at names inside the body or the query it sets call->in_body, and the same error is
 * 400, as oVirt has it. A handler never waits: a GET that has nothing to say yet fills
 * reply->awaited and is called once more (answer.c).
 *
 * Threads: handlers run on the threads of their connections, several at a time.
 */
#pragma once

#include "api/cache.h"
#include "api/document.h"
#include "api/hub.h"
#include "base/meter.h"
#include "http/http.h"
#include "model/role.h"
#include "people/people.h"

typedef struct {
    Manager *manager;
    People *people;
    struct Certificate *certificate; /* of the TCP address; NULL = it has none */
    const Who *who;                  /* has the route's right on what the path names */
    const gint *stopping;            /* not 0: long polls end now */
    const char *path;                /* below API_ROOT, without a slash at its ends */
    const char *id;                  /* what the stars of the route's path stand for */
    const char *sub_id;              /* the second one; NULL */
    GHashTable *query;               /* name → value, query and matrix parameters */
    const json_t *body;              /* an object; {} if nothing was sent */
    const char *user;                /* who's name; borrowed, as all strings here */
    const char *peer;                /* his address */
    const char *correlation_id;
    bool in_body;
    const char *expect; /* of a header: "201-created" waits for the end; NULL */
    Hub *hub;
    bool wants_stream;         /* by the header Accept */
    const char *last_event_id; /* a header; NULL */
    int64_t began_us;          /* of the monotonic clock: when the request came */
} Call;

/* News that a GET waits for, of the job call->id or of everything */
typedef struct {
    enum {
        FOR_NOTHING,
        FOR_JOB,     /* another rev of the job than that, or its end */
        FOR_JOB_END, /* of the job */
        FOR_CHANGE,  /* another manager_revision() than that */
        FOR_EVENT,   /* a later event than that */
    } what;
    int64_t than;
    int64_t until_us; /* of the monotonic clock: then it is called in any case */
} Awaited;

typedef struct {
    int status;         /* 200 before the handler runs */
    json_t *body;       /* owned */
    const char *reason; /* of a fault, static; NULL = "Operation Failed" */
    const char *root;   /* element name, static; NULL = the route's */
    HttpResponse *http; /* for a handler that answers with a stream, and says so: */
    bool streams;
    char *job_id;     /* reply_job(): who asked for async=false is answered when it has ended */
    bool waits;       /* and so is who did not ask for async=true */
    unsigned wait_ms; /* for so long at most; 0 = a minute */
    bool told;        /* the body is what it will be then, and stays so if that takes longer */
    Awaited awaited;
    bool only_json; /* whatever was asked for */
} Reply;

typedef bool (*Handler)(Call *call, Reply *reply, GError **error);

/* The columns stand as one reads a row. NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
typedef struct {
    const char *method;
    const char *path; /* below API_ROOT; a segment "*" is an id */
    /* Below vms, disks, jobs and events with an id: on that VM. Elsewhere it is wanted for all VMs;
     * RIGHT_SIGNED_IN then says that the answer tells nothing of VMs, or leaves those out that who
     * may not see: reply_list() does, others ask access_sees(). */
    Right right;
    const char *root; /* element name of the answer */
    Handler handler;
    const char *body_root; /* element name of what is sent; NULL = nothing is */
    bool kept;             /* the answer may be given again while nothing changes: cache.h */
} Route;
extern const Route api_routes[]; /* ends with a row of NULLs */
/* The row for a method and a path, and what its stars stand for; NULL = there is none. */
const Route *route_find(const char *method, char *const *segments, const char *ids[2]);
/* What can be done there, as the header Allow tells it; "" = nothing is there. */
char *route_methods(char *const *segments);

typedef struct {
    Manager *manager;
    Cache *cache;
    Hub *hub;
    People *people;
    struct Certificate *certificate; /* of TCP; NULL = none */
    struct Audit *audit;
    Role group_role; /* of the group that may use the socket */
    bool tls;        /* on TCP */
    char *ca;        /* PEM text; NULL = not known */
    Meter *meter;    /* of requests */
    gint stopping;   /* atomic */
} Api;

/* ---- answer.c ---- */
/* The whole of one request. */
void api_answer(Api *api, const Who *who, const HttpRequest *request, HttpResponse *response);
/* A fault for a request that the HTTP server refuses. */
void api_refuse(const HttpRequest *request, const GError *problem, HttpResponse *response);

/* ---- for handlers ---- */
const char *call_query(const Call *call, const char *name); /* NULL if absent or empty */
/* A whole number from low to high; fallback if absent. ERR_INVALID names the parameter. */
bool call_number(const Call *call, const char *name, int64_t low, int64_t high, int64_t fallback,
                 int64_t *ret_number, GError **error);
/* operations=true: documents say what can be done, and why not */
bool call_wants_operations(const Call *call);
/* Members of a collection (taken) through search=, max=; the reply is {key: [...]}. The
 * kind of collection says which fields a search may name. */
bool reply_list(Call *call, Reply *reply, const char *key, json_t *members, GError **error);
/* beside (taken): for each member an object of what it can be searched by and does not show. */
bool reply_list_beside(Call *call, Reply *reply, const char *key, json_t *members, json_t *beside,
                       GError **error);
/* The same of a collection in which nobody searches, and which one sees whole or not at all: max
 * alone counts. */
bool reply_part(Call *call, Reply *reply, const char *key, json_t *members, GError **error);
/* storage_domains.c: array of documents; with their status, if seen from the data center. Asks the
 * hosts. Who may see only some VMs is told of where those lie. */
json_t *storage_domain_list(const Call *call, bool in_data_center);
/* Of those that hold volumes: asks nobody. */
unsigned storage_domain_count(const Call *call, unsigned *ret_active);
/* The directory of a storage domain (id or name; the other NULL). ERR_NOT_FOUND names it. Asks the
 * hosts. */
char *storage_domain_directory(const Call *call, const char *id, const char *name, GError **error);
/* An action or DELETE that began a job: {"job":{...},"status":"complete"}, at once, or when it has
 * ended if the caller wants to wait ("async" false in an action, or in the query); one that takes
 * too long for that is "in_progress". */
void reply_job(Reply *reply, const char *job_id);
/* Does the caller want the answer when the work is done? waits: if he says nothing of it. */
bool call_wants_to_wait(const Call *call, bool waits);
/* reply->job_id has ended, and its error is the answer; or it goes on without us. */
bool reply_when_ended(const Call *call, Reply *reply, const char *method, GError **error);

/* ---- disks.c ---- */
/* A disk of the VM, or an image of it, is locked from the answer on that began a job with its
 * snapshots: doc, changed. */
json_t *disk_locked_by_jobs(const Call *call, const Vm *vm, json_t *doc);

/* ---- follow.c ---- */
char **path_segments(const char *path); /* without empty ones; g_strfreev() */
/* Another resource, as GET would answer it; path below API_ROOT. */
bool api_read(const Call *from, const char *path, const char **ret_root, json_t **ret_body,
              GError **error);
/* Is there what this collection is of? Asks for the path without its last name. */
bool call_parent(const Call *call, GError **error);
/* Puts what the parameter follow asks for into the body of an answer. */
bool follow_all(const Call *call, json_t *body, GError **error);

/* clang-format off */
#define HANDLERS(X)                                                                          \
    X(get_consoles) X(get_console) X(post_console_ticket) X(post_viewer_file) X(post_vm_ticket) \
    X(get_none) X(get_tags) X(get_tag) X(get_host_vms) X(get_vm_statistics) X(get_vm_statistic) X(post_event)    \
    X(get_disk_snapshots) X(get_disk_snapshot) X(get_domain_disks) X(get_domain_vms)          \
    X(get_domain_disk_snapshots)                                                             \
    X(post_vm_start) X(post_vm_stop) X(post_vm_shutdown) X(post_vm_reboot) X(post_vm_reset)    \
    X(post_vm_suspend) X(post_vm_freeze) X(post_vm_thaw) X(change_vm)                                                                        \
    X(post_vms) X(post_vm_clone) X(delete_vm)                                                  \
    X(get_api) X(get_openapi)                                                                                \
    X(get_vms) X(get_vm) X(get_attachments) X(get_attachment) X(get_nothing)                   \
    X(get_snapshots) X(post_snapshots) X(get_snapshot) X(put_snapshot) X(delete_snapshot)      \
    X(get_snapshot_disks) X(post_removesnapshots)                                             \
    X(post_previewsnapshot) X(post_commitsnapshot) X(post_undosnapshot) X(post_restore)        \
    X(get_disks) X(get_disk)                                                                  \
    X(get_jobs) X(get_job) X(get_steps) X(get_step) X(post_job_cancel) X(post_job_resume)      \
    X(post_jobs) X(post_steps) X(post_step_end) X(post_job_end) X(post_job_clear) X(get_option) \
    X(get_doctor) X(get_vm_doctor) X(post_vm_doctor)                                          \
    X(get_events) X(get_event) X(delete_event) X(get_event_stream)                                                                \
    X(get_hosts) X(get_host) X(get_clusters) X(get_cluster) X(get_datacenters)                 \
    X(get_datacenter) X(get_datacenter_storagedomains) X(get_datacenter_storagedomain)         \
    X(get_storagedomains) X(get_storagedomain) X(post_import) X(get_templates) X(get_template) \
    X(get_users) X(post_users) X(get_user) X(put_user) X(delete_user) X(post_user_password) \
    X(get_user_sessions) X(get_user_session) X(delete_user_session) X(delete_user_sessions) \
    X(get_certificate) X(post_certificate_renew)
/* clang-format on */
#define X(name) bool name(Call *call, Reply *reply, GError **error);
HANDLERS(X)
#undef X
