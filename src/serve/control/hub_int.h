/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a hub share: hub_create.c, hub_raise.c, and hub.c above both. */
#ifndef WR_CONTROL_HUB_INT_H
#define WR_CONTROL_HUB_INT_H

#include "serve/control/replicas.h"

#define WR_HUB_ASK_MS 5000

struct wr_hub_raise;

struct wr_hub {
	struct wr_hub_raise *raises;
	size_t raise_count;
	bool told_two; /* that two nodes make one fleet that stops with either */
};

/* ---- hub_create.c ---- */

uint64_t wr_hub_random(void);
int wr_hub_sign_settings(struct wr_control *c, const struct wr_settings *set, struct wr_buf *out,
			 struct wr_err *err);
/* Settings that another node sent, of that project, and of none that is root's. */
int wr_hub_read_settings(const struct wr_buf *json, const struct wr_uuid *project,
			 struct wr_settings *out, struct wr_err *err);
/* Are there copies of a project that others than the asker hold? For wr_catalog_copies. */
struct wr_hub_elsewhere {
	const struct wr_node_id *asker;
	size_t copies;
};
int wr_hub_count_elsewhere(void *ctx, const struct wr_cat_copy *k, struct wr_err *err);
/* CREATE */
int wr_hub_create(struct wr_asked *k, struct wr_err *err);

/* ---- hub_raise.c ---- */

/* RAISE */
int wr_hub_raise(struct wr_asked *k, struct wr_err *err);
/* May who asks have a record raised, or settings changed? */
int wr_hub_may_raise(const struct wr_asked *k, const struct wr_record *e, struct wr_err *err);
/* record NULL: settings alone. */
void wr_hub_answer_raised(struct wr_asked *k, const struct wr_buf *record,
			  const struct wr_buf *settings);
/* Whoever waits for one hears why. */
void wr_hub_raises_end(struct wr_control *c, const struct wr_err *why);

#endif
