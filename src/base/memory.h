/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Keeping an idle daemon small.
 */
#pragma once

/* Gives back what only start-up needed: freed heap, and the pages of program and libraries that
 * were touched once (they come back from the page cache when they are needed again). Call it when
 * things have calmed down. Changes nothing that the program can see. Threads: any. */
void memory_trim(void);
