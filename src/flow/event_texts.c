/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What events say. oVirt's words where oVirt has the event.
 */
#include "flow/core.h"

#include <string.h>

/* clang-format off */
static const EventTexts all_texts[] = {
    { "create-snapshot",
      .started = "Snapshot {names} creation for VM '{vm}' was initiated by {user}.",
      .done    = "Snapshot {names} creation for VM '{vm}' has been completed.",
      .failed  = "Failed to complete snapshot {names} creation for VM '{vm}': {why}",
      .refused = "Failed to create Snapshot {names} for VM '{vm}' (User: {user}): {why}" },
    { "remove-snapshots",
      .started = "Snapshot {names} deletion for VM '{vm}' was initiated by {user}.",
      .done    = "Snapshot {names} deletion for VM '{vm}' has been completed.",
      .failed  = "Failed to delete snapshot {names} for VM '{vm}': {why}",
      .refused = "Failed to remove Snapshot {names} for VM '{vm}' (User: {user}): {why}" },
    { "rename-snapshot",
      .done    = "Snapshot {names} of VM '{vm}' was renamed to '{name}' by {user}.",
      .failed  = "Failed to rename snapshot {names} of VM '{vm}': {why}" },
    { "preview-snapshot",
      .started = "Snapshot-Preview {names} for VM '{vm}' was initiated by {user}.",
      .done    = "Snapshot-Preview {names} for VM '{vm}' has been completed.",
      .failed  = "Failed to complete Snapshot-Preview {names} for VM '{vm}': {why}",
      .refused = "Failed to preview Snapshot {names} for VM '{vm}' (User: {user}): {why}" },
    { "commit-snapshot",
      .started = "Committing a Snapshot-Preview of {names} for VM '{vm}' was initialized by {user}.",
      .done    = "Committing a Snapshot-Preview of {names} for VM '{vm}' has been completed.{why}",
      .failed  = "Failed to commit Snapshot-Preview of {names} for VM '{vm}': {why}",
      .refused = "Failed to commit a Snapshot-Preview for VM '{vm}' (User: {user}): {why}" },
    { "undo-snapshot",
      .started = "Undoing a Snapshot-Preview of {names} for VM '{vm}' was initialized by {user}.",
      .done    = "Undoing a Snapshot-Preview of {names} for VM '{vm}' has been completed.{why}",
      .failed  = "Failed to undo Snapshot-Preview of {names} for VM '{vm}': {why}",
      .refused = "Failed to undo a Snapshot-Preview for VM '{vm}' (User: {user}): {why}" },
    { "restore-snapshot",
      .started = "VM '{vm}' is being restored from Snapshot {names} by {user}.",
      .done    = "VM '{vm}' restoring from Snapshot {names} has been completed.{why}",
      .failed  = "Failed to complete restoring of VM '{vm}' from Snapshot {names}: {why}",
      .refused = "Failed to restore VM '{vm}' from Snapshot {names} (User: {user}): {why}" },
    { "doctor",
      .done    = "The doctor is done with VM '{vm}' (User: {user}).",
      .failed  = "The doctor failed to mend VM '{vm}' (User: {user}): {why}" },
    { "import",
      .done    = "What was under way on VM '{vm}' was taken over by {user}.",
      .failed  = "Failed to take over what was under way on VM '{vm}': {why}" },
    { "clone-vm",
      .started = "VM '{name}' creation was initiated by {user}, as a clone of VM '{vm}'.",
      .done    = "VM '{name}' creation has been completed, as a clone of VM '{vm}'.",
      .failed  = "Failed to complete VM '{name}' creation, as a clone of VM '{vm}': {why}",
      .refused = "Failed to create VM {names} as a clone of VM '{vm}' (User: {user}): {why}" },
    { "remove-vm",
      .done    = "VM '{vm}' was successfully removed by {user}.",
      .failed  = "Failed to remove VM '{vm}' (User: {user}): {why}",
      .refused = "Failed to remove VM '{vm}' (User: {user}): {why}" },
    { "start-vm",
      .started = "Starting VM '{vm}' was initiated by {user}.",
      .done    = "VM '{vm}' was started by {user} (Host: {host}).",
      .failed  = "Failed to run VM '{vm}' (User: {user}): {why}",
      .refused = "Failed to run VM '{vm}' (User: {user}): {why}" },
    { "stop-vm",
      .done    = "VM '{vm}' powered off by {user} (Host: {host}).",
      .failed  = "Failed to power off VM '{vm}' (Host: {host}, User: {user}): {why}",
      .refused = "Failed to power off VM '{vm}' (Host: {host}, User: {user}): {why}" },
    { "shutdown-vm",
      .started = "VM shutdown initiated by {user} on VM '{vm}' (Host: {host}).",
      .failed  = "Shutdown of VM '{vm}' failed: {why}",
      .refused = "Failed to initiate shutdown on VM '{vm}' (Host: {host}, User: {user}): {why}" },
    { "reboot-vm",
      .started = "User {user} initiated reboot of VM '{vm}'.",
      .failed  = "Reboot of VM '{vm}' failed (User: {user}): {why}",
      .refused = "Reboot of VM '{vm}' failed (User: {user}): {why}" },
    { "reset-vm",
      .done    = "VM '{vm}' was reset by {user} (Host: {host}).",
      .failed  = "Failed to reset VM '{vm}' (Host: {host}, User: {user}): {why}",
      .refused = "Failed to reset VM '{vm}' (Host: {host}, User: {user}): {why}" },
    { "freeze-vm",
      .done    = "Guest filesystems on VM '{vm}' have been frozen successfully.",
      .failed  = "Failed to freeze guest filesystems on VM '{vm}': {why}",
      .refused = "Failed to freeze guest filesystems on VM '{vm}' (User: {user}): {why}" },
    { "thaw-vm",
      .done    = "Guest filesystems on VM '{vm}' have been thawed successfully.",
      .failed  = "Failed to thaw guest filesystems on VM '{vm}': {why}",
      .refused = "Failed to thaw guest filesystems on VM '{vm}' (User: {user}): {why}" },
    { "update-vm",
      .done    = "VM '{vm}' configuration was updated by {user}.",
      .failed  = "Failed to update VM '{vm}' (User: {user}): {why}",
      .refused = "Failed to update VM '{vm}' (User: {user}): {why}" },
    { "suspend-vm",
      .started = "Suspending VM '{vm}' was initiated by {user} (Host: {host}).",
      .done    = "VM '{vm}' on Host {host} is suspended.",
      .failed  = "Failed to suspend VM '{vm}' (Host: {host}, User: {user}): {why}",
      .refused = "Failed to suspend VM '{vm}' (Host: {host}, User: {user}): {why}" },
};
/* clang-format on */

const EventTexts *
event_texts(const char *kind)
{
    static const EventTexts none = { 0 };

    for (size_t i = 0; i < G_N_ELEMENTS(all_texts); i++)
        if (g_str_equal(all_texts[i].kind, kind))
            return &all_texts[i];
    return &none;
}

static const char *
value_of(const EventValues *values, const char *word, size_t length)
{
    const struct {
        const char *word, *value;
    } known[] = { { "names", values->names }, { "vm", values->vm },     { "user", values->user },
                  { "host", values->host },   { "name", values->name }, { "why", values->why } };

    for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
        if (strlen(known[i].word) == length && memcmp(known[i].word, word, length) == 0)
            return known[i].value;
    g_assert_not_reached();
}

char *
event_fill(const char *text, const EventValues *values)
{
    GString *filled = g_string_new(NULL);

    while (*text != '\0') {
        size_t plain = strcspn(text, "{");
        g_string_append_len(filled, text, (gssize)plain);
        text += plain;
        if (*text == '\0')
            break;
        const char *end = strchr(text, '}');
        const char *value = value_of(values, text + 1, (size_t)(end - text) - 1);
        g_string_append(filled, value != NULL ? value : "?");
        text = end + 1;
    }
    return g_string_free(filled, FALSE);
}
