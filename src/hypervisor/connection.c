/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Keeps one connection to libvirt. A connector thread opens it, registers for events, and waits
 * until libvirt's close callback says that it ended; then it begins again with a back-off.
 * libvirt never reconnects by itself and forgets all registrations.
 */
#include "hypervisor/connection.h"

#include "base/log.h"
#include "base/text.h"

#include <inttypes.h>
#include <libvirt/virterror.h>

enum {
    KEEPALIVE_SECONDS = 20, /* each costs two wakeups */
    KEEPALIVE_MISSES = 1,
    BACKOFF_FIRST_MS = 50,
    BACKOFF_LAST_MS = 2000,
    MUTE_S = 5,         /* of a libvirtd that is being opened, until that is said */
    FREE_WAIT_MS = 500, /* opening blocks for ever on a libvirtd that is stopped */
};

static void
quiet(void *data, virErrorPtr error)
{
}

static gpointer
run_event_loop(gpointer data)
{
    for (;;)
        if (virEventRunDefaultImpl() < 0)
            g_usleep(100000); /* it cannot fail in practice; never spin if it does */
    return NULL;
}

/* Once in the life of the process: libvirt has one event loop, and it cannot be ended. */
static void
start_event_loop(void)
{
    static gsize once;

    if (!g_once_init_enter(&once))
        return;
    virSetErrorFunc(NULL, quiet);
    if (virInitialize() == 0 && virEventRegisterDefaultImpl() == 0)
        g_thread_unref(g_thread_new("libvirt-events", run_event_loop, NULL));
    g_once_init_leave(&once, 1);
}

Libvirt *
libvirt_ref(Libvirt *self)
{
    g_atomic_int_inc(&self->refs);
    return self;
}

void
libvirt_unref(void *data)
{
    Libvirt *self = data;

    if (!g_atomic_int_dec_and_test(&self->refs))
        return;
    g_free(self->uri);
    g_free(self->why);
    g_hash_table_unref(self->reasons);
    g_hash_table_unref(self->instances);
    g_clear_pointer(&self->processes, g_hash_table_unref);
    g_hash_table_unref(self->domains);
    g_hash_table_unref(self->sure_leaves);
    g_mutex_clear(&self->emit_lock);
    g_mutex_clear(&self->lock);
    g_cond_clear(&self->changed);
    g_free(self);
}

void
libvirt_emit(Libvirt *self, const HvEvent *event)
{
    WITH_LOCK(&self->emit_lock);

    if (!self->silent && self->each != NULL)
        self->each(event, self->data);
}

static void
note_why(Libvirt *self, const char *why)
{
    WITH_LOCK(&self->lock);

    if (g_strcmp0(self->why, why) != 0)
        log_warn("libvirt (%s): %s; it is tried again", self->uri, why);
    g_free(self->why);
    self->why = g_strdup(why);
}

static void
note_opening(Libvirt *self, int64_t since_us)
{
    WITH_LOCK(&self->lock);

    self->opening_us = since_us;
}

static const char *
close_reason(int reason)
{
    switch (reason) {
    case VIR_CONNECT_CLOSE_REASON_EOF:
        return "libvirtd closed the connection";
    case VIR_CONNECT_CLOSE_REASON_KEEPALIVE:
        return "libvirtd did not answer in time";
    default:
        return "the connection ended";
    }
}

/* On the event thread, under locks of libvirt: only note it. */
static void
on_close(virConnectPtr conn, int reason, void *data)
{
    Libvirt *self = data;

    note_why(self, close_reason(reason));
    WITH_LOCK(&self->lock);
    self->conn = NULL;
    self->broken = true;
    g_cond_broadcast(&self->changed);
}

typedef struct {
    virConnectPtr conn;
    int ids[N_EVENTS];
    int monitor_id;
} Link;

static void
link_close(Link *link)
{
    events_deregister(link->conn, link->ids, link->monitor_id);
    virConnectUnregisterCloseCallback(link->conn, on_close);
    virConnectClose(link->conn);
    link->conn = NULL;
}

static bool
link_open(Libvirt *self, Link *link)
{
    note_opening(self, g_get_monotonic_time());
    link->conn = virConnectOpen(self->uri);
    note_opening(self, 0);
    if (link->conn == NULL) {
        note_why(self, virGetLastErrorMessage());
        return false;
    }
    for (int i = 0; i < N_EVENTS; i++)
        link->ids[i] = -1;
    link->monitor_id = -1;
    virConnectSetKeepAlive(link->conn, KEEPALIVE_SECONDS, KEEPALIVE_MISSES);
    /* without a reference: drivers that know no closing drop it unseen, and unregistering waits
     * for a callback that runs */
    if (virConnectRegisterCloseCallback(link->conn, on_close, self, NULL) < 0) {
        note_why(self, virGetLastErrorMessage());
        virConnectClose(link->conn);
        return false;
    }
    if (!events_register(self, link->conn, link->ids, &link->monitor_id)) {
        note_why(self, virGetLastErrorMessage());
        link_close(link);
        return false;
    }
    return true;
}

/* Waits until stopping, broken (if asked for), or so many milliseconds (0 = no limit) went by.
 * Returns false when stopping. */
static bool
wait_for(Libvirt *self, bool broken, unsigned ms)
{
    WITH_LOCK(&self->lock);
    gint64 end = g_get_monotonic_time() + (gint64)ms * 1000;

    while (!self->stopping && !(broken && self->broken))
        if (ms == 0)
            g_cond_wait(&self->changed, &self->lock);
        else if (!g_cond_wait_until(&self->changed, &self->lock, end))
            break;
    return !self->stopping;
}

/* Shows the connection to callers, unless it ended while it was being set up. */
static bool
publish(Libvirt *self, virConnectPtr conn)
{
    WITH_LOCK(&self->lock);

    if (!self->broken && !self->stopping)
        self->conn = conn;
    return self->conn != NULL;
}

static void
free_domain(void *domain)
{
    virDomainFree(domain);
}

static GHashTable *
new_domains(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_domain);
}

static void
unpublish(Libvirt *self)
{
    g_autoptr(GHashTable) gone = NULL; /* freed without the lock, with its hold on the connection */
    WITH_LOCK(&self->lock);

    self->conn = NULL;
    self->broken = false;
    g_clear_pointer(&self->processes, g_hash_table_unref);
    g_hash_table_remove_all(self->sure_leaves);
    gone = g_steal_pointer(&self->domains);
    self->domains = new_domains();
}

static gpointer
keep_connected(gpointer data)
{
    Libvirt *self = data;
    unsigned backoff = BACKOFF_FIRST_MS;
    Link link;

    do {
        if (!link_open(self, &link)) {
            unpublish(self);
        } else {
            if (publish(self, link.conn)) {
                backoff = BACKOFF_FIRST_MS;
                libvirt_emit(self, &(HvEvent){ .kind = HV_EVENT_CONNECTED });
                wait_for(self, true, 0);
                libvirt_emit(self, &(HvEvent){ .kind = HV_EVENT_DISCONNECTED });
            }
            unpublish(self);
            link_close(&link);
        }
        if (!wait_for(self, false, backoff))
            break;
        backoff = MIN(backoff * 2, (unsigned)BACKOFF_LAST_MS);
    } while (true);

    g_mutex_lock(&self->lock);
    self->finished = true;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    libvirt_unref(self);
    return NULL;
}

static void
libvirt_free(Hypervisor *hv)
{
    Libvirt *self = (Libvirt *)hv;

    g_mutex_lock(&self->emit_lock);
    self->silent = true;
    g_mutex_unlock(&self->emit_lock);

    g_mutex_lock(&self->lock);
    gint64 end = g_get_monotonic_time() + (gint64)FREE_WAIT_MS * 1000;
    self->stopping = true;
    g_cond_broadcast(&self->changed);
    while (!self->finished && g_cond_wait_until(&self->changed, &self->lock, end))
        ;
    bool finished = self->finished;
    g_mutex_unlock(&self->lock);

    if (finished)
        g_thread_join(self->connector);
    else
        g_thread_unref(self->connector); /* it cleans up when libvirt lets go of it */
    libvirt_unref(self);
}

static bool
libvirt_is_connected(Hypervisor *hv)
{
    Libvirt *self = (Libvirt *)hv;
    WITH_LOCK(&self->lock);

    return self->conn != NULL;
}

virConnectPtr
libvirt_conn(Libvirt *self, GError **error)
{
    WITH_LOCK(&self->lock);

    if (self->conn == NULL) {
        int64_t waits_s = self->opening_us == 0
                              ? 0
                              : (g_get_monotonic_time() - self->opening_us) / G_TIME_SPAN_SECOND;
        g_autofree char *mute = waits_s < MUTE_S
                                    ? NULL
                                    : g_strdup_printf("libvirtd has not answered for %" PRId64
                                                      " s (is it stopped, or hung?)",
                                                      waits_s);
        error_set(error, ERR_UNREACHABLE,
                  "libvirt (%s) is not reachable: %s; running VMs and jobs are not affected, "
                  "livemerge goes on trying",
                  self->uri,
                  mute != NULL        ? mute
                  : self->why != NULL ? self->why
                                      : "not connected yet");
        return NULL;
    }
    virConnectRef(self->conn); /* counts only: takes no lock */
    return self->conn;
}

static virDomainPtr
known_domain(Libvirt *self, const char *vm_id)
{
    WITH_LOCK(&self->lock);
    virDomainPtr domain = self->conn != NULL ? g_hash_table_lookup(self->domains, vm_id) : NULL;

    if (domain != NULL)
        virDomainRef(domain); /* counts only */
    return domain;
}

static void
remember_domain(Libvirt *self, virConnectPtr conn, const char *vm_id, virDomainPtr domain)
{
    WITH_LOCK(&self->lock);

    if (self->conn != conn || g_hash_table_contains(self->domains, vm_id))
        return;
    virDomainRef(domain);
    g_hash_table_insert(self->domains, g_strdup(vm_id), domain);
}

void
libvirt_forget_domain(Libvirt *self, const char *vm_id)
{
    g_autofree char *key = NULL;
    g_autoptr(virDomain) domain = NULL; /* freed without the lock */
    WITH_LOCK(&self->lock);

    g_hash_table_steal_extended(self->domains, vm_id, (gpointer *)&key, (gpointer *)&domain);
}

virDomainPtr
libvirt_domain(Hypervisor *hv, const char *vm_id, GError **error)
{
    Libvirt *self = (Libvirt *)hv;
    virDomainPtr domain = known_domain(self, vm_id);
    g_autoptr(virConnect) conn = NULL;

    if (domain != NULL)
        return domain;
    conn = libvirt_conn(self, error);
    if (conn == NULL)
        return NULL;
    domain = virDomainLookupByUUIDString(conn, vm_id);
    if (domain != NULL)
        remember_domain(self, conn, vm_id, domain);
    else {
        const virError *last = virGetLastError();
        ErrorCode code = ERR_HYPERVISOR;
        if (last != NULL)
            code = libvirt_error_code(last->code, last->domain, last->message);
        if (!id_is_valid(vm_id))
            code = ERR_NOT_FOUND;
        error_set(error, code, "VM %s: looking it up: %s", vm_id,
                  last != NULL ? last->message : "no reason given");
    }
    return domain; /* holds a reference to the connection */
}

ErrorCode
libvirt_error_code(int code, int domain, const char *message)
{
    if (domain == VIR_FROM_RPC || code == VIR_ERR_NO_CONNECT || code == VIR_ERR_INVALID_CONN)
        return ERR_UNREACHABLE;
    if (code == VIR_ERR_NO_DOMAIN)
        return ERR_NOT_FOUND;
    if (code == VIR_ERR_OPERATION_TIMEOUT || code == VIR_ERR_BLOCK_COPY_ACTIVE)
        return ERR_BUSY;
    /* libvirt 9 says these two with different codes (55, 83, 84) in different places */
    if (message != NULL && (strstr(message, "has active block job") != NULL ||
                            strstr(message, "already in active block job") != NULL))
        return ERR_BUSY;
    return ERR_HYPERVISOR;
}

bool
libvirt_refused(virDomainPtr domain, GError **error, const char *doing, ...)
{
    /* a copy: even virDomainGetName() clears the thread's last error */
    g_autofree char *message = g_strdup(virGetLastErrorMessage());
    const virError *last = virGetLastError();
    ErrorCode code = ERR_HYPERVISOR;
    char uuid[VIR_UUID_STRING_BUFLEN] = "";
    va_list args;

    if (last != NULL)
        code = libvirt_error_code(last->code, last->domain, message);
    va_start(args, doing);
    g_autofree char *what = g_strdup_vprintf(doing, args);
    va_end(args);
    virDomainGetUUIDString(domain, uuid);
    return error_set(error, code, "VM '%s' (%s): %s: %s", virDomainGetName(domain), uuid, what,
                     message);
}

bool
libvirt_error_is(int code, const char *text)
{
    const virError *last = virGetLastError();

    return last != NULL && last->code == code &&
           (text == NULL || (last->message != NULL && strstr(last->message, text) != NULL));
}

bool
libvirt_is_off(virDomainPtr domain)
{
    return virDomainIsActive(domain) == 0;
}

static const HypervisorOps libvirt_ops = {
    .free = libvirt_free,
    .is_connected = libvirt_is_connected,
    .list = domain_list,
    .look = domain_look,
    .stored_disks = domain_stored_disks,
    .foreign_job = domain_foreign_job,
    .snapshot = snapshot_take,
    .freeze = snapshot_freeze,
    .thaw = snapshot_thaw,
    .commit_start = jobs_commit_start,
    .copy_start = jobs_copy_start,
    .job_look = jobs_look,
    .job_set_bandwidth = jobs_set_bandwidth,
    .job_cancel = jobs_cancel,
    .job_pivot = jobs_pivot,
    .flush = flush_volume,
    .relink = relink_volume,
    .suspend = domain_suspend,
    .resume = domain_resume,
    .start = power_start,
    .restore = power_restore,
    .power = power_ask,
    .ticket = ticket_set,
    .guest_name = guest_name,
    .rename = domain_rename,
    .describe = domain_describe,
    .host = host_look,
    .redefine = domain_redefine,
    .reconfigure = domain_reconfigure,
    .clone = define_clone,
    .undefine = define_undo,
    .snapshot_records = snapshot_records,
    .snapshot_record_forget = snapshot_record_forget,
    .snapshot_record_restore = snapshot_record_restore,
};

Hypervisor *
hypervisor_libvirt_new(const char *uri, HvEventFunc each, void *data)
{
    Libvirt *self = g_new0(Libvirt, 1);

    start_event_loop();
    self->hypervisor.ops = &libvirt_ops;
    self->refs = 1;
    self->uri = g_strdup(uri);
    self->each = each;
    self->data = data;
    g_mutex_init(&self->emit_lock);
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);
    self->reasons = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->instances = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->sure_leaves = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->domains = new_domains();
    self->connector = g_thread_new("libvirt-connect", keep_connected, libvirt_ref(self));
    return &self->hypervisor;
}
