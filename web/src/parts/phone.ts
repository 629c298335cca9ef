// SPDX-License-Identifier: LGPL-2.1-or-later
// Is there room for a column only? Then what has none of its own stands below a name.
import { Store, useStore } from "../live";

const narrow = window.matchMedia("(max-width: 640px)"); // as in page.css
const phone = new Store<boolean>(narrow.matches);
narrow.addEventListener("change", (event) => phone.set(event.matches));

export function usePhone(): boolean {
  return useStore(phone);
}
