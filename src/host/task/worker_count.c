/* SPDX-License-Identifier: Apache-2.0 */
/* How many files a restore has to see to, so that its progress has an end: counted beside it, once
 * it has lasted so long that someone may look. */
#include "host/task/worker_int.h"

#include <time.h>

#include "engine/snap/list.h"

#define PATIENCE_S 1

static int
count_one(void *ctx, const struct wr_list_item *it, struct wr_err *err)
{
	struct wr_counting *n = ctx;

	(void)err;
	if (it->kind != WR_KIND_DIR)
		n->files++;
	return n->stop;
}

static void *
count_main(void *arg)
{
	struct wr_counting *n = arg;
	struct wr_at root = {.is_dir = true, .tree = n->tree};
	struct timespec until;
	struct wr_reader *rd;
	struct wr_err err = WR_ERR_INIT; /* the restore meets the same and tells it */
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	pthread_mutex_lock(&n->mutex);
	while (!n->stop && rc == 0)
		rc = pthread_cond_timedwait(&n->wake, &n->mutex, &until);
	pthread_mutex_unlock(&n->mutex);
	if (n->stop)
		return NULL;
	rd = wr_reader_new(n->repo);
	if (wr_list(rd, &root, WR_LIST_RECURSIVE, count_one, n, &err) == 0)
		n->total = n->files;
	wr_reader_free(rd);
	return NULL;
}

void
wr_counting_begin(struct wr_counting *n, struct wr_repo *r, const struct wr_id *tree)
{
	n->repo = r;
	n->tree = *tree;
	pthread_mutex_init(&n->mutex, NULL);
	pthread_cond_init(&n->wake, NULL);
	n->begun = pthread_create(&n->thread, NULL, count_main, n) == 0;
}

void
wr_counting_end(struct wr_counting *n)
{
	if (!n->begun)
		return;
	pthread_mutex_lock(&n->mutex);
	n->stop = true;
	pthread_cond_signal(&n->wake);
	pthread_mutex_unlock(&n->mutex);
	pthread_join(n->thread, NULL);
	pthread_cond_destroy(&n->wake);
	pthread_mutex_destroy(&n->mutex);
	n->begun = false;
}
