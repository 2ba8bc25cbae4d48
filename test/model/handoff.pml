/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One running writer while records change: RELEASE and CONSENT; rules M1, M2, M4, W1, W5; invariant I5.
 *
 * Three voters; nodes 0 and 1 may be writers.  Time is taken out: that a lease which rests on a
 * member's answer ends before that member stops being held is lease.pml's matter, so here both
 * are one bit, lease[x] having bit m.  A writer x may run while a majority of the members has such
 * a bit for x, itself included.  Messages may be late, doubled, reordered, lost, as in raise.pml,
 * and hubs may name any writer, also one who must not be: members alone keep I5.
 *
 *   -DNR=3 raises
 *   -DM4_EXCLUSIVE   a member that is held by one writer says OK to no other: another way to the same
 *                    end, which needs none of what M1 and M2 say of holds and consents
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
#define HELD(mm) (HAS(lease[0], mm) || HAS(lease[1], mm))
/* Held by another than the writer of record k.  My own processes hold me from others, but when I
 * learn that I was replaced they are frozen first (W6). */
#define STRANGER(mm, k) (HAS(lease[1 - writer[k]], mm) && mm != 1 - writer[k])

/* M1: a PREPARE with a RELEASE or CONSENT for the record that I hold */
#ifdef MUT_M1_RELEASE
#define RELEASED(mm) (released != 0) /* any of this project's */
#else
#define RELEASED(mm) HAS(released, rec[mm])
#endif
#define CONSENTED(mm, k) (consent[k] == 1 + rec[mm])
/* M2: what I promised under a CONSENT is for that writer alone; what I never promised waits until I
 * might have promised it. */
#ifdef MUT_M2_CONSENT
#define BOUND(mm, k) false
#else
#define BOUND(mm, k) (promised[mm] == (k) && bound[mm] != 0 && writer[k] != bound[mm] - 1)
#endif
#ifdef MUT_M2_HELD
#define WAITS(mm, k) false
#else
#define WAITS(mm, k) (promised[mm] < (k) && STRANGER(mm, k) && !RELEASED(mm))
#endif
#define ALLOWED(mm, k) (promised[mm] <= (k) && !BOUND(mm, k) && !WAITS(mm, k))

inline check() {
	I5 = !(RUNS(0) && RUNS(1));
	assert(I5)
}

inline install(mm, k) {
	rec[mm] = k;
	promised[mm] = k;
	bound[mm] = 0;
	/* W6: it knows that it was replaced */
	if :: mm == 1 - writer[k] -> lease[mm] = 0 :: else fi
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
			:: !HELD(m) || RELEASED(m) -> promised[m] = r; bound[m] = 0; asked[r] = asked[r] | BIT(m)
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
		:: HAS(made, r) && rec[m] < r && ALLOWED(m, r) -> install(m, r)
		:: else
		fi;
		END
	}
	:: atomic { /* M4: KEEP from the writer of r arrives, and the answer in time */
		select(r : 0 .. NR); select(m : 0 .. N - 1);
		if
		:: HAS(made, r) &&
#ifndef MUT_M4
		   promised[m] <= r &&
#endif
#ifndef MUT_W5_AGAIN
		   r >= gone[writer[r]] && /* W5: its writer counts no more answers, nor runs again */
#endif
#ifdef M4_EXCLUSIVE
		   !STRANGER(m, r) &&
#endif
		   (rec[m] == r || (rec[m] < r && ALLOWED(m, r))) ->
			if :: rec[m] < r -> install(m, r) :: else fi;
			lease[writer[r]] = lease[writer[r]] | BIT(m);
			check()
		:: else
		fi;
		END
	}
	:: atomic { /* H has passed since m heard x, hence also the lease of x from m */
		select(m : 0 .. N - 1); select(x : 0 .. 1);
		lease[x] = lease[x] & ~BIT(m);
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
