/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The certificate that clients of the TCP address get: what it is, and making it anew. Our own
 * resource.
 */
#include "api/audit.h"
#include "api/certificate.h"

static json_t *
certificate_document(const CertificateView *view)
{
    const HttpCertificate *served = &view->served;
    json_t *doc = json_object(), *names = json_array();

    doc_text(doc, "href", API_ROOT "/certificate");
    doc_text(doc, "subject", served->subject);
    doc_text(doc, "issuer", served->issuer);
    doc_text(doc, "serial", served->serial);
    doc_text(doc, "fingerprint", served->fingerprint);
    for (char **name = served->names; *name != NULL; name++)
        json_array_append_new(names, json_string(*name));
    json_object_set_new(doc, "names", doc_list("name", names));
    doc_time(doc, "valid_from", served->from);
    doc_time(doc, "expires", served->ends);
    doc_text(doc, "file", view->file);
    doc_flag(doc, "own", view->is_own);
    doc_flag(doc, "renewed_by_itself", view->why_not == NULL);
    doc_text(doc, "why", view->why_not);
    return doc;
}

static bool
has_certificate(const Call *call, GError **error)
{
    return call->certificate != NULL ||
           error_set(error, ERR_NOT_FOUND,
                     "there is no certificate: the manager does not listen with TLS ([manager] "
                     "listen, tls)");
}

bool
get_certificate(Call *call, Reply *reply, GError **error)
{
    g_auto(CertificateView) view = { 0 };

    if (!has_certificate(call, error) || !certificate_view(call->certificate, &view, error))
        return false;
    reply->body = certificate_document(&view);
    return true;
}

bool
post_certificate_renew(Call *call, Reply *reply, GError **error)
{
    g_auto(CertificateView) view = { 0 };

    if (!has_certificate(call, error) || !certificate_renew(call->certificate, error) ||
        !certificate_view(call->certificate, &view, error))
        return false;
    audit_changed(call, NULL, NULL, "New connections get another TLS certificate, %s",
                  view.served.serial);
    reply->body =
        json_pack("{s:s, s:o}", "status", "complete", "certificate", certificate_document(&view));
    return true;
}
