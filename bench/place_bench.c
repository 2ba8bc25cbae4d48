/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Place many projects on a fleet, change the fleet, place them again; prints JSON for bench/place.
 *   place_bench [PROJECTS]
 */
#include <math.h>
#include <sys/resource.h>
#include <time.h>

#include "fleet/place/place.h"

#define DCS 5
#define NODES 1000
#define SPARE 100 /* nodes that come later */
#define COPIES WR_PLACE_REPLICAS_DEFAULT

struct placed {
	uint32_t node[COPIES];
};

static struct wr_place_node nodes[NODES + SPARE];
static size_t projects = 1000000;

static struct wr_uuid
id_of(uint32_t kind, uint32_t i)
{
	struct wr_uuid id;

	snprintf(id.s, sizeof(id.s), "%08" PRIx32 "-0000-4000-8000-%012" PRIx32, kind, i);
	return id;
}

/* CPU time: the others on this machine are not what is measured. */
static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
fleet(uint32_t weights)
{
	static const char *const dcs[DCS] = {"dc1", "dc2", "dc3", "dc4", "dc5"};

	for (size_t i = 0; i < WR_ARRAY_LEN(nodes); i++)
		nodes[i] = (struct wr_place_node){.id = id_of(0xa0de, (uint32_t)i),
						  .dc = dcs[i % DCS],
						  .weight = 1 + (uint32_t)(i / DCS) % weights,
						  .draining = i >= NODES};
}

/* Seconds of CPU for all projects. */
static double
place_all(struct placed *all)
{
	const struct wr_place_policy policy = WR_PLACE_POLICY_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_placer *p = wr_placer_new(nodes, WR_ARRAY_LEN(nodes), &err);
	double begin, end;

	wr_assert(p);
	begin = now();
	for (size_t i = 0; i < projects; i++) {
		struct wr_uuid id = id_of(0x9107, (uint32_t)i);
		struct wr_placement out;

		if (wr_placer_run(p, &id, &policy, &out, NULL, &err) < 0 || out.count != COPIES) {
			fprintf(stderr, "place_bench: project %zu: %s\n", i, err.msg);
			exit(1);
		}
		for (size_t k = 0; k < COPIES; k++)
			all[i].node[k] = (uint32_t)out.nodes[k];
	}
	end = now();
	wr_placer_free(p);
	return end - begin;
}

static void
count(const struct placed *all, size_t *copies)
{
	for (size_t i = 0; i < WR_ARRAY_LEN(nodes); i++)
		copies[i] = 0;
	for (size_t i = 0; i < projects; i++)
		for (size_t k = 0; k < COPIES; k++)
			copies[all[i].node[k]]++;
}

static void
balance(const char *name, uint32_t weights, struct placed *all, bool last)
{
	size_t copies[WR_ARRAY_LEN(nodes)];
	double seconds, sum = 0, least = INFINITY, most = 0, squares = 0, chance = 0;

	fleet(weights);
	seconds = place_all(all);
	count(all, copies);
	for (size_t i = 0; i < NODES; i++)
		sum += nodes[i].weight;
	for (size_t i = 0; i < NODES; i++) {
		double share = nodes[i].weight / sum; /* of each of the copies */
		double ideal = (double)projects * COPIES * share;
		double r = (double)copies[i] / ideal;

		least = fmin(least, r);
		most = fmax(most, r);
		squares += (r - 1) * (r - 1);
		/* What fair dice would give: a project has one copy here or none. */
		chance += (1 - COPIES * share) / ideal;
	}
	printf("  {\"name\": \"%s\", \"min\": %.5f, \"max\": %.5f, \"stddev\": %.5f, "
	       "\"chance\": %.5f, \"us\": %.3f}%s\n",
	       name, least, most, sqrt(squares / NODES), sqrt(chance / NODES),
	       seconds * 1e6 / (double)projects, last ? "" : ",");
}

/* Every step-th node from first to last has changed: what moved, and what those nodes gained or
 * lost, which is the least that could. */
static void
moved(const char *name, size_t first, size_t last, size_t step, const struct placed *was,
      struct placed *is, bool end)
{
	size_t before[WR_ARRAY_LEN(nodes)], after[WR_ARRAY_LEN(nodes)];
	size_t gone = 0, need = 0, writers = 0;
	double total = (double)projects * COPIES;

	place_all(is);
	count(was, before);
	count(is, after);
	for (size_t i = 0; i < projects; i++) {
		writers += was[i].node[0] != is[i].node[0];
		for (size_t k = 0; k < COPIES; k++) {
			bool found = false;

			for (size_t j = 0; j < COPIES; j++)
				found |= was[i].node[k] == is[i].node[j];
			gone += !found;
		}
	}
	for (size_t i = first; i <= last; i += step)
		need += after[i] > before[i] ? after[i] - before[i] : before[i] - after[i];
	printf("  {\"name\": \"%s\", \"moved\": %.6f, \"least\": %.6f, \"writers\": %.6f}%s\n",
	       name, (double)gone / total, (double)need / total, (double)writers / (double)projects,
	       end ? "" : ",");
}

int
main(int argc, char **argv)
{
	struct placed *was, *is;
	struct rusage usage;

	if (argc > 1)
		projects = strtoul(argv[1], NULL, 10);
	if (argc > 2 || projects == 0 || projects > 100000000) {
		fprintf(stderr, "usage: place_bench [PROJECTS]\n");
		return 2;
	}
	was = wr_calloc(projects, sizeof(*was));
	is = wr_calloc(projects, sizeof(*is));

	printf("{\"projects\": %zu, \"nodes\": %d, \"dcs\": %d, \"copies\": %d,\n\"balance\": [\n",
	       projects, NODES, DCS, COPIES);
	balance("weights 1 to 4", 4, is, false);
	balance("equal weights", 1, was, true);

	printf("],\n\"moved\": [\n");
	nodes[NODES].draining = false;
	moved("a node is added", NODES, NODES, 1, was, is, false);
	for (size_t i = NODES; i < NODES + SPARE; i++)
		nodes[i].draining = false;
	moved("100 nodes are added", NODES, NODES + SPARE - 1, 1, was, is, false);
	fleet(1);
	nodes[17].draining = true;
	moved("a node is drained", 17, 17, 1, was, is, false);
	fleet(1);
	nodes[17].weight = 2;
	moved("a node gets twice its weight", 17, 17, 1, was, is, false);
	fleet(1);
	for (size_t i = 0; i < NODES; i += DCS)
		nodes[i].removed = true;
	moved("a data centre is lost", 0, NODES - DCS, DCS, was, is, true);
	getrusage(RUSAGE_SELF, &usage);
	printf("],\n\"rss\": %ld, \"results\": %zu}\n", usage.ru_maxrss,
	       2 * projects * sizeof(*was));
	free(was);
	free(is);
	return 0;
}
