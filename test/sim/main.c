/* SPDX-License-Identifier: Apache-2.0 */
/* Runs seeds, or looks for a mutant until it is caught.  Prints TAP. */
#include "sim.h"

#include "base/str.h"

static const struct {
	const char *name, *text;
} mutants[] = {{"none", "no rule is off"},
#define X(id, name, text) {name, text},
	       MUTANTS(X)
#undef X
};

static const char *const profiles[] = {"", " --members", " --leases", " --liars"};

struct args {
	uint64_t seed, seeds, steps;
	const char *mutant;
	bool verbose, all_mutants;
	enum profile profile;
};

/* I12: with everybody back, a raise succeeds and a save becomes SAFE. Not where the node that was
 * set back is needed for a majority, nor for a project that is deleted. */
static bool
may_progress(struct world *w, int p)
{
	struct ghost *g = &w->ghost[p];
	const struct wr_record *e = &g->record[ghost_newest(g)].e;
	size_t good = 0, data = 0;

	/* Of any record that may turn out to be the one: few seeds have that accident at all. */
	for (int r = 0; r < g->records; r++) {
		const struct wr_record *x = &g->record[r].e;

		good = data = 0;
		for (int i = 0; i < w->nodes; i++) {
			const struct wr_member *m = wr_record_has(x, &w->node[i].id);

			if (!m || w->node[i].amnesia || m->role == WR_ROLE_LEARNER)
				continue;
			good++;
			data += m->role == WR_ROLE_DATA;
		}
		if (data < wr_record_majority(x))
			return false;
	}
	return e->state == WR_RECORD_LIVE && good > 0;
}

static void
run_calm(struct world *w, uint64_t seconds)
{
	uint64_t end = w->now + seconds * WR_SECOND_NS;

	while (w->now < end && !*w->violation)
		world_step(w);
}

static bool
progressed(struct world *w, int p, const struct wr_epoch *before)
{
	struct ghost *g = &w->ghost[p];
	const struct ghost_record *r = &g->record[ghost_newest(g)];

	return wr_epoch_cmp(&r->e.n, before) > 0 && r->safe > 1;
}

static void
check_progress(struct world *w)
{
	world_heal(w);
	for (int p = 0; p < w->projects && !*w->violation && !w->full; p++) {
		struct ghost *g = &w->ghost[p];
		struct wr_epoch before = g->record[ghost_newest(g)].e.n;
		struct raise_wish wish = {.wish = WR_WISH_WRITER};
		bool done = false;

		if (!may_progress(w, p))
			continue;
		run_calm(w, 60);
		before = g->record[ghost_newest(g)].e.n;
		for (int i = 0; i < w->nodes; i++) /* nobody runs it, so nobody is held for long */
			w->node[i].copy[p].want = w->node[i].copy[p].running = false;
		for (int tries = 0; tries < 8 && !done && !*w->violation && !w->full; tries++) {
			/* A base that is not SAFE may have been on the node that was set back. */
			for (int i = 0; i < w->nodes; i++)
				wish.accept_loss =
				    wish.accept_loss || (tries > 2 && w->node[i].amnesia);
			hub_raise(w, 0, p, &wish);
			run_calm(w, 90);
			done = progressed(w, p, &before);
		}
		if (!done && !w->full)
			violated(w, "I12: all is well, and p%d makes no progress", p);
	}
}

/* false: a violation. */
static bool
run(const struct args *a, uint64_t seed, enum mutant mutant, struct world *w)
{
	world_init(w, seed, mutant, a->profile, a->verbose);
	for (uint64_t i = 0; i < a->steps && !*w->violation && !w->full; i++)
		world_step(w);
	/* A mutant is to be caught by what it breaks, not by what it delays. */
	if (!*w->violation && !w->full && mutant == MUT_NONE)
		check_progress(w);
	world_fini(w);
	return !*w->violation;
}

static void
add(struct world *sum, const struct world *w)
{
	sum->count.saves += w->count.saves;
	sum->count.safe += w->count.safe;
	sum->count.raises += w->count.raises;
	sum->count.failed += w->count.failed;
	sum->count.starts += w->count.starts;
	sum->count.drops += w->count.drops;
	sum->count.crashes += w->count.crashes;
}

static bool
run_seeds(const struct args *a, int number)
{
	static struct world w, sum;

	for (uint64_t s = a->seed; s < a->seed + a->seeds; s++) {
		if (!run(a, s, MUT_NONE, &w)) {
			printf("# seed %" PRIu64 ": %s\n# sim --seed %" PRIu64 " --steps %" PRIu64
			       "%s -v\nnot ok %d - seeds\n",
			       s, w.violation, s, a->steps, profiles[a->profile], number);
			return false;
		}
		add(&sum, &w);
	}
	printf("# %" PRIu64 " saves, %" PRIu64 " safe; %" PRIu64 " raises, %" PRIu64
	       " failed; %" PRIu64 " starts, %" PRIu64 " crashes, %" PRIu64 " copies deleted\n",
	       sum.count.saves, sum.count.safe, sum.count.raises, sum.count.failed,
	       sum.count.starts, sum.count.crashes, sum.count.drops);
	printf("ok %d - %" PRIu64 " seeds of %" PRIu64 " steps\n", number, a->seeds, a->steps);
	return true;
}

static bool
run_mutant(const struct args *a, enum mutant m, int number)
{
	static struct world w;
	struct args mine = *a;

	if (m == MUT_EXCLUSIVE) /* honest hubs need it not */
		mine.profile = LIARS;
	for (uint64_t s = a->seed; s < a->seed + a->seeds; s++)
		if (!run(&mine, s, m, &w)) {
			printf("# seed %" PRIu64 ": %s\nok %d - mutant %s is caught\n", s,
			       w.violation, number, mutants[m].name);
			return true;
		}
	printf("# %s\nnot ok %d - mutant %s: %" PRIu64 " seeds did not catch it\n", mutants[m].text,
	       number, mutants[m].name, a->seeds);
	return false;
}

static int
usage(void)
{
	fprintf(stderr, "sim [--seed N] [--seeds COUNT] [--steps M] [--members | --leases | "
			"--liars] [--mutant NAME | "
			"--mutants] [-v]\n"
			"mutants:\n");
	for (size_t i = 1; i < MUT_COUNT; i++)
		fprintf(stderr, "  %-9s %s\n", mutants[i].name, mutants[i].text);
	return 2;
}

static bool
parse(int argc, char **argv, struct args *a)
{
	struct wr_err err = WR_ERR_INIT;

	for (int i = 1; i < argc; i++) {
		const char *s = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
		uint64_t *number = strcmp(s, "--seed") == 0    ? &a->seed
				   : strcmp(s, "--seeds") == 0 ? &a->seeds
				   : strcmp(s, "--steps") == 0 ? &a->steps
							       : NULL;

		if (strcmp(s, "-v") == 0)
			a->verbose = true;
		else if (strcmp(s, "--members") == 0)
			a->profile = MEMBERS;
		else if (strcmp(s, "--leases") == 0)
			a->profile = LEASES;
		else if (strcmp(s, "--liars") == 0)
			a->profile = LIARS;
		else if (strcmp(s, "--mutants") == 0)
			a->all_mutants = true;
		else if (strcmp(s, "--mutant") == 0 && value)
			a->mutant = argv[++i];
		else if (number && value && wr_parse_u64(argv[++i], number, &err) == 0)
			continue;
		else
			return false;
	}
	return true;
}

int
main(int argc, char **argv)
{
	struct args a = {.seed = 1, .seeds = 1, .steps = 600};
	bool good = true;
	enum mutant m;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!parse(argc, argv, &a))
		return usage();
	if (a.all_mutants) {
		printf("1..%d\n", MUT_COUNT - 1);
		for (m = 1; m < MUT_COUNT; m++)
			good = run_mutant(&a, m, (int)m) && good;
		return good ? 0 : 1;
	}
	printf("1..1\n");
	if (!a.mutant)
		return run_seeds(&a, 1) ? 0 : 1;
	for (m = 1; m < MUT_COUNT; m++)
		if (strcmp(mutants[m].name, a.mutant) == 0)
			return run_mutant(&a, m, 1) ? 0 : 1;
	return usage();
}
