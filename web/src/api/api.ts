// SPDX-License-Identifier: LGPL-2.1-or-later
// The resources of docs/api.md that the page uses: one place for each.
import { call } from "./http";
import type {
  Disk, DiskAttachment, Doctor, Event, Host, ImportReport, Job, Plan, Ref, Session, Snapshot, SnapshotWish, StorageDomain, User, UserSession, Vm, VmRole,
} from "./types";

const seg = encodeURIComponent;
export type PowerVerb = "start" | "stop" | "shutdown" | "reboot" | "suspend";
type Begun = { job?: Ref; status?: string };

export const api = {
  session: () => call<Session>("/session"),
  signIn: (username: string, password: string) => call<Session>("/session", { method: "POST", body: { username, password } }),
  signOut: () => call<object>("/session", { method: "DELETE" }),

  /** Without what a list does not show. What early.ts asks for, too, is written the same there. */
  vms: async (signal?: AbortSignal) => (await call<{ vm?: Vm[] }>("/vms?brief=true", { signal })).vm ?? [],
  vm: (id: string, signal?: AbortSignal) => call<Vm>(`/vms/${seg(id)}?operations=true`, { signal }),
  disks: async (vm: string, signal?: AbortSignal) =>
    (await call<{ disk_attachment?: DiskAttachment[] }>(`/vms/${seg(vm)}/diskattachments?follow=disk`, { signal }))
      .disk_attachment ?? [],
  allDisks: async (signal?: AbortSignal) => (await call<{ disk?: Disk[] }>("/disks", { signal })).disk ?? [],
  snapshots: async (vm: string, signal?: AbortSignal) =>
    (await call<{ snapshot?: Snapshot[] }>(`/vms/${seg(vm)}/snapshots?operations=true`, { signal })).snapshot ?? [],

  createSnapshot: (vm: string, wish: SnapshotWish) =>
    call<Snapshot>(`/vms/${seg(vm)}/snapshots`, {
      method: "POST",
      body: {
        description: wish.description,
        persist_memorystate: wish.persist_memorystate,
        quiesce: wish.quiesce,
        ...(wish.disks && { disk_attachments: { disk_attachment: wish.disks.map((id) => ({ disk: { id } })) } }),
      },
    }),
  renameSnapshot: (vm: string, snapshot: string, description: string) =>
    call<Snapshot>(`/vms/${seg(vm)}/snapshots/${seg(snapshot)}`, { method: "PUT", body: { description } }),
  plan: (vm: string, snapshots: string[], strategy: string, signal?: AbortSignal) =>
    call<Plan>(`/vms/${seg(vm)}/removesnapshots`, {
      method: "POST",
      body: { snapshots: { snapshot: snapshots.map((id) => ({ id })) }, strategy, dry_run: true },
      signal,
    }),
  removeSnapshots: (vm: string, snapshots: string[], strategy: string, verify: string, bandwidth: number) =>
    call<Begun>(`/vms/${seg(vm)}/removesnapshots`, {
      method: "POST",
      body: { snapshots: { snapshot: snapshots.map((id) => ({ id })) }, strategy, verify, bandwidth },
    }),
  preview: (vm: string, snapshot: string) =>
    call<Begun>(`/vms/${seg(vm)}/previewsnapshot`, { method: "POST", body: { snapshot: { id: snapshot }, async: true } }),
  commit: (vm: string) => call<Begun>(`/vms/${seg(vm)}/commitsnapshot`, { method: "POST", body: { async: true } }),
  undo: (vm: string) => call<Begun>(`/vms/${seg(vm)}/undosnapshot`, { method: "POST", body: { async: true } }),
  restore: (vm: string, snapshot: string) =>
    call<Begun>(`/vms/${seg(vm)}/snapshots/${seg(snapshot)}/restore`, { method: "POST", body: { async: true } }),
  clone: (vm: string, name: string, snapshot: string | undefined, strategy: string) =>
    call<Begun>(`/vms/${seg(vm)}/clone`, { method: "POST", body: { vm: { name }, strategy, ...(snapshot !== undefined && { snapshot: { id: snapshot } }) } }),
  removeVm: (vm: string, keepDisks: boolean) => call<Begun>(`/vms/${seg(vm)}?detach_only=${String(keepDisks)}`, { method: "DELETE" }),
  power: (vm: string, verb: PowerVerb) => call<Begun>(`/vms/${seg(vm)}/${verb}`, { method: "POST", body: {} }),

  jobs: async (signal?: AbortSignal) => (await call<{ job?: Job[] }>("/jobs?max=200", { signal })).job ?? [],
  /** of one VM, farther back than those of all */
  vmJobs: async (vm: string, signal?: AbortSignal) => (await call<{ job?: Job[] }>(`/jobs?max=200&search=${seg(`vm.id=${vm}`)}`, { signal })).job ?? [],
  vmEvents: async (vm: string, signal?: AbortSignal) => (await call<{ event?: Event[] }>(`/events?max=200&search=${seg(`vm.id=${vm}`)}`, { signal })).event ?? [],
  job: (id: string, signal?: AbortSignal) => call<Job>(`/jobs/${seg(id)}`, { signal }),
  cancelJob: (id: string) => call<Begun>(`/jobs/${seg(id)}/cancel`, { method: "POST", body: {} }),
  resumeJob: (id: string) => call<Begun>(`/jobs/${seg(id)}/resume`, { method: "POST", body: {} }),

  events: async (signal?: AbortSignal) => (await call<{ event?: Event[] }>("/events?max=200", { signal })).event ?? [],
  hosts: async (signal?: AbortSignal) => (await call<{ host?: Host[] }>("/hosts", { signal })).host ?? [],
  storage: async (signal?: AbortSignal) =>
    (await call<{ storage_domain?: StorageDomain[] }>("/storagedomains", { signal })).storage_domain ?? [],
  importStorage: async (path: string, dryRun: boolean, takeOver: boolean) =>
    (
      await call<{ import?: ImportReport }>("/storagedomains/import", {
        method: "POST",
        body: { ...(path && { path }), dry_run: dryRun, take_over: takeOver },
      })
    ).import ?? {},
  users: async (signal?: AbortSignal) => (await call<{ user?: User[] }>("/users", { signal })).user ?? [],
  addUser: (name: string, role: string, password: string) =>
    call<User>("/users", { method: "POST", body: { user_name: name, role, ...(password && { password }) } }),
  changeUser: (id: string, change: { role?: string; password?: string; vm_roles?: { vm_role: VmRole[] } }) =>
    call<User>(`/users/${seg(id)}`, { method: "PUT", body: change }),
  changeOwnPassword: (name: string, old_password: string, password: string) =>
    call<object>(`/users/${seg(name)}/password`, { method: "POST", body: { old_password, password } }),
  sessions: async (name: string, signal?: AbortSignal) =>
    (await call<{ session?: UserSession[] }>(`/users/${seg(name)}/sessions`, { signal })).session ?? [],
  endSession: (name: string, id: string) => call<object>(`/users/${seg(name)}/sessions/${seg(id)}`, { method: "DELETE" }),
  endSessions: (name: string) => call<object>(`/users/${seg(name)}/sessions`, { method: "DELETE" }),
  removeUser: (id: string) => call<object>(`/users/${seg(id)}`, { method: "DELETE" }),

  doctor: (signal?: AbortSignal) => call<Doctor>("/doctor", { signal }),
  mend: (vm: string, classes: string[]) =>
    call<Begun>(`/vms/${seg(vm)}/doctor`, {
      method: "POST",
      body: classes.length ? { classes: { class: classes.map((name) => ({ name })) } } : {},
    }),
};
