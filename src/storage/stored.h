/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The manifest as it is in its file: reading it, and having it on disk. Used by manifest.c only.
 *
 * Promise: the file alone says what is stored: it is read each time. What a Domain remembers only
 * spares to parse and check the same text twice, and to sync the same file twice. Threads: any.
 */
#pragma once

#include "storage/storage.h"

#include "base/cleanup.h"

#define MANIFEST_FORMAT 1

/* What a file says. Never changed: another thread may have the same one. */
typedef struct {
    const Vm *vm; /* NULL = there is no file */
    struct StoredText *text;
} Stored;

void stored_clear(Stored *stored);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Stored, stored_clear)

bool stored_read(const Domain *domain, const char *file, Stored *ret_stored, GError **error);
/* Its VM, shared; stored->vm is NULL then. */
Vm *stored_share_vm(Stored *stored);
/* The caller has just put this text there, whose "vm" says this. */
void stored_note(const Domain *domain, const char *file, const char *text, const json_t *vm);

/* Of the compact, key-sorted text. */
char *stored_checksum(const json_t *vm);

/* The file and its name are on disk: whoever wrote it may have died before they were. */
bool stored_sync(const Domain *domain, const char *file, GError **error);
/* The caller has just put them there. */
void stored_is_synced(const Domain *domain, const char *file);

/* Smaller ones are parsed at once: an agent that does nothing shall be small. The simulator
 * remembers all. */
extern size_t stored_keep_least;
StoredMemory *stored_memory_new(void);
void stored_memory_free(StoredMemory *memory);
