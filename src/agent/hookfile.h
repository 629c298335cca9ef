/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Putting the start guard where libvirt finds it, and taking it away.
 *
 *     HOOKS/qemu.d/livemerge   a few lines of shell that libvirt (6.5 or newer) runs beside the
 *                              hooks of others, whose files are never touched
 *     HOOKS/daemon.d/livemerge the same for libvirtd's own start
 *     HOOKS/livemerge-hook     a copy of the program. Here, since libvirtd may be confined to run
 *                              hooks from this directory only (Debian's AppArmor profile)
 *
 * The shell is there so that a program that cannot be run refuses nothing.
 */
#pragma once

#include "base/error.h"

#define HOOKS_DIR "/etc/libvirt/hooks"

/* program: livemerge-hook as built or installed. config_file: the agent's, if it is not the default
 * one; NULL. *ret_first: libvirtd has seen no hook of its qemu driver yet, so it has to be
 * restarted once to look for them. A file of that name that is not ours is ERR_EXISTS. */
bool hookfile_install(const char *hooks_dir, const char *program, const char *config_file,
                      bool *ret_first, GError **error);
/* Are all its parts where libvirt looks for them? */
bool hookfile_is_there(const char *hooks_dir);
/* *ret_was: there was something to remove. */
bool hookfile_remove(const char *hooks_dir, bool *ret_was, GError **error);
