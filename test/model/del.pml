/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deleting a copy: hide, prove, delete, and purge later: rules X1, X2; invariant I9.
 *
 * Records change the voters by one, and who becomes a voter was filled (H3); a node learns of them
 * at any time or never.  A node whose record does not name it may delete its copy.  Proofs arrive
 * late, and their givers may have learned, hidden and deleted since.  One disk may be lost, but not
 * between a proof and the move into the trash, or the purge, that it permits: that is a matter of
 * seconds, while between trash and purge there are days.
 *
 *   -DN=4 nodes   -DM0=7 voters of record 0 (bits)   -DNR=2 further records
 *   -DDATA=15 who has all refs of a copy that may go (bits)   -DLOSS one disk may be lost
 */
#ifndef N
#define N 4
#endif
#ifndef M0
#define M0 7
#endif
#ifndef DATA
#define DATA 15
#endif
#ifndef NR
#define NR 2
#endif
#define BIT(m) (1 << (m))
#define HAS(set, m) (((set) >> (m)) & 1)
#define COUNT(set) (((set)&1) + (((set) >> 1) & 1) + (((set) >> 2) & 1) + (((set) >> 3) & 1))
#define MAJ(some, all) (2 * COUNT((some) & (all)) > COUNT(all))

byte newest, voters[NR + 1];
byte rec[N];                  /* the record that a node knows */
byte data = DATA;             /* who has a copy, in its place or in the trash */
byte hid, trash;          /* D5; in the trash (and hidden still) */
byte proof[N];                /* who attested to i since it hid */
bit lost;
byte i, j;
hidden byte k, I9;
#define END i = 0; j = 0
#define VISIBLE (data & ~hid)
#define KNOWS(m) ((rec[m] == newest) << (m))
#define KNOW (KNOWS(0) | KNOWS(1) | KNOWS(2) | KNOWS(3))

/* I9: a majority of the voters of this record or of a newer one has the data.  One of them may have
 * hidden since it attested, which it undoes unless others prove to it what this majority proved. */
inline check(n) {
	I9 = 0; k = n;
	do
	:: k <= newest -> I9 = (I9 || MAJ(data & ~trash, voters[k])); k++
	:: else -> break
	od;
	assert(I9)
}

#ifdef MUT_X1_VOTER
#define SURPLUS(m) true
#else
#define SURPLUS(m) (!HAS(voters[rec[m]], m))
#endif
#ifdef MUT_X1_ONE
#define PROVEN(m) (COUNT(proof[m]) >= 1)
#elif defined(MUT_X1_ANYONE)
#define PROVEN(m) (2 * COUNT(proof[m]) > COUNT(voters[rec[m]])) /* enough, whoever they are */
#else
#define PROVEN(m) MAJ(proof[m], voters[rec[m]])
#endif
#ifdef MUT_X1_HIDE
#define ASKS(m) true
#else
#define ASKS(m) HAS(hid, m)
#endif
#ifdef MUT_X1_HIDDEN
#define ATTESTS(m) HAS(data, m)
#else
#define ATTESTS(m) HAS(VISIBLE, m)
#endif

init {
	d_step { voters[0] = M0 }
	do
	:: atomic { /* H3: the voters change by one; a new one was filled and is not hidden */
		select(i : 0 .. N - 1);
		if
		:: newest < NR && MAJ(KNOW, voters[newest]) && (HAS(voters[newest], i) || HAS(VISIBLE, i)) && COUNT(voters[newest] ^ BIT(i)) >= 2 ->
			voters[newest + 1] = voters[newest] ^ BIT(i);
			newest++
		:: else
		fi;
		END
	}
	:: atomic { /* a node learns of a record: what was proven under the older one is void */
		select(i : 0 .. N - 1);
		if
		:: rec[i] < newest -> rec[i] = rec[i] + 1; proof[i] = 0;
			if :: HAS(hid, i) && !HAS(trash, i) -> hid = hid & ~BIT(i) :: else fi
		:: else
		fi;
		END
	}
	:: atomic { /* X1: hide */
		select(i : 0 .. N - 1);
		if :: HAS(VISIBLE, i) && SURPLUS(i) -> hid = hid | BIT(i); proof[i] = 0 :: else fi;
		END
	}
	:: atomic { /* ATTEST: j says yes to i */
		select(i : 0 .. N - 1); select(j : 0 .. N - 1);
		if
		:: i != j && HAS(data, i) && SURPLUS(i) && ASKS(i) && ATTESTS(j) &&
#ifdef MUT_X1_NEWER
		   true ->
#else
		   rec[j] <= rec[i] ->
#endif
			proof[i] = proof[i] | BIT(j)
		:: else
		fi;
		END
	}
	:: atomic { /* gives up: un-hide, also back from the trash */
		select(i : 0 .. N - 1);
		if
		:: HAS(data & hid, i) ->
			hid = hid & ~BIT(i); trash = trash & ~BIT(i); proof[i] = 0
		:: else
		fi;
		END
	}
	:: atomic { /* X1: enough proofs: into the trash */
		select(i : 0 .. N - 1);
		if
		:: HAS(data & ~trash, i) && SURPLUS(i) && ASKS(i) && PROVEN(i) ->
			hid = hid | BIT(i); trash = trash | BIT(i);
#ifndef MUT_X2
			proof[i] = 0;
#endif
			check(rec[i])
		:: else
		fi;
		END
	}
	:: atomic { /* X2: purge, on proofs of its own */
		select(i : 0 .. N - 1);
		if
		:: HAS(data & trash, i) && SURPLUS(i) && PROVEN(i) ->
			data = data & ~BIT(i); hid = hid & ~BIT(i); trash = trash & ~BIT(i); proof[i] = 0;
			check(rec[i])
		:: else
		fi;
		END
	}
#ifdef LOSS
	:: atomic { /* a disk is lost, while nobody asks for proofs */
		select(i : 0 .. N - 1);
		if
		:: !lost && HAS(data, i) ->
			lost = 1; data = data & ~BIT(i); hid = hid & ~BIT(i); trash = trash & ~BIT(i); proof[i] = 0;
			j = 0;
			do
#ifdef MUT_X2
			:: j < N && HAS(trash, j) -> j++ /* the proofs of the day of trashing stay good */
			:: j < N && !HAS(trash, j) ->
#else
			:: j < N ->
#endif
				proof[j] = 0; j++
			:: else -> break
			od
		:: else
		fi;
		END
	}
#endif
	od
}
