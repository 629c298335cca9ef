// SPDX-License-Identifier: LGPL-2.1-or-later
// What an element says while the pointer or the keyboard is on it. PatternFly's tooltip is made only then: a table has dozens of
// them. It listens to its element only some time after it was drawn; React does from the first moment.
import { Tooltip } from "@patternfly/react-core";
import { useEffect, useState } from "react";
import type { ReactNode, SyntheticEvent } from "react";

type Come = (event: SyntheticEvent<HTMLElement>) => void;
interface Handlers {
  onMouseEnter: Come;
  onMouseLeave: () => void;
  onFocus: Come;
  onBlur: () => void;
}

interface Props {
  /** undefined: nothing is said just now. Who is there when that changes is told at once */
  text: string | undefined;
  delay?: number;
  /** false: a screen reader is told in another way */
  describes?: boolean;
  /** the element, which is to have these */
  children: (handlers: Handlers) => ReactNode;
}

export function Tip({ text, delay = 300, describes = true, children }: Props) {
  const [of, setOf] = useState<HTMLElement>();
  const [pointer, setPointer] = useState(false);
  const [focus, setFocus] = useState(false);
  const shown = pointer || focus;
  useEffect(() => {
    if (!shown) return undefined;
    const hush = (event: KeyboardEvent): void => {
      if (event.key !== "Escape") return;
      setPointer(false);
      setFocus(false);
    };
    document.addEventListener("keydown", hush, true);
    return () => document.removeEventListener("keydown", hush, true);
  }, [shown]);
  const handlers: Handlers = {
    onMouseEnter: (event) => { setOf(event.currentTarget); setPointer(true); },
    onMouseLeave: () => setPointer(false),
    onFocus: (event) => { setOf(event.currentTarget); setFocus(true); },
    onBlur: () => setFocus(false),
  };
  return (
    <>
      {children(handlers)}
      {of && text !== undefined && (
        <Tooltip triggerRef={() => of} content={text} entryDelay={delay} trigger="manual" isVisible={shown} aria={describes ? "describedby" : "none"}
          appendTo={() => of.closest<HTMLElement>(".pf-v6-c-backdrop") ?? document.body /* a dialog hides all beside it from screen readers */}
          onMouseEnter={() => setPointer(true)} onMouseLeave={() => setPointer(false)} />
      )}
    </>
  );
}
