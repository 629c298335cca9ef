// SPDX-License-Identifier: LGPL-2.1-or-later
// The frame: head, navigation, the page that the address names, the bar at the bottom.
import {
  Alert, Button, Masthead, MastheadBrand, MastheadContent, MastheadMain, MastheadToggle, Nav, NavItem, NavList, Page, PageSection, PageSidebar,
  PageSidebarBody, PageToggleButton, SkipToContent, Toolbar, ToolbarContent, ToolbarGroup, ToolbarItem,
} from "@patternfly/react-core";
import { useEffect, useRef } from "react";
import { hosts, me, state, useStore } from "./live";
import { go, to, useWords } from "./nav";
import { Doctor } from "./pages/doctor";
import { SignIn } from "./pages/sign_in";
import { Storage } from "./pages/storage";
import { Users } from "./pages/users";
import { VmPage } from "./pages/vm";
import { Vms } from "./pages/vms";
import { MAIN, focusMain } from "./parts/focus";
import { ShownJob } from "./parts/job";
import { OwnMenu } from "./parts/own_menu";
import { StaleNote } from "./parts/stale";
import { TaskBar } from "./parts/taskbar";
import { dark, setDark } from "./parts/theme";
import { Toasts } from "./parts/toasts";
import { Empty } from "./parts/view";
import { t } from "./texts";

function ThemeSwitch() {
  const on = useStore(dark);
  return (
    <Button variant="plain" aria-label={on ? t.theme.toLight : t.theme.toDark} onClick={() => setDark(!on)}>
      <span aria-hidden="true">{on ? "☀" : "☾"}</span>
    </Button>
  );
}

function Head() {
  return (
    <Masthead>
      <MastheadMain>
        <MastheadToggle>
          <PageToggleButton variant="plain" aria-label={t.nav.menu} isHamburgerButton />
        </MastheadToggle>
        <MastheadBrand>
          <a className="lm-brand" href={to("vms")}>
            <img src="/favicon.svg" alt="" width={28} height={28} /> {t.product}
          </a>
        </MastheadBrand>
      </MastheadMain>
      <MastheadContent>
        <Toolbar isStatic>
          <ToolbarContent>
            <ToolbarGroup align={{ default: "alignEnd" }}>
              <ToolbarItem><ThemeSwitch /></ToolbarItem>
              <ToolbarItem><OwnMenu /></ToolbarItem>
            </ToolbarGroup>
          </ToolbarContent>
        </Toolbar>
      </MastheadContent>
    </Masthead>
  );
}

function Side({ at }: { at: string | undefined }) {
  const items: [string, string][] = [["vms", t.nav.vms], ["storage", t.nav.storage], ["doctor", t.nav.doctor]];
  if (useStore(me)?.role === "administrator") items.push(["users", t.nav.users]);
  return (
    <PageSidebar>
      <PageSidebarBody>
        <Nav aria-label={t.nav.label} onSelect={(event, item) => { event.preventDefault(); go(String(item.itemId)); }}>
          <NavList>
            {items.map(([key, text]) => <NavItem key={key} itemId={key} to={to(key)} isActive={(at ?? "vms") === key}>{text}</NavItem>)}
          </NavList>
        </Nav>
      </PageSidebarBody>
    </PageSidebar>
  );
}

function Warnings() {
  const connection = useStore(state);
  const silent = useStore(hosts).filter((host) => host.status !== "up");
  return (
    <div className="lm-warnings">
      <StaleNote />
      {connection.kind !== "stale" && silent.map((host) => (
        <Alert key={host.id} isInline variant="warning" title={`${t.hosts.silent(host.name)}${host.status_detail ? `: ${host.status_detail}` : ""}`}>{t.hosts.silentBody}</Alert>
      ))}
    </div>
  );
}

function Content({ words }: { words: string[] }) {
  const [page, id, tab] = words;
  if (page === "vms" && id) return <VmPage key={id} id={id} tab={tab} />;
  if (page === "vms" || page === undefined) return <Vms />;
  if (page === "storage") return <Storage />;
  if (page === "doctor") return <Doctor />;
  if (page === "users") return <Users />;
  return <Empty title={t.common.notHere} heading="h1"><a href={to("vms")}>{t.nav.vms}</a></Empty>;
}

export function App() {
  const words = useWords();
  const connection = useStore(state);
  useStore(me); // what is greyed depends on it
  const [page, id] = words;
  const at = `${page ?? ""}/${id ?? ""}`;
  const before = useRef(at);
  useEffect(() => {
    if (before.current !== at) focusMain(); // the link that led here may have gone with its page
    before.current = at;
  }, [at]);
  if (connection.kind === "signed-out") return <SignIn />;
  return (
    <div className="lm-app">
      <Page masthead={<Head />} sidebar={<Side at={words[0]} />} isManagedSidebar mainContainerId={MAIN}
        skipToContent={<SkipToContent href={`#${MAIN}`} onClick={(event) => { event.preventDefault(); document.getElementById(MAIN)?.focus(); }}>{t.skip}</SkipToContent>}>
        <PageSection isFilled className={`lm-page${connection.kind === "stale" ? " lm-stale" : ""}`} hasBodyWrapper={false}>
          <Warnings />
          <Content words={words} />
        </PageSection>
      </Page>
      <TaskBar />
      <Toasts />
      <ShownJob />
    </div>
  );
}
