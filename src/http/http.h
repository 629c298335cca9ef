/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * HTTP for both daemons and their clients: a server on libmicrohttpd (unix socket and TCP, TLS
 * where asked), a client on libcurl (the same), streams of lines in both directions.
 *
 * Promise of the server: one thread reads and writes all connections, so a client that is slow or
 * silent holds nothing but its connection; a handler is called when the whole request is there, on
 * a thread of a pool, and may block. Bodies over the limit are answered 413 without being kept;
 * GET, HEAD and DELETE are answered without waiting for an announced body that never comes
 * (libgovirt on Debian 12, facts/rest 0.2); a client that stalls is cut after a time-out. At most N
 * connections and K handlers at a time, half of them for one peer address (what has waited for an
 * answer that comes later does not count): what is more is not accepted, or answered 503.
 *
 * Ownership: as each comment says. Threads: a server has its own; a client belongs to one thread at
 * a time.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

/* ---- server ---- */

typedef struct HttpServer HttpServer;

typedef struct {
    const char *method;
    const char *path;     /* decoded, no query, e.g. "/ovirt-engine/api/vms"; or "*" */
    const char *raw_path; /* as it came, percent-encoded */
    const char *query;    /* raw query string without "?"; "" if none */
    const char *body;     /* NUL-terminated; may hold NULs before body_size */
    size_t body_size;
    bool local; /* came over a unix socket; then: */
    uid_t peer_uid;
    gid_t peer_gid;
    pid_t peer_pid;
    const char *peer;   /* "127.0.0.1" or "local" */
    void *connection;   /* opaque, for the look-ups below; NULL in requests made up by tests */
    HttpServer *server; /* for http_server_stopping() */
} HttpRequest;

/* NULL if absent; borrowed. Header names ignore case. Of a query the first value wins, decoded. */
const char *http_header(const HttpRequest *request, const char *name);
/* Of one that may be there several times: all, with commas between them. */
const char *http_header_list(const HttpRequest *request, const char *name);
const char *http_query(const HttpRequest *request, const char *name);

typedef struct HttpResponse HttpResponse;
struct HttpResponse {
    int status;
    char *body;         /* owned, g_free; NULL = empty */
    size_t body_size;   /* 0 with a body: its strlen */
    GBytes *shared;     /* owned; instead of body, without a copy; NULL = none */
    char *content_type; /* owned */
    GPtrArray *headers; /* name, value, name, value ... owned; NULL = none */
    /* A stream instead of a body: called on a thread of its own whenever the client can take
     * more. Returns bytes put into buf, 0 = end. It blocks until there is something to
     * say, at most about 10 s (then it should say a keep-alive line), and returns 0 within 0.2 s
     * after http_server_stopping(). -1 breaks the connection. NULL = no stream. */
    ssize_t (*stream)(void *data, char *buf, size_t max);
    /* The same without a thread, for streams by the thousand: called on the server's thread, so it
     * never blocks. Returns bytes put into buf, 0 = nothing now: it is called again after
     * http_server_wake(), -1 = end. Who went away is noticed when it says something: it should
     * every 10 s or so. Uses stream_data and stream_free, too. */
    ssize_t (*feed)(void *data, char *buf, size_t max);
    /* Or an answer that comes later, and costs no thread until then: is_time() is asked again and
     * again on one thread for all of them, so it never blocks; when it is true, or the server
     * stops, later() fills the response on a thread of the pool: it may fill
     * is_time once more, unless the server stops, but must not wait itself. Both use stream_data,
     * too. NULL = now. */
    bool (*is_time)(void *data);
    void (*later)(const HttpRequest *request, void *data, HttpResponse *response);
    void *stream_data;
    GDestroyNotify stream_free;
};
void http_response_header(HttpResponse *response, const char *name, const char *value);
/* Another method than these ("GET, HEAD, OPTIONS") was asked for: says so in a header Allow. True:
 * it was OPTIONS, which is answered by that. */
bool http_response_allow(const HttpRequest *request, HttpResponse *response, const char *methods);
/* Frees what it holds: for who makes up requests (tests). The server does it with its own. */
void http_response_clear(HttpResponse *response);

/* Fills *response (zeroed before). */
typedef void (*HttpHandler)(const HttpRequest *request, HttpResponse *response, void *data);

/* Answers what the server itself refuses before a handler may see it: a body over the limit
 * (ERR_TOO_LARGE), a path that is none (ERR_INVALID; request->path is ""), too many requests of one
 * address (ERR_UNREACHABLE). There is no body. Called on the server's thread: it must not block. */
typedef void (*HttpRefusal)(const HttpRequest *request, const GError *problem,
                            HttpResponse *response);

typedef struct {
    const char *address; /* "unix:/path" or "ADDR:PORT" ("[::1]:8443"); PORT 0 = any free one */
    const char *group; /* unix: group that may connect besides root (socket 0660); NULL = root only
                          (0600) */
    const char *tls_cert; /* PEM texts; both NULL = no TLS */
    const char *tls_key;
    size_t max_body;          /* bytes; 0 = 1 MiB */
    unsigned max_connections; /* 0 = 200 */
    unsigned max_handlers;    /* that run at a time; 0 = 200 */
    unsigned timeout_s;       /* idle time-out; 0 = 30. A whole request may take twice as long. */
    HttpRefusal refuse;       /* NULL = plain text */
} HttpServerOptions;

/* A stale unix socket is replaced; one that somebody answers on is ERR_BUSY naming it. */
HttpServer *http_server_start(const HttpServerOptions *options, HttpHandler handler, void *data,
                              GError **error);
unsigned http_server_port(const HttpServer *server); /* TCP: the port in use */
/* Has the server begun to stop? Handlers and streams that wait must end then: they look here every
 * 0.2 s, or wait on a condition that the owner signals after http_server_stopping_set(). Any
 * thread; false for NULL. */
bool http_server_stopping(const HttpServer *server);
void http_server_stopping_set(HttpServer *server); /* before waking; http_server_stop() does it */
/* All feeds are asked again. Any thread. */
void http_server_wake(HttpServer *server);
/* Ends streams, closes connections, removes the socket, joins every handler. Under 0.5 s if they
 * keep the rule above. NULL is fine. */
void http_server_stop(HttpServer *server);

/* New connections get this certificate (PEM texts) from now on; those that are open stay.
 * ERR_INVALID: it cannot be used, and nothing changes. Of a server with TLS. Any thread. */
bool http_server_set_certificate(HttpServer *server, const char *cert, const char *key,
                                 GError **error);

/* A server's own certificate in dir, signed by an authority of its own: ca.pem, ca-key.pem (0600),
 * cert.pem, key.pem (0600). names: host names and addresses that it must be for, NULL-terminated;
 * the first one is its title. Made if cert.pem and key.pem are not there; made anew, by the same
 * authority and with the same key, if it ends within 30 days (it lives for a year, the authority
 * for ten), or lacks a name. *ret_news: what was done to one that was there, or why it could not be
 * done; NULL = nothing. cert.pem without key.pem is ERR_EXISTS, and so is the other way round
 * without an authority. */
bool http_keep_certificate(const char *dir, const char *const *names, char **ret_news,
                           GError **error);

/* Makes it anew at once, by the same authority and with the same key. ERR_REFUSED: it has none. */
bool http_renew_certificate(const char *dir, const char *const *names, GError **error);
/* Why it cannot be made anew; NULL = it can. */
char *http_certificate_lacks(const char *dir);

typedef struct {
    char *subject, *issuer; /* "CN=host.example.org" */
    char *serial;           /* "0A:1B" */
    char *fingerprint;      /* of SHA-256, in the same form */
    char **names;           /* host names and addresses */
    int64_t from, ends;     /* ms */
} HttpCertificate;
/* The first one of a PEM text; *ret zeroed before. ERR_INVALID */
bool http_certificate_read(const char *pem, HttpCertificate *ret, GError **error);
void http_certificate_clear(HttpCertificate *certificate);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HttpCertificate, http_certificate_clear)

/* ---- client ---- */

typedef struct HttpClient HttpClient;
/* "unix:/path", "http://host:port", "https://host:port". ca_file: PEM to trust besides the
 * system's; NULL. insecure: do not verify (tests, and with a warning the CLI). Connections are kept
 * alive. */
HttpClient *http_client_new(const char *address, const char *ca_file, bool insecure,
                            GError **error);
void http_client_free(HttpClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HttpClient, http_client_free)

typedef struct {
    int status;
    char *body; /* g_free; always NUL-terminated */
    size_t body_size;
    char *content_type;
} HttpAnswer;
void http_answer_clear(HttpAnswer *answer);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HttpAnswer, http_answer_clear)

/* headers: "Name: value" strings, NULL-terminated; may be NULL. Any HTTP status is an answer
 * (true); false = ERR_UNREACHABLE (no connection, cut) or ERR_TIMEOUT, which names the address. */
bool http_call(HttpClient *client, const char *method, const char *path, const char *const *headers,
               const char *body, size_t body_size, unsigned timeout_ms, HttpAnswer *ret_answer,
               GError **error);
/* GET of a stream: each line (without newline) as it comes; the callback returns false to stop
 * (then true is returned). Returns false when the connection ends or nothing comes for idle_s. A
 * non-200 status is an error. A line has at most 1 MiB. */
typedef bool (*HttpLineFunc)(const char *line, void *data);
bool http_stream(HttpClient *client, const char *path, const char *const *headers, unsigned idle_s,
                 HttpLineFunc each, void *data, GError **error);
/* The same; a non-200 answer is also put into *ret_refusal (zeroed before; cleared by the caller),
 * beside the error. May be NULL. */
bool http_stream_refusal(HttpClient *client, const char *path, const char *const *headers,
                         unsigned idle_s, HttpLineFunc each, void *data, HttpAnswer *ret_refusal,
                         GError **error);
/* From any thread: the running http_stream() of this client ends at once with ERR_CANCELLED, and
 * so does every later one. The client must not be freed meanwhile. */
void http_client_cancel(HttpClient *client);
