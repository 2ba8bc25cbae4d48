/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by verify.c (what is damaged) and hurt.c (what that takes away from whom). */
#ifndef WR_VERIFY_INT_H
#define WR_VERIFY_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/repo/repo_int.h"
#include "engine/repo/verify.h"

/* One bit per packed object, and a map for the few that are not packed. */
struct wr_marks {
	atomic_uint_fast64_t *word;
	uint64_t bits;
	struct wr_idmap other; /* guarded by the mutex of whoever marks from several threads */
};

struct wr_verify_run {
	struct wr_repo *repo;
	struct wr_verify_opts *o;
	struct wr_verify_result *result; /* guarded by mutex */
	struct wr_pool *pool;
	struct wr_reader **reader; /* one per thread */
	struct wr_refs refs;

	struct wr_pack_ent **broken; /* packs that cannot be opened */
	size_t broken_count, broken_cap;
	struct wr_idmap bad;  /* ids with a damaged copy -> enum wr_damage_kind */
	struct wr_idmap lost; /* reached, and no good copy anywhere; guarded by mutex */

	pthread_mutex_t mutex;
	atomic_bool cancelled;
	uint64_t done_before; /* bytes of the steps that are over */
};

void wr_marks_init(struct wr_marks *m, const struct wr_repo *r);
void wr_marks_fini(struct wr_marks *m);

/* Fill result->hurt from run->lost. */
int wr_verify_hurt(struct wr_verify_run *v, struct wr_err *err);

#endif
