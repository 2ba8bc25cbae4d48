/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One running writer while records change: RELEASE and CONSENT; rules M1, M2, M4, W1, W5; invariant I5.
 *
 * Three voters; nodes 0 and 1 may be writers.  Time is taken out: that a lease which rests on a
 * member's answer ends before that member stops being held is lease.pml's matter, so here both
 * end at once: lease[x] has bit m while m's answer is worth something to x, heard[m] says who holds
 * m.  A writer x may run while a majority of the members has such a bit for x, itself included.
 * Messages may be late, doubled, reordered, lost, as in raise.pml, and hubs may name any writer,
 * also one who must not be: members alone keep I5.  No member restarts and forgets whom it heard.
 *
 *   -DNR=3 raises
 */
#ifndef NR
#define NR 3
#endif
#define N 3
#define BIT(m) (1 << (m))
#define HAS(set, m) (((set) >> (m)) & 1)
#define COUNT(set) (((set)&1) + (((set) >> 1) & 1) + (((set) >> 2) & 1))
#define MAJ(set) (COUNT(set) >= 2)

byte made = 1, writer[NR + 1]; /* records */
byte asked[NR + 1];            /* who promised r */
byte promised[N], rec[N];      /* D1, D2 */
byte bound[N];                 /* D1: 1 + the writer under whose CONSENT was promised, 0: none */
byte heard[N];                 /* 1 + the writer whose hold runs, 0: none */
byte lease[2];                 /* of writer x, by members */
byte released;                 /* RELEASE(P,n) exists: bit n */
byte gone[2];                  /* D1 of the writers: 1 + the newest record given up, 0: none */
byte consent[NR + 1];          /* CONSENT(P,n,r): 1 + n, 0: none */
byte r, m, x, n;
hidden byte I5;
#define END r = 0; m = 0; x = 0; n = 0

#ifdef MUT_W1
#define RUNS(y) HAS(lease[y], y) /* no majority */
#else
#define RUNS(y) (MAJ(lease[y]) && HAS(lease[y], y))
#endif
#define HELD(mm) (heard[mm] != 0)
/* M4: held by another than the writer of record k */
#ifdef MUT_M4_EXCLUSIVE
#define STRANGER(mm, k) false
#else
#define STRANGER(mm, k) (heard[mm] != 0 && heard[mm] != 1 + writer[k])
#endif

/* M1: a PREPARE with a RELEASE or CONSENT for the record that I hold */
#ifdef MUT_M1_RELEASE
#define RELEASED(mm) (released != 0) /* any of this project's */
#else
#define RELEASED(mm) HAS(released, rec[mm])
#endif
#define CONSENTED(mm, k) (consent[k] == 1 + rec[mm])
/* M2: what I promised under a CONSENT is for that writer alone. */
#ifdef MUT_M2_CONSENT
#define BOUND(mm, k) false
#else
#define BOUND(mm, k) (promised[mm] == (k) && bound[mm] != 0 && writer[k] != bound[mm] - 1)
#endif
/* M4: what I promised without a CONSENT says that the writer of my record runs no more, or has
 * released: it holds me no longer.  Of another whom I heard it says nothing. */
#ifdef MUT_M4_OVER
#define OVER(mm) true
#else
#define OVER(mm) (promised[mm] > rec[mm] && bound[mm] == 0)
#endif
#ifdef MUT_M4_WHOSE
#define HIS(mm) true
#else
#define HIS(mm) (heard[mm] == 1 + writer[rec[mm]])
#endif

inline check() {
	I5 = !(RUNS(0) && RUNS(1));
	assert(I5)
}

inline install(mm, k) {
	if :: writer[k] != writer[rec[mm]] && OVER(mm) && HIS(mm) -> heard[mm] = 0 :: else fi;
	rec[mm] = k;
	promised[mm] = k;
	bound[mm] = 0;
	/* W6: it knows that it was replaced, and its own processes are frozen */
	if
	:: mm == 1 - writer[k] ->
		lease[mm] = 0;
		if :: heard[mm] == 1 + mm -> heard[mm] = 0 :: else fi
	:: else
	fi
}

init {
	do
	:: atomic { /* M1: PREPARE(r) arrives */
		select(r : 1 .. NR); select(m : 0 .. N - 1);
		if
		:: !HAS(made, r) && promised[m] < r ->
			if
#ifdef MUT_M1_HELD
			:: promised[m] = r; bound[m] = 0; asked[r] = asked[r] | BIT(m)
#else
			:: !HELD(m) || RELEASED(m) ->
				promised[m] = r; bound[m] = 0; asked[r] = asked[r] | BIT(m);
				if :: RELEASED(m) && HIS(m) -> heard[m] = 0 :: else fi
#endif
			:: CONSENTED(m, r) -> promised[m] = r; bound[m] = 1 + writer[rec[m]]; asked[r] = asked[r] | BIT(m)
			:: else
			fi
		:: else
		fi;
		END
	}
	:: atomic { /* H4: a hub signs; it may name any writer, whatever it was given */
		select(r : 1 .. NR); select(x : 0 .. 1);
		if
		:: !HAS(made, r) && MAJ(asked[r]) -> made = made | BIT(r); writer[r] = x; asked[r] = 0; consent[r] = 0
		:: else
		fi;
		END
	}
	:: atomic { /* M2: INSTALL(r) arrives */
		select(r : 1 .. NR); select(m : 0 .. N - 1);
		if
		:: HAS(made, r) && rec[m] < r && promised[m] <= r && !BOUND(m, r) -> install(m, r)
		:: else
		fi;
		END
	}
	:: atomic { /* M4: KEEP from the writer of r arrives, and the answer in time */
		select(r : 0 .. NR); select(m : 0 .. N - 1);
		if
		:: HAS(made, r) && rec[m] == r && !STRANGER(m, r) &&
#ifndef MUT_M4
		   promised[m] <= r &&
#endif
#ifndef MUT_W5_AGAIN
		   r >= gone[writer[r]] && /* W5: its writer counts no more answers, nor runs again */
#endif
		   true ->
			lease[writer[r]] = lease[writer[r]] | BIT(m);
			heard[m] = 1 + writer[r];
			check()
		:: else
		fi;
		END
	}
	:: atomic { /* H has passed since m heard anyone, hence also every lease from m */
		select(m : 0 .. N - 1);
		heard[m] = 0;
		lease[0] = lease[0] & ~BIT(m);
		lease[1] = lease[1] & ~BIT(m);
		END
	}
	:: atomic { /* W5: the writer of r, whose newest record that is, stops and releases */
		select(r : 0 .. NR);
		if
		:: HAS(made, r) && rec[writer[r]] == r && !HAS(released, r) ->
			released = released | BIT(r);
			gone[writer[r]] = 1 + r;
#ifndef MUT_W5_RUNNING
			lease[writer[r]] = 0; /* nothing runs any more, and no late answer counts */
#endif
			skip
		:: else
		fi;
		END
	}
	:: atomic { /* the writer of n, running and to run on, consents to raise r */
		select(r : 1 .. NR); select(n : 0 .. NR - 1);
		if
		:: n < r && HAS(made, n) && !HAS(made, r) && rec[writer[n]] == n && promised[writer[n]] == n && !HAS(released, n) &&
		   consent[r] == 0 ->
			consent[r] = 1 + n
		:: else
		fi;
		END
	}
#ifdef MUT_D1_CONSENT
	:: atomic { /* the mark of the consent is not durable */
		select(m : 0 .. N - 1);
		bound[m] = 0;
		END
	}
#endif
	od
}
