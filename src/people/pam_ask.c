/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One conversation with libpam.
 */
#include "people/pam.h"

#ifdef HAVE_PAM

#include <security/pam_appl.h>
#include <stdlib.h>
#include <string.h>

bool
pam_is_there(void)
{
    return true;
}

static void
free_answers(struct pam_response *answers, int n)
{
    for (int i = 0; i < n; i++)
        if (answers[i].resp != NULL) {
            explicit_bzero(answers[i].resp, strlen(answers[i].resp));
            free(answers[i].resp);
        }
    free(answers);
}

/* All that is asked for without an echo is the password; other questions have no answer here. */
static int
converse(int n, const struct pam_message **messages, struct pam_response **ret_answers, void *data)
{
    const PamQuestion *question = data;
    struct pam_response *answers;
    bool good = true;

    if (n <= 0 || n > PAM_MAX_NUM_MSG)
        return PAM_CONV_ERR;
    answers = calloc((size_t)n, sizeof *answers); /* PAM frees it */
    if (answers == NULL)
        return PAM_BUF_ERR;
    for (int i = 0; good && i < n; i++) {
        int style = messages[i]->msg_style;
        if (style == PAM_PROMPT_ECHO_OFF)
            answers[i].resp = strdup(question->password);
        good = style == PAM_ERROR_MSG || style == PAM_TEXT_INFO || answers[i].resp != NULL;
    }
    if (good) {
        *ret_answers = answers;
        return PAM_SUCCESS;
    }
    free_answers(answers, n);
    return PAM_CONV_ERR;
}

/* Failures are limited by us: nobody needs to wait in a thread for that. */
static void
no_delay(int result, unsigned delay_us, void *data)
{
}

static bool
refuse(const PamQuestion *question, pam_handle_t *pam, int code, GError **error)
{
    switch (code) {
    case PAM_AUTH_ERR:
    case PAM_USER_UNKNOWN:
    case PAM_MAXTRIES:
    case PAM_CRED_INSUFFICIENT:
    case PAM_PERM_DENIED:
        return error_set(error, ERR_SIGN_IN, "the user name or the password is not right");
    default: /* a module that failed, or a service that is not set up: not what was typed */
        return error_set(error, ERR_UNREACHABLE,
                         "PAM's service '%s' cannot tell whether the password is right: %s",
                         question->service, pam_strerror(pam, code));
    }
}

/* The password was right: so he may know what is wrong with the account. */
static bool
refuse_account(const PamQuestion *question, pam_handle_t *pam, int code, GError **error)
{
    switch (code) {
    case PAM_ACCT_EXPIRED:
        return error_set(error, ERR_SIGN_IN, "the account '%s' has expired", question->user);
    case PAM_NEW_AUTHTOK_REQD:
    case PAM_AUTHTOK_EXPIRED:
        return error_set(
            error, ERR_SIGN_IN,
            "the password of the account '%s' has expired: change it where the account "
            "is kept (passwd, or its directory)",
            question->user);
    case PAM_AUTH_ERR:
    case PAM_USER_UNKNOWN:
    case PAM_PERM_DENIED:
        return error_set(error, ERR_SIGN_IN, "the account '%s' may not sign in here",
                         question->user);
    default:
        return refuse(question, pam, code, error);
    }
}

static int
start(const PamQuestion *question, const struct pam_conv *talk, pam_handle_t **ret_pam)
{
    return question->dir != NULL
               ? pam_start_confdir(question->service, question->user, talk, question->dir, ret_pam)
               : pam_start(question->service, question->user, talk, ret_pam);
}

bool
pam_ask(const PamQuestion *question, GError **error)
{
    const struct pam_conv talk = { converse, (void *)question };
    pam_handle_t *pam = NULL;
    int code = start(question, &talk, &pam);
    bool good = false;

    if (code != PAM_SUCCESS)
        return refuse(question, pam, PAM_ABORT, error);
    pam_set_item(pam, PAM_RHOST, question->peer);
    pam_set_item(pam, PAM_FAIL_DELAY, (const void *)no_delay);
    code = pam_authenticate(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
    if (code != PAM_SUCCESS) {
        refuse(question, pam, code, error);
    } else {
        code = pam_acct_mgmt(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
        good = code == PAM_SUCCESS || refuse_account(question, pam, code, error);
    }
    pam_end(pam, code);
    return good;
}

#else

bool
pam_is_there(void)
{
    return false;
}

bool
pam_ask(const PamQuestion *question, GError **error)
{
    return pam_refuse(error);
}

#endif

bool
pam_refuse(GError **error)
{
    return error_set(
        error, ERR_UNSUPPORTED,
        "[people] password = pam: this livemerge-manager was built without PAM. Install "
        "one that was built with it (meson's -Dpam=enabled), or set password = own");
}
