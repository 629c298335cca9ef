/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * graft of a VM with ND disks, as src/agent does it: seal, build, copy, pivot, settle, delete.
 *
 * Each disk has one block of data with versions 1, 2, ...; 0 = not in that volume.
 *
 *     L   the leaf as it was       T   the temporary overlay of the seal      W   the new volume
 *
 * Who may die between any two steps, NC times in all: agent, QEMU, both, libvirt's word for it
 * (the definition it keeps), the answer to a seal or a pivot ("error" that says nothing).
 *   durable:   journal (step, sealed, pivoting, pivoted), manifest, definition, volumes
 *   volatile:  the agent's place in its program, QEMU with its job
 *
 * The agent is the engine of base/steps.h: it looks, then acts; between the two the world may
 * change. Calls on one VM never overlap (one worker a VM).
 *
 * Rules taken away, one at a time (a checker that does not find them is worth nothing):
 *   -DNOPAUSE     pivot without suspending the guest
 *   -DRESUMEFIRST the guest runs before the manifest names the new leaf
 *   -DUNDOBLIND   undo removes W without asking which chain the VM has
 *   -DSEALBLIND   an error of the seal is taken for "nothing happened"
 *   -DNOGUARD     a VM starts on the leaf of libvirt's definition, whatever the manifest says
 *   -DDELBLIND    the old volumes are deleted on the word "the job is gone"
 *   -DNODOUBT     a VM that died in a seal starts on the leaf of the manifest
 *   -DCOLDOPEN    the VM may start while it is switched cold
 *   -DOTHERS      (two disks) one disk ends the pause that another has begun
 *   -DNORESUME    a VM found suspended is left to its user
 */
#ifndef ND
#define ND 1
#endif
#ifndef NC
#define NC 2 /* crashes */
#endif
#ifndef NW
#define NW 2 /* writes of the guest to each disk */
#endif
#ifndef NS
#define NS 2 /* starts of the VM */
#endif

#define L 0
#define T 1
#define W 2

#define NONE 0
#define RUN 1
#define READY 2

mtype = { Seal, Build, Start, Transfer, Pivot, Settle, Undo, Unseal, Delete, Done, Failed };

/* guest and QEMU */
bool up = true;
bool paused;
byte leaf[ND]; /* what QEMU writes; L is 0 */
byte job[ND];
bool dirty[ND];
byte instance = 1;
/* ghosts */
byte acked[ND] = 1;

/* storage: volume v of disk d is at [d*3+v] */
byte ver[ND * 3];
bool there[ND * 3];
byte man[ND]; /* the manifest's leaf */
byte def[ND]; /* libvirt's */

/* journal */
mtype step[ND] = Seal;
bool sealed[ND];
bool built[ND];
bool copied[ND]; /* W has what T holds: cold */
bool pivoting[ND]; /* and it is this disk that suspends the VM */
bool pivoted[ND];
bool failing[ND];
byte life[ND] = 1; /* the VM's instance when the job began */

byte crashes = NC, starts = NS, writes[ND] = NW, trouble = 1;
bool agent_up = true;
bool here[ND]; /* the crash has reached it: its place in the program is lost */
bool ended[ND];
bool busy;   /* the VM's worker */
bool locked; /* image locks: QEMU cannot open the leaf */

#define V(d, v) ver[(d) * 3 + (v)]
#define HAS(d, v) there[(d) * 3 + (v)]
#define READS(d, l) ((l) == T -> (V(d, T) > 0 -> V(d, T) : V(d, L)) : V(d, l))
#define WHOLE(d, l) (HAS(d, l) && ((l) != T || HAS(d, L)))
#define USES(d, v) (up && (leaf[d] == (v) || (leaf[d] == T && (v) == L)))
/* A seal in doubt is decided by its overlay, which was made empty: if it has data, it is the leaf. */
#ifdef NODOUBT
#define TRUE_LEAF(d) man[d]
#else
#define TRUE_LEAF(d) ((man[d] == L && HAS(d, T) && V(d, T) > 0) -> T : man[d])
#endif

/* what runs, or what would: the chain as it can be seen */
#define SEEN(d) (up -> leaf[d] : TRUE_LEAF(d))

/* Another disk may have switched, in QEMU, and that may not be in the manifest yet: the guest must
 * not write before it is. */
#if ND == 1 || defined(OTHERS)
#define MAYRESUME(d) true
#else
#define MAYRESUME(d) (leaf[1 - (d)] != W || man[1 - (d)] == W)
#endif

#ifdef UNDOBLIND
#define PIVOTFAILED failing[d] = true; step[d] = Undo
#else
#define PIVOTFAILED skip
#endif

#ifdef DELBLIND
#define MAYDELETE(d) true
#else
#define MAYDELETE(d) (SEEN(d) == W && man[d] == W && def[d] == W)
#endif

byte d_i;

inline die() {
	up = false;
	paused = false;
	d_i = 0;
	do :: d_i < ND -> job[d_i] = NONE; dirty[d_i] = false; d_i++ :: else -> break od;
	d_i = 0
}

inline drop_agent() {
	agent_up = false;
	busy = false;
	locked = false;
	d_i = 0;
	do :: d_i < ND -> here[d_i] = ended[d_i]; d_i++ :: else -> break od;
	d_i = 0
}

proctype Qemu(byte d) {
end:	do
	:: d_step { up && !paused && writes[d] > 0 ->
		writes[d]--;
		acked[d]++;
		V(d, leaf[d]) = acked[d];
		if :: job[d] != NONE -> dirty[d] = true :: else fi }
	:: d_step { up && job[d] == RUN ->
		if :: leaf[d] == T && V(d, T) > 0 -> V(d, W) = V(d, T)
		   :: leaf[d] == L -> V(d, W) = V(d, L)
		   :: else fi;
		dirty[d] = false;
		job[d] = READY }
	:: d_step { up && job[d] == READY && dirty[d] -> V(d, W) = V(d, leaf[d]); dirty[d] = false }
	:: d_step { up && job[d] != NONE && trouble > 0 -> trouble--; job[d] = NONE; dirty[d] = false }
	od
}

/* One turn of the engine for one disk: the guard is check(), what follows is act(). "busy" is the
 * VM's worker; STOP is where the agent may have died in between. */
#define STOP if :: !agent_up -> goto again :: else fi

proctype Agent(byte d) {
	byte seen;
again:	do
	:: step[d] == Done || step[d] == Failed -> break

	/* seal: T is made, the VM switched to it, the manifest told */
	:: atomic { agent_up && !busy && step[d] == Seal && !sealed[d] -> busy = true };
		if
		:: atomic { agent_up && up && leaf[d] == L -> HAS(d, T) = true; V(d, T) = 0 };
			STOP;
			if
			:: atomic { agent_up && up && leaf[d] == L -> leaf[d] = T; if :: def[d] = T :: skip /* libvirt died before it wrote */ fi }
			:: atomic { agent_up && up && leaf[d] == L && trouble > 0 -> /* done, but an error came */
				trouble--;
				leaf[d] = T;
#ifdef SEALBLIND
				HAS(d, T) = false; failing[d] = true; step[d] = Undo
#endif
				}
			:: atomic { agent_up && !up -> skip }
			:: atomic { !agent_up -> goto again }
			fi
		:: atomic { agent_up && up && leaf[d] == T -> skip }
		:: atomic { agent_up && !up -> skip }
		:: atomic { !agent_up -> goto again }
		fi;
		STOP;
		if
		:: atomic { agent_up && up && leaf[d] == T -> man[d] = T }
		:: atomic { agent_up && !up && TRUE_LEAF(d) == T -> man[d] = T; def[d] = T }
		:: atomic { agent_up && !up && TRUE_LEAF(d) == L -> HAS(d, T) = false }
		:: else
		fi;
		STOP;
		atomic {
			if
			:: agent_up && man[d] == T -> sealed[d] = true; step[d] = Build
			:: agent_up && man[d] != T && !up -> step[d] = Build /* off: nothing writes the leaf */
			:: else
			fi;
			if :: agent_up -> busy = false :: else fi
		}

	/* build: W takes all that is immutable */
	:: atomic { agent_up && !busy && step[d] == Build -> busy = true };
		STOP;
		atomic {
			if
			:: agent_up ->
				HAS(d, W) = true;
				V(d, W) = (sealed[d] -> V(d, L) : 0); /* what nobody writes */
				built[d] = true;
				step[d] = Start;
				busy = false
			:: else
			fi
		}
	:: atomic { agent_up && !busy && step[d] == Build && trouble > 0 -> trouble--; failing[d] = true; step[d] = Undo }

	/* start: the block copy; adopts whatever instance runs */
	:: atomic { agent_up && !busy && step[d] == Start && up && job[d] == NONE && leaf[d] != W ->
		life[d] = instance;
		job[d] = RUN;
		dirty[d] = false;
		step[d] = Transfer }
	:: atomic { agent_up && !busy && (step[d] == Start || step[d] == Transfer) && up && leaf[d] == W ->
		step[d] = Pivot }

	/* transfer */
	:: atomic { agent_up && !busy && step[d] == Transfer && up && job[d] == READY && life[d] == instance -> step[d] = Pivot }
	:: atomic { agent_up && !busy && (step[d] == Transfer || step[d] == Pivot) && up && leaf[d] != W && job[d] == NONE &&
		    !paused -> pivoting[d] = false; failing[d] = true; step[d] = Undo }
	:: atomic { agent_up && !busy && (step[d] == Transfer || step[d] == Pivot) && up && leaf[d] != W && life[d] != instance ->
		pivoting[d] = false; /* another life: nobody is suspended by us */
		step[d] = Start }

	/* the VM is off: the rest is copied cold, and the manifest switched under the image locks */
	:: atomic { agent_up && !busy && (step[d] == Start || step[d] == Transfer || step[d] == Pivot) && !up && man[d] != W &&
		    built[d] ->
		busy = true;
#ifndef COLDOPEN
		locked = true
#endif
		};
		STOP;
		if
		:: atomic { agent_up && !up ->
			V(d, W) = (READS(d, TRUE_LEAF(d)) > V(d, W) -> READS(d, TRUE_LEAF(d)) : V(d, W));
			copied[d] = true };
			STOP;
			if
			:: atomic { agent_up && copied[d] -> def[d] = W };
				STOP;
				if
				:: atomic { agent_up && !up -> man[d] = W; pivoted[d] = true; step[d] = Settle }
				:: atomic { agent_up && up -> def[d] = leaf[d] }
				:: atomic { !agent_up -> goto again }
				fi
			:: atomic { !agent_up -> goto again }
			fi
		:: atomic { agent_up && up -> skip }
		:: atomic { !agent_up -> goto again }
		fi;
		atomic { if :: agent_up -> busy = false; locked = false :: else fi; copied[d] = false }
	:: atomic { agent_up && !busy && step[d] != Settle && step[d] != Delete && step[d] != Undo && step[d] != Unseal && !up &&
		    man[d] == W -> pivoted[d] = true; step[d] = Settle }

	/* pivot: journal, suspend, switch, manifest, resume */
	:: atomic { agent_up && !busy && step[d] == Pivot && up && !pivoted[d] && (leaf[d] == W ||
		    (job[d] == READY && life[d] == instance && !(pivoting[d] && paused))) -> busy = true;
		if :: leaf[d] != W -> pivoting[d] = !paused :: else fi }; /* whose pause it is */
		STOP;
		if
		:: atomic { agent_up && up && leaf[d] != W && job[d] == READY ->
#ifndef NOPAUSE
			paused = true /* or it is already: by its user, or for another disk */
#else
			skip
#endif
			};
			STOP;
			if
#ifndef NOPAUSE
			:: atomic { agent_up && up && paused && job[d] == READY && !dirty[d] -> leaf[d] = W; job[d] = NONE }
			:: atomic { agent_up && up && paused && job[d] == READY && !dirty[d] && trouble > 0 ->
				/* done, but an error came, which says nothing: look again */
				trouble--; leaf[d] = W; job[d] = NONE; busy = false; PIVOTFAILED; goto again }
#else
			:: atomic { agent_up && up && job[d] == READY && !dirty[d] -> leaf[d] = W; job[d] = NONE }
#endif
			:: atomic { agent_up && up && job[d] == NONE && leaf[d] != W && (!pivoting[d] || MAYRESUME(d)) ->
				if :: pivoting[d] -> paused = false :: else fi;
				pivoting[d] = false }
			:: atomic { agent_up && up && job[d] == NONE && leaf[d] != W && pivoting[d] && !MAYRESUME(d) -> skip } /* later */
			:: atomic { agent_up && !up -> skip }
			:: atomic { !agent_up -> goto again }
			fi
		:: atomic { agent_up && up && leaf[d] == W -> skip } /* an earlier try did it */
		:: atomic { agent_up && up && leaf[d] != W && job[d] != READY -> skip }
		:: atomic { agent_up && !up -> skip }
		:: atomic { !agent_up -> goto again }
		fi;
#ifdef RESUMEFIRST
		atomic { if :: agent_up && up && leaf[d] == W -> paused = false :: else fi };
#endif
		STOP;
		if
		:: atomic { agent_up && up && leaf[d] == W -> man[d] = W };
			STOP;
			atomic { if :: agent_up && up && pivoting[d] && MAYRESUME(d) -> paused = false :: else fi };
			STOP;
			atomic {
				if
				:: agent_up && (!pivoting[d] || !up || !paused) -> pivoted[d] = true; pivoting[d] = false; step[d] = Settle
				:: else /* later */
				fi
			}
		:: else
		fi;
		atomic { if :: agent_up -> busy = false :: else fi }

	/* settle: libvirt's definition says what the manifest says */
	:: atomic { agent_up && !busy && step[d] == Settle && (!(up && paused && pivoting[d]) || MAYRESUME(d)) ->
		def[d] = W;
#ifndef NORESUME
		if :: up && paused && pivoting[d] -> paused = false :: else fi;
#endif
		pivoting[d] = false;
		step[d] = Delete }
#ifndef NORESUME
	/* found suspended by us, and the chain is as before: it runs on */
	:: atomic { agent_up && !busy && pivoting[d] && !pivoted[d] && up && paused && leaf[d] != W &&
		    MAYRESUME(d) ->
		if :: life[d] == instance -> paused = false :: else fi;
		pivoting[d] = false }
#endif

	/* undo: the new volume goes, if the VM does not run on it */
	:: atomic { agent_up && !busy && step[d] == Undo ->
#ifndef UNDOBLIND
		if
		:: SEEN(d) == W -> failing[d] = false; step[d] = Pivot
		:: SEEN(d) != W ->
			if :: up && job[d] != NONE -> job[d] = NONE; dirty[d] = false :: else fi;
			HAS(d, W) = false; built[d] = false; step[d] = Unseal
		fi
#else
		HAS(d, W) = false; built[d] = false; step[d] = Unseal
#endif
		}
	/* T stays where it is, in the manifest like any other volume */
	:: atomic { agent_up && !busy && step[d] == Unseal && !paused ->
		if
		:: SEEN(d) == T -> man[d] = T; def[d] = T; step[d] = Failed
		:: else -> HAS(d, T) = false; step[d] = Failed
		fi }

	/* delete: the manager asks; the live chain and the manifest are read again */
	:: atomic { agent_up && !busy && step[d] == Delete && MAYDELETE(d) ->
		assert(!USES(d, L) && !USES(d, T));
		HAS(d, L) = false;
		HAS(d, T) = false;
		step[d] = Done }
#ifdef DELBLIND
	:: atomic { agent_up && !busy && built[d] && up && job[d] == NONE && step[d] == Transfer ->
		assert(!USES(d, L) && !USES(d, T));
		HAS(d, L) = false; HAS(d, T) = false; step[d] = Done }
#endif
	:: atomic { !agent_up && !here[d] -> here[d] = true }
	od;
	atomic { here[d] = true; ended[d] = true }
}

inline start_all() {
	d_i = 0;
	do
	:: d_i < ND ->
#ifdef NOGUARD
		leaf[d_i] = def[d_i];
#else
		leaf[d_i] = TRUE_LEAF(d_i);
#endif
		assert(WHOLE(d_i, leaf[d_i]));              /* every volume of the chain exists */
		assert(READS(d_i, leaf[d_i]) == acked[d_i]); /* no acknowledged write is lost */
		d_i++
	:: else -> break
	od;
	d_i = 0
}

#if ND == 1
#define ALLHERE here[0]
#else
#define ALLHERE (here[0] && here[1])
#endif

/* what holds at every instant: a VM that runs has its volumes and all that was acknowledged */
#define SOUND(d) (!up || (WHOLE(d, leaf[d]) && READS(d, leaf[d]) == acked[d]))

proctype Env() {
end:	do
	:: atomic { !SOUND(0) -> assert(false) }
	:: atomic { crashes > 0 && agent_up -> crashes--; drop_agent() }
	:: atomic { !agent_up && ALLHERE -> agent_up = true }
	:: atomic { crashes > 0 && up -> crashes--; die() }
	:: atomic { crashes > 0 && up && agent_up -> crashes--; drop_agent(); die() }
	:: atomic { starts > 0 && !up && !locked -> starts--; start_all(); instance++; up = true; paused = false }
	od
}

init {
	atomic {
		byte i = 0;
		do
		:: i < ND -> V(i, L) = 1; HAS(i, L) = true; run Qemu(i); run Agent(i); i++
		:: else -> break
		od;
		run Env()
	}
}

#define ENDED(d) (step[d] == Done || step[d] == Failed)
#if ND == 1
#define ALLENDED ENDED(0)
#else
#define ALLENDED (ENDED(0) && ENDED(1))
#endif
ltl ends { <> ALLENDED }
ltl resumed { [] ((up && paused) -> <> (!paused || !up)) }
