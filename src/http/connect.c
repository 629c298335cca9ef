/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http/connect.h"

#include <errno.h>
#include <string.h>

static bool
check_address(const char *address, GError **error)
{
    bool http = g_str_has_prefix(address, "http://") || g_str_has_prefix(address, "https://");
    const char *host = http ? strstr(address, "://") + 3 : "";

    if (g_str_has_prefix(address, "unix:/") || (*host != '\0' && strpbrk(host, "/@ ") == NULL))
        return true;
    return error_set(error, ERR_INVALID,
                     "\"%s\" is no address to connect to: write unix:/path, http://host:port or "
                     "https://host:port",
                     address);
}

HttpClient *
http_client_new(const char *address, const char *ca_file, bool insecure, GError **error)
{
    static gsize once = 0;
    bool local = g_str_has_prefix(address, "unix:");

    if (g_once_init_enter(&once)) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        g_once_init_leave(&once, 1);
    }
    if (!check_address(address, error))
        return NULL;
    if (ca_file != NULL && access(ca_file, R_OK) < 0) {
        error_set(error, ERR_INVALID, "the CA file %s cannot be read: %s", ca_file,
                  g_strerror(errno));
        return NULL;
    }
    HttpClient *client = g_new0(HttpClient, 1);
    client->address = g_strdup(address);
    client->origin = g_strdup(local ? "http://localhost" : address);
    client->unix_path = local ? g_strdup(address + strlen("unix:")) : NULL;
    client->ca_file = g_strdup(ca_file);
    client->insecure = insecure;
    client->calls = curl_easy_init();
    g_mutex_init(&client->lock);
    return client;
}

void
http_client_free(HttpClient *client)
{
    if (client == NULL)
        return;
    curl_easy_cleanup(client->calls);
    g_mutex_clear(&client->lock);
    g_free(client->address);
    g_free(client->origin);
    g_free(client->unix_path);
    g_free(client->ca_file);
    g_free(client);
}

CurlList *
connect_headers(const char *const *headers)
{
    CurlList *list = curl_slist_append(NULL, "Expect:"); /* no waiting for "100 Continue" */
    bool typed = false;

    for (; headers != NULL && *headers != NULL; headers++) {
        typed = typed || g_ascii_strncasecmp(*headers, "Content-Type:", 13) == 0;
        list = curl_slist_append(list, *headers);
    }
    return typed ? list : curl_slist_append(list, "Content-Type:");
}

void
connect_prepare(HttpClient *client, CURL *curl, const char *path, const CurlList *headers)
{
    g_autofree char *url = g_strconcat(client->origin, path, NULL);

    client->problem[0] = '\0';
    curl_easy_reset(curl); /* keeps its connections */
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->problem);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* not even from the environment */
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, client->unix_path);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (client->ca_file != NULL)
        curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca_file);
    if (client->insecure) {
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

/* ---- failures in words ---- */

static bool
not_connected(const HttpClient *client, CURL *curl, GError **error)
{
    long why = 0;

    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &why);
    if (why == ECONNREFUSED || why == ENOENT)
        return error_set(error, ERR_UNREACHABLE,
                         "nobody is listening on %s: the program that answers there does not run",
                         client->address);
    if (why == EACCES || why == EPERM)
        return error_set(error, ERR_UNREACHABLE,
                         "no permission to connect to %s: root and the members of the socket's "
                         "group may",
                         client->address);
    return error_set(error, ERR_UNREACHABLE, "cannot connect to %s: %s", client->address,
                     client->problem);
}

static bool
timed_out(const HttpClient *client, CURL *curl, GError **error)
{
    curl_off_t connected = 0;
    curl_off_t spent = 0;

    curl_easy_getinfo(curl, CURLINFO_PRETRANSFER_TIME_T, &connected);
    curl_easy_getinfo(curl, CURLINFO_TOTAL_TIME_T, &spent);
    if (connected == 0)
        return error_set(error, ERR_UNREACHABLE, "no connection to %s within %.1f s",
                         client->address, (double)spent / 1e6);
    return error_set(error, ERR_TIMEOUT,
                     "%s gave no answer within %.1f s; the request may still have been carried out",
                     client->address, (double)spent / 1e6);
}

bool
connect_failed(HttpClient *client, CURL *curl, CURLcode code, GError **error)
{
    if (client->problem[0] == '\0')
        g_strlcpy(client->problem, curl_easy_strerror(code), sizeof client->problem);
    if (code == CURLE_COULDNT_CONNECT)
        return not_connected(client, curl, error);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return timed_out(client, curl, error);
    if (code == CURLE_PEER_FAILED_VERIFICATION)
        return error_set(error, ERR_UNREACHABLE,
                         "the certificate of %s is not trusted (%s); name the file of the "
                         "authority that signed it (--ca; a manager gives its own at /ca.crt)",
                         client->address, client->problem);
    if (code == CURLE_COULDNT_RESOLVE_HOST)
        return error_set(error, ERR_UNREACHABLE, "the host of %s is not known: %s", client->address,
                         client->problem);
    return error_set(error, ERR_UNREACHABLE, "the connection to %s broke: %s", client->address,
                     client->problem);
}
