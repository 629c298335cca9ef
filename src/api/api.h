/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The REST API in oVirt's shapes, on two listeners: a TCP address (TLS by default) and a local
 * socket whose peers the kernel names.
 *
 * Promise: a request is answered by one row of the table in routes.c; what begins something is
 * answered when it is stored, not when it is done. Bad input gives a fault that names what is
 * wrong, and changes nothing. Who asks over TCP must have signed in (src/people); the local socket
 * is for root and one group, and the kernel says who they are. Addresses that other machines can
 * reach are listened on only with TLS, and requests that a page of another origin sent are refused.
 *
 * Ownership: the Manager is borrowed and must outlive the server. Threads: one caller; requests run
 * on threads of their own.
 */
#pragma once

#include "flow/manager.h"

typedef struct {
    const char *listen; /* "127.0.0.1:8443", "[::]:8443", "localhost:0"; "" = no TCP */
    bool tls;
    const char *tls_cert; /* PEM files, both or none; none = made in state_dir */
    const char *tls_key;
    const char *tls_ca; /* PEM file that clients get as the authority of tls_cert; "" = none */
    const char *names;  /* that the one in state_dir is for, with commas; "" = this machine's */
    const char *state_dir;
    const char *socket;      /* path; "" = none */
    const char *group;       /* may use the socket besides root; unknown = root alone */
    const char *group_role;  /* what the group may do; "" = administrator */
    const char *password;    /* whose passwords are: "own", "pam"; NULL, "" = own */
    const char *pam_service; /* "" = livemerge */
    const char *pam_dir;     /* where its file is; NULL = where the system has them */
} ApiOptions;

typedef struct ApiServer ApiServer;

/* What --check-config can know without opening anything. */
bool api_options_check(const ApiOptions *options, GError **error);
ApiServer *api_server_start(Manager *manager, const ApiOptions *options, GError **error);
/* "https://127.0.0.1:8443 and unix:/run/livemerge/manager.sock"; borrowed */
const char *api_server_where(const ApiServer *server);
/* Has an administrator a password? */
bool api_server_can_sign_in(const ApiServer *server);
/* Long polls end, connections are closed; well under a second. */
void api_server_stop(ApiServer *server);
