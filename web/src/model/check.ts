// SPDX-License-Identifier: LGPL-2.1-or-later
// What may stand in the form fields; each function says what is wrong, or nothing. The server has the
// last word: these only tell it sooner.
import { t } from "../texts";

const LONGEST = 255;
const size = (text: string): number => new TextEncoder().encode(text).length;

export function nameWrong(name: string): string | undefined {
  if (name.trim() === "") return t.create.nameNeeded;
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f-\u009f]/.test(name)) return t.create.nameControl;
  return size(name) > LONGEST ? t.create.nameLong : undefined;
}

export function bandwidthWrong(text: string): string | undefined {
  return /^\d{1,7}$/.test(text.trim()) && Number(text) <= 1_000_000 ? undefined : t.remove.bandwidthWrong;
}

export function userWrong(name: string): string | undefined {
  return /^[A-Za-z0-9._-]{1,64}$/.test(name) ? undefined : t.users.nameWrong;
}

export function passwordWrong(password: string): string | undefined {
  return size(password) >= 8 && size(password) <= LONGEST ? undefined : t.users.passwordWrong;
}

export function pathWrong(text: string): string | undefined {
  return text === "" || (text.startsWith("/") && !text.includes("\0")) ? undefined : t.storage.importPathWrong;
}
