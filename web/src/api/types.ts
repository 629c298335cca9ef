// SPDX-License-Identifier: LGPL-2.1-or-later
// The documents of docs/api.md, as far as the page reads them.

export interface Session {
  user: string;
  name: string;
  role: string;
  /** where passwords are kept: "own" ones are changed here */
  passwords?: string;
  vm_roles?: { vm_role?: VmRole[] };
}

export interface VmRole {
  vm: { id: string; name?: string };
  role: string;
}

export interface User {
  id: string;
  name: string;
  user_name: string;
  role: string;
  has_password?: boolean;
  tokens?: number;
  created?: string;
  changed?: string;
  vm_roles?: { vm_role?: VmRole[] };
}

export interface UserSession {
  id: string;
  kind: string;
  address?: string;
  created: string;
  last_used: string;
  expires: string;
  current: boolean;
}

export interface Ref {
  id: string;
  href?: string;
  name?: string;
}

/** What can be done now, and why not: the server's own table. */
export interface Operation {
  name: string;
  possible: boolean;
  code?: string;
  key?: string;
  why?: string;
  help?: string;
  job_id?: string;
}

export interface Vm {
  id: string;
  name: string;
  status: string;
  status_detail?: string;
  unmanaged?: string;
  has_illegal_images?: boolean;
  memory?: number;
  cpu?: { topology?: { sockets?: number; cores?: number; threads?: number } };
  host?: Ref;
  snapshot_count?: number;
  chain_depth?: number;
  chain_bytes?: number;
  operations?: { operation?: Operation[] };
}

export interface Volume {
  id: string;
  path: string;
  format?: string;
  virtual_size?: number;
  allocated?: number;
  read_only?: boolean;
  used_by?: string;
  snapshots?: { snapshot?: { id: string; description: string }[] };
}

export interface Disk {
  id: string;
  name: string;
  target: string;
  status: string;
  unmanaged?: string;
  actual_size?: number;
  total_size?: number;
  provisioned_size?: number;
  format?: string;
  image_id?: string;
  storage_domains?: { storage_domain?: Ref[] };
  volumes?: { volume?: Volume[] };
}

export interface DiskAttachment {
  id: string;
  interface?: string;
  logical_name?: string;
  bootable?: boolean;
  read_only?: boolean;
  unmanaged?: string;
  disk: Disk;
}

export interface Snapshot {
  id: string;
  description: string;
  comment?: string;
  date?: string;
  persist_memorystate?: boolean;
  snapshot_status: string;
  snapshot_type: string;
  parent?: Ref;
  size?: number;
  quiesced?: boolean;
  configuration_only?: boolean;
  unusable?: boolean;
  job?: Ref;
  operations?: { operation?: Operation[] };
}

export interface Costs {
  bytes_read?: number;
  bytes_written?: number;
  space_peak?: number;
  space_freed?: number;
  seconds?: number;
  pauses?: number;
  pause_ms?: number;
}

export interface PlanOption extends Costs {
  strategy: string;
  possible: boolean;
  why?: string;
  space_missing?: number;
}

export interface PlanRun extends Costs {
  disk: Ref;
  base: string;
  top: string;
  has_leaf: boolean;
  strategy: string;
  exact: boolean;
  volumes: { id: string; path: string }[];
  remove?: string[];
  kept?: string[];
  options: PlanOption[];
}

export interface Plan {
  vm: Ref;
  possible: boolean;
  why?: string;
  code?: string;
  wanted: string;
  verify: string;
  exact: boolean;
  totals: Costs;
  runs?: { run?: PlanRun[] };
}

export interface JobDisk {
  id: string;
  name: string;
  strategy?: string;
  status: string;
  phase?: string;
  attention?: string;
  error?: string;
  bytes_copied?: number;
  bytes_total?: number;
  seconds?: number;
  pauses?: { kind: string; milliseconds: number }[];
  volumes_removed?: string[];
  plan?: Costs & { strategy?: string };
  outcome?: Costs & { strategy?: string; bytes_copied?: number; bytes_shared?: number; verified?: string };
}

export interface Finding {
  class: string;
  severity: string;
  vm?: Ref;
  host?: string;
  disk?: string;
  file?: string;
  text: string;
  can_fix: string;
  fix?: string;
  help?: string;
  state?: string;
  why?: string;
}

export interface Job {
  id: string;
  description: string;
  status: string;
  kind?: string;
  start_time?: string;
  end_time?: string;
  vm?: Ref;
  snapshots?: { snapshot?: Ref[] };
  rev?: number;
  step?: string;
  progress?: { percent?: number; bytes_done?: number; bytes_total?: number; rate?: number; eta?: number };
  disks?: { disk?: JobDisk[] };
  error?: string;
  waiting_for?: string;
  attention?: string;
  correlation_id?: string;
  findings?: { finding?: Finding[] };
  clone?: Ref;
  left_out?: { reason?: string[] };
  volumes_removed?: { volume?: string[] };
  kept?: { volume?: { path: string; why?: string }[] };
  configuration_kept?: string;
  actions?: { link?: { rel: string }[] };
}

export interface Event {
  id: string;
  index: number;
  code: number;
  description: string;
  severity: string;
  time?: string;
  vm?: Ref;
  job?: Ref;
  user?: { name?: string };
  correlation_id?: string;
}

export interface Host {
  id: string;
  name: string;
  status: string;
  status_detail?: string;
  address?: string;
  summary?: { active?: number; total?: number };
}

export interface StorageDomain {
  id: string;
  name: string;
  status?: string;
  external_status?: string;
  available?: number;
  used?: number;
  shares_blocks?: boolean;
  holder?: string;
  storage?: { type?: string; path?: string };
}

export interface Doctor {
  findings?: { finding?: Finding[] };
  busy_vms?: { vm?: (Ref & { why?: string })[] };
  silent_hosts?: { host?: { name: string; why?: string }[] };
  unread?: { storage?: { host: string; path: string; why?: string }[] };
  kept?: { files?: number; bytes?: number };
}

export interface ImportVm {
  id: string;
  name: string;
  host?: string;
  status?: string;
  path?: string;
  disk_count?: number;
  volume_count?: number;
  snapshot_count?: number;
  held?: boolean;
  job?: Ref;
}

export interface ImportReport {
  dry_run?: boolean;
  totals?: { vm_count?: number; snapshot_count?: number; volume_count?: number; doubt_count?: number };
  vms?: { vm?: ImportVm[] };
  doubts?: { doubt?: { vm?: Ref; host?: string; file?: string; why?: string; command?: string }[] };
  silent_hosts?: { host?: { name: string; why?: string }[] };
}

export interface SnapshotWish {
  description: string;
  persist_memorystate: boolean;
  quiesce: string;
  /** left out: all; none: the configuration alone */
  disks?: string[];
}
