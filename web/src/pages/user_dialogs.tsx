// SPDX-License-Identifier: LGPL-2.1-or-later
// The dialogs of the users page.
import { Alert, Button, FormGroup, FormHelperText, FormSelect, FormSelectOption, HelperText, HelperTextItem } from "@patternfly/react-core";
import { useState } from "react";
import { api } from "../api/api";
import type { Session, User, VmRole } from "../api/types";
import { changed, useLive } from "../live";
import { passwordWrong, userWrong } from "../model/check";
import { ROLES, VM_ROLES } from "../model/rights";
import { Dialog } from "../parts/dialog";
import { Field } from "../parts/field";
import { focusSoon } from "../parts/focus";
import { toast } from "../parts/toasts";
import { t } from "../texts";

interface Props {
  user: User;
  onClose: () => void;
}

function done(text: string, onClose: () => void): void {
  changed("users");
  toast("success", text);
  onClose();
}

interface Secret {
  password: string;
  again: string;
}

function secretWrong({ password, again }: Secret, mayBeEmpty: boolean): string | undefined {
  if (mayBeEmpty && password === "" && again === "") return undefined;
  const wrong = passwordWrong(password);
  return wrong !== undefined ? `${t.users.password}: ${wrong}` : again === password ? undefined : t.users.passwordDiffers;
}

function Passwords({ secret, onChange, mayBeEmpty, first, label = t.users.password, other }: { secret: Secret; onChange: (secret: Secret) => void; mayBeEmpty: boolean; first?: boolean; label?: string; other?: string }) {
  return (
    <>
      <Field id="new-password" type="password" autoComplete="new-password" label={label} value={secret.password} required={!mayBeEmpty} first={first}
        wrong={passwordWrong(secret.password) ?? (secret.password === other ? t.own.same : undefined)} help={mayBeEmpty ? t.users.passwordLater : t.users.passwordWrong} onChange={(password) => onChange({ ...secret, password })} />
      <Field id="new-password-again" type="password" autoComplete="new-password" label={t.users.again} value={secret.again} required={!mayBeEmpty}
        wrong={secret.again === secret.password ? undefined : t.users.passwordDiffers} onChange={(again) => onChange({ ...secret, again })} />
    </>
  );
}

function RoleSelect({ id, label, value, roles, onChange }: { id: string; label: string; value: string; roles: readonly string[]; onChange: (role: string) => void }) {
  return (
    <FormSelect id={id} aria-label={label} value={value} onChange={(_e, role) => onChange(role)}>
      {roles.map((role) => <FormSelectOption key={role} value={role} label={t.users.roles[role] ?? role} />)}
    </FormSelect>
  );
}

function GlobalRole({ role, onChange }: { role: string; onChange: (role: string) => void }) {
  return (
    <FormGroup label={t.users.role} fieldId="role">
      <RoleSelect id="role" label={t.users.role} value={role} roles={ROLES} onChange={onChange} />
      <FormHelperText><HelperText><HelperTextItem>{t.users.rolesHelp}</HelperTextItem></HelperText></FormHelperText>
    </FormGroup>
  );
}

export function AddDialog({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const [role, setRole] = useState("viewer");
  const [secret, setSecret] = useState<Secret>({ password: "", again: "" });
  const add = async (): Promise<void> => {
    await api.addUser(name, role, secret.password);
    done(t.users.added(name), onClose);
  };
  return (
    <Dialog title={t.users.add} ok={t.users.add} blocked={userWrong(name) !== undefined ? `${t.users.name}: ${userWrong(name) ?? ""}` : secretWrong(secret, true)} onOk={add} onClose={onClose}>
      <div className="pf-v6-c-form">
        <Field id="name" label={t.users.name} value={name} onChange={setName} required first wrong={userWrong(name)} help={t.users.nameWrong} />
        <GlobalRole role={role} onChange={setRole} />
        <Passwords secret={secret} onChange={setSecret} mayBeEmpty />
      </div>
    </Dialog>
  );
}

export function PasswordDialog({ user, onClose }: Props) {
  const [secret, setSecret] = useState<Secret>({ password: "", again: "" });
  const change = async (): Promise<void> => {
    await api.changeUser(user.id, { password: secret.password });
    done(t.users.saved(user.name), onClose);
  };
  return (
    <Dialog title={t.users.passwordOf(user.name)} ok={t.users.save} blocked={secretWrong(secret, false)} onOk={change} onClose={onClose}>
      <div className="pf-v6-c-form">
        <Alert isInline isPlain variant="info" title={t.users.passwordNote} />
        <Passwords secret={secret} onChange={setSecret} mayBeEmpty={false} first />
      </div>
    </Dialog>
  );
}

export function OwnPasswordDialog({ session, onClose }: { session: Session; onClose: () => void }) {
  const [old, setOld] = useState("");
  const [secret, setSecret] = useState<Secret>({ password: "", again: "" });
  const change = async (): Promise<void> => {
    await api.changeOwnPassword(session.name, old, secret.password);
    done(t.own.changed, onClose);
  };
  return (
    <Dialog title={t.own.password} ok={t.users.save} blocked={old === "" ? t.own.oldNeeded : old === secret.password ? `${t.own.new}: ${t.own.same}` : secretWrong(secret, false)} onOk={change} onClose={onClose}>
      <div className="pf-v6-c-form">
        <Alert isInline isPlain variant="info" title={t.own.note} />
        <Field id="old-password" type="password" autoComplete="current-password" label={t.own.old} value={old} onChange={setOld} required first />
        <Passwords secret={secret} onChange={setSecret} mayBeEmpty={false} label={t.own.new} other={old} />
      </div>
    </Dialog>
  );
}

/** What has gone is told to the server as "none"; what is as it was, not at all. */
function difference(before: VmRole[], after: VmRole[]): VmRole[] {
  const gone = before.filter((one) => !after.some((other) => other.vm.id === one.vm.id)).map((one) => ({ vm: { id: one.vm.id }, role: "none" }));
  const set = after.filter((one) => before.find((other) => other.vm.id === one.vm.id)?.role !== one.role).map((one) => ({ vm: { id: one.vm.id }, role: one.role }));
  return [...gone, ...set];
}

function VmRoles({ roles, onChange }: { roles: VmRole[]; onChange: (roles: VmRole[]) => void }) {
  const vms = useLive("vms", ["vms"], api.vms);
  const free = (vms.data ?? []).filter((vm) => !roles.some((one) => one.vm.id === vm.id));
  const name = (one: VmRole): string => one.vm.name ?? vms.data?.find((vm) => vm.id === one.vm.id)?.name ?? one.vm.id;
  return (
    <FormGroup role="group" label={t.users.vmRoles} fieldId="add-vm">
      {roles.length === 0 && <p className="lm-note">{t.users.noVms}</p>}
      {roles.map((one) => (
        <div key={one.vm.id} className="lm-role">
          <span className="lm-name" title={name(one)}>{name(one)}</span>
          <RoleSelect id={`role-${one.vm.id}`} label={t.users.vmRole(name(one))} value={one.role} roles={VM_ROLES}
            onChange={(role) => onChange(roles.map((other) => (other === one ? { ...one, role } : other)))} />
          <Button variant="plain" aria-label={t.users.without(name(one))} onClick={() => { onChange(roles.filter((other) => other !== one)); focusSoon(); }}>
            <span aria-hidden="true">✕</span>
          </Button>
        </div>
      ))}
      <FormSelect id="add-vm" aria-label={t.users.addVm} value=""
        onChange={(_e, id) => { if (id) onChange([...roles, { vm: { id, name: free.find((vm) => vm.id === id)?.name }, role: "viewer" }]); }}>
        <FormSelectOption value="" label={free.length > 0 ? t.users.addVm : t.users.allVms} />
        {free.map((vm) => <FormSelectOption key={vm.id} value={vm.id} label={vm.name} />)}
      </FormSelect>
    </FormGroup>
  );
}

export function RolesDialog({ user, onClose }: Props) {
  const before = user.vm_roles?.vm_role ?? [];
  const [role, setRole] = useState(user.role);
  const [roles, setRoles] = useState<VmRole[]>(before);
  const rows = difference(before, roles);
  const change = async (): Promise<void> => {
    await api.changeUser(user.id, { ...(role !== user.role && { role }), ...(rows.length > 0 && { vm_roles: { vm_role: rows } }) });
    done(t.users.saved(user.name), onClose);
  };
  return (
    <Dialog title={t.users.changeOf(user.name)} ok={t.users.save} blocked={role === user.role && rows.length === 0 ? t.users.unchanged : undefined} onOk={change} onClose={onClose}>
      <div className="pf-v6-c-form">
        <GlobalRole role={role} onChange={setRole} />
        <VmRoles roles={roles} onChange={setRoles} />
      </div>
    </Dialog>
  );
}

export function RemoveDialog({ user, onClose }: Props) {
  const remove = async (): Promise<void> => {
    await api.removeUser(user.id);
    done(t.users.removed(user.name), onClose);
  };
  return (
    <Dialog title={t.users.removeOf(user.name)} ok={t.users.remove} danger onOk={remove} onClose={onClose}>
      <p>{t.users.removeBody}</p>
    </Dialog>
  );
}
