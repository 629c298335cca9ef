/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A client must have sent its whole request in time. libmicrohttpd's time-out is one of
 * silence: a client that drips its header byte by byte would hold a thread for ever.
 *
 * Promise: a connection that was told deadline_wait() and neither deadline_rest() nor
 * deadlines_remove() within the time is shut down (soon after; the owner closes it).
 *
 * Threads: any; one of its own looks after the connections.
 */
#pragma once

typedef struct Deadlines Deadlines;
typedef struct Deadline Deadline;

Deadlines *deadlines_new(unsigned seconds);
void deadlines_free(Deadlines *deadlines); /* after all were removed */

Deadline *deadlines_add(Deadlines *deadlines, int fd); /* waits from now on */
void deadlines_remove(Deadlines *deadlines, Deadline *deadline);
void deadline_wait(Deadlines *deadlines, Deadline *deadline); /* for the next request */
void deadline_rest(Deadlines *deadlines, Deadline *deadline); /* it is here: no hurry any more */
