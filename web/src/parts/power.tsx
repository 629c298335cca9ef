// SPDX-License-Identifier: LGPL-2.1-or-later
// Start, suspend and the ways to stop: in a list as a menu, on a VM's page as buttons.
import { Dropdown, DropdownItem, DropdownList, MenuToggle } from "@patternfly/react-core";
import { useRef, useState } from "react";
import { api } from "../api/api";
import type { PowerVerb } from "../api/api";
import type { Vm } from "../api/types";
import { useLive, vmChanged } from "../live";
import { t } from "../texts";
import { ActionButton, whyNotFor } from "./action";
import { Dialog } from "./dialog";
import { toast, toastFault } from "./toasts";

const VERBS: PowerVerb[] = ["start", "suspend", "shutdown", "reboot", "stop"];

function usePower(vm: Vm): { act: (verb: PowerVerb) => void; dialog: React.ReactNode } {
  const [asks, setAsks] = useState(false);
  const begin = async (verb: PowerVerb): Promise<void> => {
    await api.power(vm.id, verb);
    toast("info", t.vms.began(t.vms[verb], vm.name));
    vmChanged(vm.id);
  };
  return {
    act: (verb) => (verb === "stop" ? setAsks(true) : void begin(verb).catch(toastFault)),
    dialog: asks && (
      <Dialog title={t.vms.stopTitle(vm.name)} ok={t.vms.stop} danger onClose={() => setAsks(false)}
        onOk={async () => { await begin("stop"); setAsks(false); }}>
        <p>{t.vms.stopBody}</p>
      </Dialog>
    ),
  };
}

/** What can be done is asked for when a menu is opened: for all VMs of a list it would be most of what the list is. */
function Items({ listed, act }: { listed: Vm; act: (verb: PowerVerb) => void }) {
  const view = useLive(`vm ${listed.id}`, [`vm:${listed.id}`], (signal) => api.vm(listed.id, signal));
  const vm = view.data ?? listed;
  const asking = view.data === undefined && view.error === undefined ? t.common.loading : undefined;
  return (
    <DropdownList>
      {VERBS.map((verb) => {
        const why = asking ?? whyNotFor(vm, vm.operations, verb);
        return (
          <DropdownItem key={verb} isAriaDisabled={why !== undefined} isDanger={verb === "stop"} description={why} onClick={() => act(verb)}>
            {t.vms[verb]}
          </DropdownItem>
        );
      })}
    </DropdownList>
  );
}

export function PowerMenu({ vm }: { vm: Vm }) {
  const [open, setOpen] = useState(false);
  const [used, setUsed] = useState(false);
  const toggle = useRef<HTMLButtonElement>(null);
  const { act, dialog } = usePower(vm);
  return (
    <>
      <MenuToggle ref={toggle} variant="plain" isExpanded={open} aria-label={`${t.vms.power}: ${vm.name}`} onClick={() => { setUsed(true); setOpen(!open); }}>
        <span aria-hidden="true">⋮</span>
      </MenuToggle>
      {/* only once there was need of it: it costs more than all else in a row */}
      {used && (
        <Dropdown isOpen={open} onOpenChange={setOpen} onSelect={() => setOpen(false)} shouldFocusToggleOnSelect popperProps={{ position: "right", appendTo: () => document.body }}
          toggle={{ toggleNode: <></>, toggleRef: toggle }}>
          <Items listed={vm} act={act} />
        </Dropdown>
      )}
      {dialog}
    </>
  );
}

export function PowerButtons({ vm }: { vm: Vm }) {
  const { act, dialog } = usePower(vm);
  return (
    <div className="lm-power">
      {VERBS.map((verb) => (
        <ActionButton key={verb} variant={verb === "stop" ? "danger" : "secondary"} why={whyNotFor(vm, vm.operations, verb)} onClick={() => act(verb)}>
          {t.vms[verb]}
        </ActionButton>
      ))}
      {dialog}
    </div>
  );
}
