/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Deleting a snapshot of a running VM by a commit: manager, agent, QEMU, storage.
 *
 * Chain  B(0) <- M(1) <- T(2);  one block with versions 1, 2, ...; 0 = not in that volume
 *   -DACTIVE   merges the leaf T into M, then pivots (top=T base=M); without it M into B (internal)
 *
 * Each part may crash between any two steps, NC crashes in all.
 *   Manager  durable: m_step, db_leaf, retry, vmlock         volatile: its place in the program
 *   Agent    durable: jr (journal), tomb                     volatile: its place in the program
 *   QEMU     volatile: leaf, live chain, block job, mirror   dies by itself or with its host
 *   Storage  durable: exists[], hdr[] (backing link), illegal[] (manifest), ver[] (data)
 *
 * Rules of the protocol, each a switch, so that it can be taken away (tests/model/run):
 *   -DPAUSE2    suspend, wait until the mirror is in sync, pivot, write the manifest, resume
 *   -DTOMB      "no such operation" is a durable promise: that id is refused later
 *   -DQUIESCE   FAILED is reported only when there is no job and none can start any more
 *   -DREVERIFY  a delete takes the VM's start lock and asks for the live chain again
 *   -DFLUSHDEL  a delete flushes and reads the stored chain again
 * and the world at its worst:
 *   -DPOWERLOSS header writes that were not flushed may be lost with a host
 * Mistakes to be found:
 *   (no -DPAUSE2)  the talk's own protocol: the leaf is flagged, then pivoted, the guest writes on
 *   -DNOFLAG    leaf not flagged before pivot      -DNOFENCE   an unreachable host is taken for dead
 *   -DSTARTDB   VM start ignores the manifest      -DJOBFIRST  job started before the journal is written
 *   -DLAPSE     agent answers before its journal is loaded
 */
#ifndef NC
#define NC 2
#endif
#ifndef NW
#define NW 2
#endif
#ifndef NS
#define NS 2            /* VM starts */
#endif
#define B 0
#define M 1
#define T 2
#define NIL 3
#ifdef ACTIVE
#define TOP T
#define BASE M
#define LEAFMERGE 1
#else
#define TOP M
#define BASE B
#define LEAFMERGE 0
#endif
#define JNONE 0
#define JRUN 1
#define JREADY 2
#define JPIVOT 3        /* pivot asked, draining */
#define JHDR 4          /* internal: data copied, overlay header rewritten, live graph not yet changed */
#define S_MERGE 0
#define S_WAIT 1
#define S_RESOLVE 2
#define S_OFFLINE 3
#define S_DELETE 4
#define S_DONE 5
#define S_FAILED 6

bool exists[3] = { true, true, true };
byte hdr[3]    = { NIL, B, M };
byte hdr_d[3]  = { NIL, B, M };     /* what survives power loss */
bool illegal[3];
byte ver[3]    = { 1, 0, 0 };
byte acked = 1;                     /* newest acknowledged version (ghost) */

bool q_run = true; byte q_leaf = T; byte q_back[3] = { NIL, B, M };
byte job = JNONE; bool dirty; bool q_pause;
bool part; bool req;                /* network cut manager<->host; MERGE request under way */
bool a_up = true; bool a_gone = true; bool m_gone = true; bool a_loaded = true; bool jr; bool tomb;
bool m_up = true; byte m_step = S_MERGE; byte db_leaf = T; byte retry; bool vmlock; bool presumed;
byte crashes = NC; byte writes = NW; byte jfail = 1; byte starts = NS;

#define VIS2(l)  (ver[l] -> ver[l] : (hdr[l]==NIL -> 0 : ver[hdr[l]]))
#define VIS(l)   (ver[l] -> ver[l] : (hdr[l]==NIL -> 0 : VIS2(hdr[l])))
#define INLIVE(v)  (q_run && (q_leaf==v || q_back[q_leaf]==v || (q_leaf==T && q_back[T]==M && q_back[M]==v)))
#define INSTORED(l,v) (l==v || hdr[l]==v || (hdr[l]!=NIL && hdr[hdr[l]]==v))
#define CHAIN_OK(l)  (exists[l] && (hdr[l]==NIL || (exists[hdr[l]] && (hdr[hdr[l]]==NIL || exists[hdr[hdr[l]]]))))
#define REACH (a_up && !part)
#ifdef TOMB
#define DEAD_ID tomb
#else
#define DEAD_ID false
#endif
#ifdef LAPSE
#define LOADED0 false
#define REPORTED (jr && a_loaded)
#define ANSWERS REACH
#else
#define LOADED0 true
#define REPORTED jr
#define ANSWERS (REACH && a_loaded)
#endif
#define LOCKOK (!vmlock)
#ifdef STARTDB
#define FLAGOK true
#else
#define FLAGOK (!illegal[db_leaf])
#endif
#ifdef QUIESCE
#define QUIET (job == JNONE && !jr && (!req || DEAD_ID))
#else
#define QUIET true
#endif
#define CANSTART (q_run && INLIVE(TOP) && job == JNONE && !jr && !DEAD_ID)

#ifdef NOP5
#define P5 skip
#else
#define P5 assert(job == JNONE && !(req && CANSTART && REACH))      /* P5: "failed" is final, nothing can still start */
#endif
inline qemu_die() { q_run = false; job = JNONE; dirty = false; q_pause = false }
#ifdef NOFENCE
#define FENCE presumed = true
#else
#define FENCE qemu_die(); a_up = false; a_loaded = LOADED0; jr = false; part = false; req = false   /* power off, confirmed */
#endif
inline copy() { if :: ver[TOP] -> ver[BASE] = ver[TOP] :: else fi; dirty = false }

active proctype Qemu() {            /* guest + block job */
end:	do
	:: d_step { q_run && !q_pause && writes > 0 && job != JPIVOT ->
		writes--; acked++; ver[q_leaf] = acked;
		if :: LEAFMERGE && (job == JRUN || job == JREADY) ->
			dirty = true
		   :: else fi }
	:: d_step { LEAFMERGE && q_run && job == JRUN -> copy(); job = JREADY }
	:: d_step { LEAFMERGE && q_run && job == JREADY && dirty -> copy() }
	:: d_step { LEAFMERGE && q_run && job == JPIVOT -> if :: dirty -> copy() :: else fi; q_leaf = BASE; job = JNONE }
	:: d_step { !LEAFMERGE && q_run && job == JRUN -> copy(); hdr[T] = B; job = JHDR }
	:: d_step { !LEAFMERGE && q_run && job == JHDR -> q_back[T] = B; job = JNONE }
	:: d_step { q_run && (job == JRUN || job == JREADY) && jfail > 0 -> jfail--; job = JNONE; dirty = false }
#ifdef POWERLOSS
	:: d_step { hdr_d[T] != hdr[T] -> hdr_d[T] = hdr[T] }
#endif
	od
}

active proctype Agent() {
start:	if :: atomic { a_up && !a_loaded -> a_loaded = true; a_gone = false } :: atomic { a_up && a_loaded -> a_gone = false } fi;
end:	do
	:: !a_up -> break
	:: atomic { a_up && !part && req && !CANSTART -> req = false }                 /* duplicate, refused or impossible */
#ifdef JOBFIRST
	:: atomic { a_up && !part && req && CANSTART -> req = false; job = JRUN };
		if :: !a_up -> break :: atomic { a_up -> jr = true } fi
#else
	:: atomic { a_up && !part && req && CANSTART -> req = false; jr = true };
		if :: !a_up -> break
		   :: atomic { a_up -> if :: q_run && job == JNONE && INLIVE(TOP) -> job = JRUN :: else fi } fi
#endif
#if defined(PAUSE2)
	:: atomic { LEAFMERGE && a_up && jr && q_run && job == JREADY && !q_pause -> q_pause = true }
#endif
#if defined(PAUSE2)
	:: atomic { LEAFMERGE && a_up && jr && q_run && job == JREADY && q_pause && !dirty -> skip };
#else
	:: atomic { LEAFMERGE && a_up && jr && q_run && job == JREADY ->
#ifndef NOFLAG
		illegal[TOP] = true
#else
		skip
#endif
		};
#endif
		if :: !a_up -> break
		   :: atomic { a_up -> if :: q_run && job == JREADY -> job = JPIVOT :: else fi } fi
	:: atomic { a_up && jr && q_run && job == JNONE ->      /* job gone, VM lives: sync stored metadata with the live chain */
		illegal[TOP] = (INLIVE(TOP) -> false : true) };
		if :: !a_up -> break :: atomic { a_up -> q_pause = false } fi;
		if :: !a_up -> break :: atomic { a_up -> if :: job == JNONE -> jr = false :: else fi } fi
	:: atomic { a_up && jr && !q_run -> jr = false }        /* VM gone: stop reporting; the manager resolves it offline */
	od;
	atomic { a_gone = true; goto start }        /* the crash reached this process: its program counter is lost */
}

active proctype Manager() {
	bool rd_in, rd_ill; byte rd_leaf;            /* what was read, may be old when acted on */
start:	atomic { m_up -> m_gone = false };
	do
	:: atomic { !m_up -> m_gone = true; goto start }
	:: m_up && (m_step == S_DONE || m_step == S_FAILED) -> break
	:: atomic { m_up && m_step == S_MERGE -> req = true };
		if :: atomic { !m_up -> m_gone = true; goto start } :: atomic { m_up -> m_step = S_WAIT } fi
	:: atomic { m_up && m_step == S_WAIT && ANSWERS && !REPORTED ->
#ifdef TOMB
		tomb = true;
#endif
		m_step = S_RESOLVE }
	:: atomic { m_up && (m_step == S_WAIT || m_step == S_RESOLVE) && !REACH ->      /* lost the host */
		FENCE;
		vmlock = true; m_step = S_OFFLINE }
	:: atomic { m_up && m_step == S_RESOLVE && ANSWERS && !q_run -> vmlock = true; m_step = S_OFFLINE }
	:: atomic { m_up && m_step == S_RESOLVE && ANSWERS && q_run -> rd_in = INLIVE(TOP); rd_leaf = q_leaf };
		if
		:: atomic { !m_up -> m_gone = true; goto start }
		:: atomic { m_up && !rd_in -> db_leaf = rd_leaf; m_step = S_DELETE }
		:: atomic { m_up && rd_in && retry == 0 -> retry = 1; tomb = false; req = false; m_step = S_MERGE }   /* new attempt = new id */
		:: atomic { m_up && rd_in && retry == 1 -> if :: QUIET -> m_step = S_FAILED :: else fi }
		fi
	:: atomic { m_up && m_step == S_OFFLINE && q_run && !presumed -> vmlock = false; m_step = S_RESOLVE }   /* it was started meanwhile */
	:: atomic { m_up && m_step == S_OFFLINE && (!q_run || presumed) ->                /* SPM: qemu-img walk + flags */
		rd_ill = LEAFMERGE && illegal[TOP]; rd_in = INSTORED(db_leaf,TOP) };
		if
		:: atomic { !m_up -> m_gone = true; goto start }
		:: atomic { m_up && rd_ill -> db_leaf = BASE; m_step = S_DELETE }
		:: atomic { m_up && !rd_ill && !rd_in -> illegal[TOP] = true; m_step = S_DELETE }
		:: atomic { m_up && !rd_ill && rd_in -> illegal[TOP] = false; vmlock = false; m_step = S_FAILED }
		fi
#ifdef REVERIFY
	:: atomic { m_up && m_step == S_DELETE && !vmlock -> vmlock = true }
	:: atomic { m_up && m_step == S_DELETE && vmlock && ANSWERS && INLIVE(TOP) -> vmlock = false; m_step = S_RESOLVE }
	:: atomic { m_up && m_step == S_DELETE && !REACH -> FENCE; vmlock = true }
	:: atomic { m_up && m_step == S_DELETE && vmlock && ANSWERS && !INLIVE(TOP) ->
#else
	:: atomic { m_up && m_step == S_DELETE ->
#endif
#ifdef FLUSHDEL
		hdr_d[T] = hdr[T];
#endif
		rd_in = (!LEAFMERGE && hdr[T] == TOP) };
		if
		:: atomic { !m_up -> m_gone = true; goto start }
		:: atomic { m_up && rd_in -> vmlock = false; m_step = S_FAILED }        /* still has children: refuse, report */
		:: atomic { m_up && !rd_in && exists[TOP] ->
			assert(!INLIVE(TOP));                              /* P1a referenced by a live chain */
			assert(LEAFMERGE || !INSTORED(T,TOP));             /* P1b referenced by a stored chain */
			assert(!LEAFMERGE || q_run || VIS(BASE) == acked); /* P1c last copy of acknowledged data */
			exists[TOP] = false }
		:: atomic { m_up && !rd_in && !exists[TOP] -> vmlock = false; m_step = S_DONE }
		fi
	od;
	do
	:: atomic { m_step == S_FAILED -> P5; break }
	:: m_step == S_DONE -> break
	od
}

active proctype Env() {             /* crashes, restarts, cuts, VM start */
end:	do
	:: d_step { crashes > 0 && m_up -> crashes--; m_up = false }
	:: d_step { !m_up && m_gone -> m_up = true }
	:: d_step { crashes > 0 && a_up -> crashes--; a_up = false; a_loaded = LOADED0 }
	:: d_step { !a_up && a_gone -> a_up = true; a_loaded = LOADED0 }
	:: d_step { crashes > 0 && q_run -> crashes--; qemu_die() }
	:: atomic { crashes > 0 && (q_run || a_up) -> crashes--; qemu_die(); a_up = false; a_loaded = LOADED0;   /* host dies */
#ifdef POWERLOSS
		hdr[T] = hdr_d[T];
#endif
		if :: jr = false :: skip fi }                       /* its journal may be gone for good */
	:: d_step { crashes > 0 && !part -> crashes--; part = true }
	:: d_step { part -> part = false }
	:: d_step { req && crashes > 0 -> crashes--; req = false }     /* request lost */
	:: atomic { starts > 0 && (!q_run || presumed) && REACH && m_up && LOCKOK && FLAGOK -> starts--;
		assert(!q_run);                       /* P6: never two instances */
		assert(CHAIN_OK(db_leaf));            /* P2a: every volume of the chain exists */
		assert(VIS(db_leaf) == acked);        /* P2b/P3: no stale leaf, no acknowledged write lost */
		q_leaf = db_leaf; q_back[T] = hdr[T]; q_back[M] = hdr[M]; q_run = true; q_pause = false }
	od
}

ltl ends { <> (m_step == S_DONE || m_step == S_FAILED) }
ltl resumed { [] ((q_run && q_pause) -> <> (!q_pause || !q_run)) }
