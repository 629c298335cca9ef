/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is done for single classes: doctor_mend.c (definitions, headers, files), doctor_mend_vm.c
 * (manifest, block jobs, libvirt's records, adopting) and doctor_record.c (what a lost journal
 * left). Used by those alone.
 */
#pragma once

#include "agent/doctor.h"

/* What is needed by most: the VM, and its manifest with where that lies. */
typedef struct {
    HvDomain *hv;
    Domain *home;
    Vm *vm;
} World;
bool world_look(Operation *op, World *world, GError **error);
void world_clear(World *world);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(World, world_clear)

/* left: as it will be. */
bool doctor_keep_manifest(Operation *op, const Domain *home, const Vm *left, GError **error);
/* The manifest gets the disk's volumes as the headers tell them. */
bool doctor_take_chain(const World *world, const char *target, GError **error);
/* Of these volumes no snapshot can be gone back to: base and all below top. */
void doctor_mark_unusable(Vm *vm, const Disk *disk, int base, int top);
/* Keeps that the next deed cannot be undone, and why. */
bool doctor_cannot_undo(Operation *op, const char *why, GError **error);

bool mend_stale_manifest(Operation *op, const Finding *finding, GError **error);
bool mend_bad_manifest(Operation *op, GError **error);
bool mend_record(Operation *op, const Finding *finding, GError **error);
bool mend_job(Operation *op, const Finding *finding, GError **error);
bool mend_libvirt_record(Operation *op, const Finding *finding, GError **error);
bool mend_overlay(Operation *op, const Finding *finding, GError **error);
