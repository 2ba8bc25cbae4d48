/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files against history: rules W3, W5, W6, M6 and the order of D4; invariants I7, I8.
 *
 * Two nodes.  A version of the files is the set of edits in it.  That only the writer of the newest
 * epoch can make a save safe is raise.pml's matter and is taken as given here; this is about what a
 * node may do with its own files.  An update brings what differs between `base` and the tip, as a
 * comparison of two versions says, and does not look again at what `base` claims; where it writes
 * it may overwrite whatever else is there.  It takes two steps and may be cut in the middle.
 *
 *   -DNE=3 edits      -DEM=4 epochs
 */
#ifndef NE
#define NE 3
#endif
#ifndef EM
#define EM 4
#endif
#define BIT(e) (1 << (e))
#define HAS(set, e) (((set) >> (e)) & 1)
#define WITHIN(a, b) (((a) & ~(b)) == 0)

byte tip;                 /* the newest safe version */
byte side;                /* edits in side branches */
byte epoch = 1, writer;   /* the newest record */
byte edits;               /* ghost: every edit that a project's process ever made */
byte files[2];
byte known[2] = 1;        /* newest epoch that the node knows */
bit live[2];              /* processes run */
/* D4 */
byte base[2];             /* what the files were derived from */
bit dirty[2], applying[2];
byte to[2];               /* what is being applied */
byte x, e;
hidden byte I7, I8;
#define END x = 0; e = 0

/* I8: no edit is gone */
inline kept() {
	I8 = WITHIN(edits, tip | side | files[0] | files[1]);
	assert(I8)
}
/* The tip is an ancestor of what my files derive from, or that itself: nobody saved since. */
#define IN_LINE(y) WITHIN(tip, base[y])
#define SALVAGE(y) side = side | files[y]
/* The whole tree anew, for files whose base says nothing any more. */
#define RESTORE(y) files[y] = tip; base[y] = tip
#define OVERWRITE(y, v) if :: skip :: files[y] = (files[y] & (v)) fi
#define BRING_UP(y) files[y] = (files[y] | (tip & ~base[y])); OVERWRITE(y, tip); base[y] = tip
#define FINISH(y) files[y] = (files[y] | to[y]); OVERWRITE(y, to[y]); base[y] = to[y]; applying[y] = 0; to[y] = 0

init {
	do
	:: atomic { /* W3: start */
		select(x : 0 .. 1);
		if
		:: writer == x && known[x] == epoch && !live[x] ->
#ifndef MUT_W3_APPLYING
			if :: applying[x] -> FINISH(x) :: else fi;
#endif
			if
#ifdef MUT_W3_LINE
			:: dirty[x] -> skip /* dirty files are kept, whatever was saved meanwhile */
#else
			:: dirty[x] && IN_LINE(x) -> skip
			:: dirty[x] && !IN_LINE(x) ->
#ifndef MUT_W3_SALVAGE
				SALVAGE(x);
#endif
				RESTORE(x)
#endif
#ifdef MUT_W3_RESTORE
			:: !dirty[x] -> skip
#else
			:: !dirty[x] -> BRING_UP(x)
#endif
			fi;
#ifndef MUT_W3_DIRTY
			dirty[x] = 1;
#endif
			live[x] = 1;
			/* I7, last part: processes never start on files that lack the tip */
			I7 = WITHIN(tip, files[x]); assert(I7);
			kept()
		:: else
		fi;
		END
	}
	:: atomic { /* a process writes, also where the node does not know that it was replaced */
		select(x : 0 .. 1); select(e : 0 .. NE - 1);
		if
		:: live[x] && !HAS(edits, e) && (e == 0 || HAS(edits, e - 1)) ->
			edits = edits | BIT(e); files[x] = files[x] | BIT(e)
		:: else
		fi;
		END
	}
	:: atomic { /* W4: a save becomes safe */
		select(x : 0 .. 1);
		if
		:: live[x] && writer == x && known[x] == epoch ->
			I7 = WITHIN(tip, files[x]); assert(I7);
			tip = files[x]; base[x] = tip
		:: else
		fi;
		END
	}
	:: atomic { /* W5: stop, after a save of all that there is */
		select(x : 0 .. 1);
		if
#ifdef MUT_W5
		:: live[x] -> live[x] = 0; dirty[x] = 0
#else
		:: live[x] && writer == x && known[x] == epoch && tip == files[x] -> live[x] = 0; dirty[x] = 0
#endif
		:: else
		fi;
		END
	}
	:: atomic { select(x : 0 .. 1); live[x] = 0; END } /* crash; what is on the disk stays */
	:: atomic { /* a raise */
		select(x : 0 .. 1);
		if :: epoch < EM -> epoch++; writer = x :: else fi;
		END
	}
	:: atomic { /* W6: a node learns of it */
		select(x : 0 .. 1);
		known[x] = epoch;
		if
#ifdef MUT_W6
		:: live[x] && writer != x -> live[x] = 0 /* the same writer goes on, whatever the base */
#else
		:: live[x] && (writer != x || !IN_LINE(x)) -> live[x] = 0
#endif
		:: else
		fi;
		END
	}
	:: atomic { /* M6: a node that is not the writer brings its files up, first half */
		select(x : 0 .. 1);
		if
		:: !live[x] && !applying[x] && (writer != x || known[x] != epoch) ->
			if
#ifdef MUT_M6
			:: dirty[x] -> RESTORE(x); dirty[x] = 0
#else
			:: dirty[x] -> SALVAGE(x); RESTORE(x); dirty[x] = 0
#endif
			:: !dirty[x] ->
#ifdef MUT_M6_ORDER
				base[x] = tip /* `base` before the files, and nothing says so */
#else
				applying[x] = 1; to[x] = tip; files[x] = files[x] | (tip & 1)
#endif
			fi;
			kept()
		:: else
		fi;
		END
	}
	:: atomic { /* ... second half, unless a crash came between */
		select(x : 0 .. 1);
		if :: applying[x] && !live[x] -> FINISH(x); kept() :: else fi;
		END
	}
	od
}
