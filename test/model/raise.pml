/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records, promises, saves, members: rules M1, M2, M3, M5, H1 to H4, W2, W4; invariants I1 to I4.
 *
 * One process; every step is atomic, and whatever was sent may arrive late, twice, out of order or
 * never: a message is not a thing here, a step may simply be taken whenever its message can exist.
 * No catalog: raise r is a hub of its own, with a number of its own, that knows any record ever
 * made.  So there are any number of hubs, and no catalog rollback that this does not contain.
 * A crash loses nothing durable and is therefore no step, except where a mutant forgets something.
 *
 *   -DN=3 nodes       -DNR=3 raises        -DS=1 saves per epoch beyond its opening (n,0)
 *   -DM0=7 voters of record 0 (bits)       -DWIT=0 witnesses among the nodes (bits)
 *   -DCHANGE          a raise may change the voters (H3)
 */
#ifndef N
#define N 3
#endif
#ifndef NR
#define NR 3
#endif
#ifndef S
#define S 1
#endif
#ifndef M0
#define M0 7
#endif
#ifndef WIT
#define WIT 0
#endif

#define BIT(m) (1 << (m))
#define HAS(set, m) (((set) >> (m)) & 1)
#define COUNT(set) (((set)&1) + (((set) >> 1) & 1) + (((set) >> 2) & 1) + (((set) >> 3) & 1))
#define MAJ(some, all) (2 * COUNT((some) & (all)) > COUNT(all))

/* A version (n,s) as a number, so that order is order. */
#define V(n, s) ((n) * (S + 1) + (s))
#define EPOCH(v) ((v) / (S + 1))

/* Records: the bits of `made` say which are signed, those of `opened` which have their (n,0). */
byte made = 1, opened = 1;
byte voters[NR + 1], writer[NR + 1], base[NR + 1], last[NR + 1];
/* What each node has on its disk: D1, D2, D3.  Without CHANGE all records have the same voters, it
 * matters to no rule which of them a node holds, and `rec`, `clean`, `said_rec` stay 0. */
byte promised[N], rec[N], ver[N];
/* Answers to PREPARE(r) on their way: by whom, and what each of them said (index r*N+m). */
byte answered[NR + 1], clean[NR + 1], said_rec[(NR + 1) * N], said_ver[(NR + 1) * N];
/* Ghost: who ever ACKed a version. */
byte acks[V(NR, S) + 1];
bit accident; /* of the mutants that have one */

#ifdef MUT_W4
#define SAFE(v) (acks[v] != 0) /* the writer's own copy is enough */
#else
#define SAFE(v) MAJ(acks[v], voters[EPOCH(v)])
#endif

/* The choices of a step; 0 between steps, so that they do not multiply the states. */
byte r, m, s, h, sub, who, nv, v, newest;
bit same;
#define END r = 0; m = 0; s = 0; h = 0; sub = 0; who = 0; nv = 0; v = 0; newest = 0; same = 0
/* Scratch, written before it is read in one d_step: no part of a state. */
hidden byte t, a, w, c, i, yes, I1, I2, I3, I4, I8;

/* yes := anc is an ancestor of tip, or tip itself */
inline contains(tip, anc) {
	t = tip;
	do
	:: EPOCH(t) > EPOCH(anc) -> t = base[EPOCH(t)]
	:: else -> break
	od;
	yes = (EPOCH(t) == EPOCH(anc) && t >= anc)
}

/* Member mm takes version vv under its record: D1, D2, D3 durable, then the ACK. */
inline take(mm, vv) {
	c = EPOCH(vv);
	/* M3, last but one sentence: a tip that is off the line becomes a side branch. */
	contains(vv, ver[mm]);
#ifdef MUT_M3_LINE
	I8 = (yes || (ver[mm] > base[c] && EPOCH(ver[mm]) < c)); /* by number alone */
	assert(I8);
#endif
#ifdef MUT_W2
	/* Standing at the base counts as having opened: the version keeps its old number. */
	ver[mm] = (vv == V(c, 0) -> base[c] : vv);
#else
	ver[mm] = vv;
#endif
	learn(mm, c);
	ack(mm, vv)
}

/* Member mm takes record n: D1, D2. */
inline learn(mm, n) {
	if :: promised[mm] < n -> promised[mm] = n :: else fi;
#ifdef CHANGE
	if :: rec[mm] < n -> rec[mm] = n :: else fi;
#endif
	skip
}

/* The ACK of vv is one of all before it in the epoch. */
inline ack(mm, vv) {
	a = V(EPOCH(vv), 0);
	do
	:: a <= vv ->
		if
		:: SAFE(a) -> skip
		:: else ->
			acks[a] = acks[a] | BIT(mm);
			if
			:: SAFE(a) ->
				acks[a] = voters[EPOCH(a)]; /* who it was matters no more */
				/* I1: no save becomes safe that the base of a later record lacks */
				i = EPOCH(a) + 1;
				do
				:: i <= NR && HAS(made, i) -> contains(base[i], a); I1 = yes; assert(I1); i++
				:: i <= NR && !HAS(made, i) -> i++
				:: else -> break
				od;
				/* I4: of two safe saves one is an ancestor of the other */
				i = 0;
				do
				:: i <= V(NR, S) ->
					if
					:: i != a && SAFE(i) && i < a -> contains(a, i); I4 = yes; assert(I4)
					:: i != a && SAFE(i) && i > a -> contains(i, a); I4 = yes; assert(I4)
					:: else -> skip
					fi;
					i++
				:: else -> break
				od
			:: else -> skip
			fi
		fi;
		a++
	:: else -> break
	od;
	skip /* a d_step must not end in a loop */
}

/* May mm take the newer version vv?  M3: it keeps data, is a member, promised no newer record. */
#ifdef MUT_M3
#define FENCE(mm, n) true
#else
#define FENCE(mm, n) (promised[mm] <= (n))
#endif
#ifdef MUT_W2
#define NEWER(mm, vv) (vv == V(EPOCH(vv), 0) -> ver[mm] <= base[EPOCH(vv)] && !HAS(acks[vv], mm) : ver[mm] < vv)
#else
#define NEWER(mm, vv) (ver[mm] < (vv))
#endif
#ifdef MUT_WITNESS
#define KEEPS(mm) true
#else
#define KEEPS(mm) (!HAS(WIT, mm))
#endif

/* H2: how many promises, and how good */
#ifdef MUT_H2_MAJ
#define ENOUGH(some, all) (COUNT((some) & (all)) >= 1)
#else
#define ENOUGH(some, all) MAJ(some, all)
#endif
#ifdef CHANGE
#define HOPELESS(n) (answered[n] == 0)
#else
#define HOPELESS(n) (!ENOUGH(answered[n], M0))
#endif
#ifdef MUT_H2_BASE
#define GOOD(vv, n) true
#else
#define GOOD(vv, n) ((vv) >= base[n])
#endif
/* H3: may the answer of a voter count for a change of voters from record c? */
#ifdef MUT_H3_RECORD
#define STEADY(n, mm, c) HAS(clean[n], mm)
#elif defined(MUT_H3_CLEAN)
#define STEADY(n, mm, c) (said_rec[(n) * N + mm] == c)
#else
#define STEADY(n, mm, c) (said_rec[(n) * N + mm] == c && HAS(clean[n], mm))
#endif

/* The hub of raise r has promises from `sub`: newest := the newest record it knows, v := v*,
 * same := the voters may not change. */
inline weigh() {
	newest = h; v = 0; i = 0;
	do
	:: i < N && HAS(sub, i) ->
		if :: said_rec[r * N + i] > newest -> newest = said_rec[r * N + i] :: else fi;
#ifdef MUT_H2_BEST
		v = said_ver[r * N + i]; /* some answer, not the best */
#else
		if :: said_ver[r * N + i] > v -> v = said_ver[r * N + i] :: else fi;
#endif
		i++
	:: i < N && !HAS(sub, i) -> i++
	:: else -> break
	od;
	same = 0; i = 0;
	do
	:: i < N -> same = (same || (HAS(voters[newest] & sub, i) && !STEADY(r, i, newest))); i++
	:: else -> break
	od;
	nv = voters[newest]
}

inline sign() {
#ifdef MUT_H1
	/* Two hubs with one number, for want of random bits: both have the same promises. */
	I3 = (!HAS(made, r) || (writer[r] == who && voters[r] == nv && base[r] == v));
	assert(I3);
#endif
	made = made | BIT(r); voters[r] = nv; writer[r] = who; base[r] = v;
#ifndef MUT_H1
	/* The answers are used up; forgetting them keeps the state space small. */
	answered[r] = 0; clean[r] = 0; i = 0;
	do
	:: i < N -> said_rec[r * N + i] = 0; said_ver[r * N + i] = 0; i++
	:: else -> break
	od;
#endif
	/* I2: every safe save of an earlier epoch is an ancestor of the base */
	w = 0;
	do
	:: w < V(r, 0) && SAFE(w) -> contains(base[r], w); I2 = yes; assert(I2); w++
	:: w < V(r, 0) && !SAFE(w) -> w++
	:: else -> break
	od;
	skip
}

init {
	d_step {
		voters[0] = M0; acks[0] = M0
	}
	do
	:: atomic { /* W2: the writer, filled up to the base, opens its epoch */
		select(r : 1 .. NR);
		if
		:: HAS(made, r) && !HAS(opened, r) && FENCE(writer[r], r) ->
			d_step { opened = opened | BIT(r); take(writer[r], V(r, 0)) }
		:: else
		fi;
		END
	}
	:: atomic { /* W4: the writer saves on its own disk */
		select(r : 0 .. NR);
		if
		:: HAS(opened, r) && last[r] < S && promised[writer[r]] == r &&
#ifdef MUT_W2
		   (ver[writer[r]] == V(r, last[r]) || last[r] == 0) ->
#else
		   ver[writer[r]] == V(r, last[r]) ->
#endif
			d_step { last[r] = last[r] + 1; take(writer[r], V(r, last[r])) }
		:: else
		fi;
		END
	}
	:: atomic { /* M3: PUSH of (r,s) arrives */
		select(r : 0 .. NR);
		if
		:: HAS(opened, r) ->
			select(m : 0 .. N - 1); select(s : 0 .. last[r]);
			if
			:: HAS(voters[r], m) && KEEPS(m) && NEWER(m, V(r, s)) && FENCE(m, r) ->
#ifdef MUT_WITNESS
				if
				:: HAS(WIT, m) -> d_step { ack(m, V(r, s)) } /* says yes and keeps nothing */
				:: else -> d_step { take(m, V(r, s)) }
				fi
#else
				d_step { take(m, V(r, s)) }
#endif
			:: else
			fi
		:: else
		fi;
		END
	}
	:: atomic { /* M1: PREPARE(r) arrives */
		select(r : 1 .. NR); select(m : 0 .. N - 1);
		if
#ifdef MUT_M1
		:: !HAS(made, r) && !HAS(answered[r], m) -> /* also below an older promise */
#else
		:: !HAS(made, r) && promised[m] < r ->
#endif
			d_step {
#ifdef CHANGE
				if :: promised[m] == rec[m] -> clean[r] = clean[r] | BIT(m) :: else fi;
				said_rec[r * N + m] = rec[m];
#endif
				promised[m] = r;
				answered[r] = answered[r] | BIT(m);
				said_ver[r * N + m] = ver[m]
			}
		:: else
		fi;
		END
	}
	:: atomic { /* H1 to H4: the hub of r, who knows record h, signs; the answers not in sub were lost */
		select(r : 1 .. NR);
		if
#ifndef MUT_H1
		:: HAS(made, r) -> skip
#endif
		:: HOPELESS(r) -> skip
		:: else ->
#ifdef CHANGE
			select(h : 0 .. r - 1); /* otherwise it forbids nothing but what record 0 forbids */
#endif
			select(sub : 1 .. answered[r]);
			if
			:: HAS(made, h) && (sub & answered[r]) == sub ->
				d_step { weigh() }
				if
				:: newest < r && ENOUGH(sub, voters[newest]) && GOOD(v, newest) ->
#ifdef CHANGE
					if
					:: skip
					:: !same -> select(m : 0 .. N - 1); nv = nv ^ BIT(m)
#ifdef MUT_H3_TWO
					:: !same -> select(m : 0 .. N - 1); select(s : 0 .. N - 1); nv = (nv ^ BIT(m)) ^ BIT(s)
#endif
					fi;
#endif
					select(who : 0 .. N - 1);
					if
					:: HAS(nv & ~WIT, who) -> d_step { sign() }
					:: else
					fi
				:: else
				fi
			:: else
			fi
		fi;
		END
	}
	:: atomic { /* M2: INSTALL(r), or a FILL of r's base, which leaves D3 alone, arrives */
		select(r : 1 .. NR); select(m : 0 .. N - 1);
		if
#ifdef MUT_M2
		:: HAS(made, r) -> d_step { promised[m] = r; learn(m, r) } /* whatever was promised */
#else
		:: HAS(made, r) && promised[m] <= r -> d_step { learn(m, r) }
#endif
#ifdef MUT_FILL_VERSION
		:: HAS(made, r) && promised[m] <= r && KEEPS(m) -> d_step { learn(m, r); ver[m] = base[r] }
#endif
#ifdef MUT_FILL_ACK
		:: HAS(made, r) && promised[m] <= r && KEEPS(m) -> d_step { learn(m, r); ack(m, base[r]) }
#endif
		:: else
		fi;
		END
	}
#ifdef MUT_FILL_ANY
	:: atomic { /* a FILL with any older save, taken like a PUSH because the record is new enough */
		select(r : 1 .. NR); select(m : 0 .. N - 1); select(h : 0 .. NR); select(s : 0 .. S);
		if
		:: HAS(made, r) && promised[m] <= r && HAS(opened, h) && h < r && s <= last[h] && ver[m] < V(h, s) ->
			d_step { learn(m, r); take(m, V(h, s)) }
		:: else
		fi;
		END
	}
#endif
#ifdef MUT_M5
	:: atomic { /* a node comes back without its disk, or with an old one, and votes all the same */
		select(m : 0 .. N - 1);
		if :: !accident -> d_step { accident = 1; promised[m] = 0; rec[m] = 0; ver[m] = 0 } :: else fi;
		END
	}
#endif
#ifdef MUT_D1
	:: atomic { /* the promise was not durable before the answer */
		select(m : 0 .. N - 1);
		if :: !accident -> d_step { accident = 1; promised[m] = 0 } :: else fi;
		END
	}
#endif
#ifdef MUT_D3
	:: atomic { /* the refs were not durable before the ACK */
		select(m : 0 .. N - 1);
		if :: !accident -> d_step { accident = 1; ver[m] = 0 } :: else fi;
		END
	}
#endif
	od
}
