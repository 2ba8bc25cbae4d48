/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The right to run: rules W1, M1, M4 with their times; invariant I5.
 *
 * A is the writer.  B is the member that stands in every majority for the next writer and that
 * answered A: two majorities always share one, so one is enough.  A counts L from SENDING its
 * KEEP, B counts H from RECEIVING it, each on its own clock.  A's clock may miss one tick in
 * three, B's may gain one in three (far worse than the 5 % that are allowed for), hence
 * H >= L*(1+1/3)/(1-1/3) = 2L, and one for each rounding of a tick.
 *
 *   -DTM=12 ticks     -DENV_PAUSE  A's machine stands still, its clock with it: outside of what the
 *                     protocol promises, and shown to be so
 */
#define L 2
#ifdef MUT_H
#define H L
#else
#define H 5
#endif
#ifndef TM
#define TM 12
#endif

byte now;                     /* true time */
byte clock_a, slow = 3;       /* A's clock, ticks since it last missed one */
byte clock_b, fast = 3;       /* B's clock, ticks since it last gained one */
byte lease;                   /* W1: until when A may run, by A's clock */
byte held;                    /* M1: until when B promises nothing, by B's clock */
byte boots;
bit promised, other;          /* B promised the next record; its writer runs */
/* A KEEP may have been sent at any tick until now, so it may arrive at any time after that tick of
 * A's clock.  Of the answers on their way the one to the newest KEEP is worth most: 1 + its tick. */
byte answered, k;
hidden byte I5;

#define B_TICKS clock_b++; if :: fast < 3 -> fast++ :: else fi

init {
	do
	:: d_step { now < TM -> now++; B_TICKS; clock_a++; if :: slow < 3 -> slow++ :: else fi }
	:: d_step { now < TM && slow == 3 -> now++; B_TICKS; slow = 1 }
	:: d_step { now < TM && fast == 3 -> clock_b++; fast = 0 }
#ifdef ENV_PAUSE
	:: d_step { now < TM -> now++; B_TICKS }
#endif
	:: atomic { /* M4: it arrives, late or again */
		select(k : 0 .. clock_a);
		if
#ifdef MUT_M4
		:: true -> held = clock_b + H; if :: answered <= k -> answered = k + 1 :: else fi /* OK, whatever was promised */
#else
		:: !promised -> held = clock_b + H; if :: answered <= k -> answered = k + 1 :: else fi
#endif
		:: else
		fi;
		k = 0
	}
	:: d_step { /* W1: the answer arrives, late or again */
		answered > 0 ->
#ifdef MUT_W1
		lease = clock_a + L /* from the answer */
#else
		lease = answered - 1 + L
#endif
	}
	:: d_step { /* B's machine starts anew: it forgot whom it heard */
		boots < 1 && !promised -> boots++;
#ifdef MUT_M1_BOOT
		held = 0
#else
		held = clock_b + H
#endif
	}
#ifdef MUT_M1
	:: d_step { !promised -> promised = 1 }
#else
	:: d_step { !promised && clock_b >= held -> promised = 1 } /* M1: PREPARE */
#endif
	:: d_step { promised && !other -> other = 1 }
	:: d_step { other && clock_a < lease -> I5 = 0; assert(I5) }
	od
}
