/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of each project: one that runs, those that wait, one that replicates beside them.
 * How one becomes, begins and ends is in the files that queue_int.h names.
 */
#include "serve/control/control_int.h"
#include "serve/control/queue_int.h"

void
wr_op_free(struct wr_op *o)
{
	wr_timer_off(&o->c->loop, &o->again);
	wr_timer_off(&o->c->loop, &o->patience);
	wr_child_off(&o->child);
	wr_lock_drop(&o->lock);
	wr_op_row_fini(&o->row);
	json_decref(o->args);
	free(o);
}

int
wr_op_store(struct wr_op *o, struct wr_err *err)
{
	return wr_store_op_put(o->c->store, &o->row, err);
}

void
wr_op_args_changed(struct wr_op *o)
{
	struct wr_buf b = WR_BUF_INIT;

	wr_json_write(o->args, &b);
	free(o->row.args);
	o->row.args = wr_buf_detach(&b, NULL);
}

bool
wr_op_is_running(const struct wr_op *o)
{
	return o->p->run == o || o->p->copying == o;
}

void
wr_op_set_running(struct wr_op *o)
{
	if (o->row.kind == WR_OP_REPLICATE) {
		o->p->copying = o;
		o->c->copying++;
		return;
	}
	o->p->run = o;
	o->c->running++;
	if (o->scheduled && o->row.kind == WR_OP_SAVE)
		o->c->by_schedule++;
}

void
wr_op_append(struct wr_op *o)
{
	struct wr_proj *p = o->p;

	if (o->row.kind == WR_OP_REPLICATE) {
		p->to_copy = o;
		return;
	}
	*(p->last ? &p->last->next : &p->first) = o;
	p->last = o;
	p->waiting++;
	o->c->queued++;
}

void
wr_op_unlink(struct wr_op *o)
{
	struct wr_proj *p = o->p;
	struct wr_op **at = &p->first, *before = NULL;

	if (p->run == o) {
		p->run = NULL;
		o->c->running--;
		if (o->scheduled && o->row.kind == WR_OP_SAVE)
			o->c->by_schedule--;
		return;
	}
	if (p->copying == o) {
		p->copying = NULL;
		o->c->copying--;
		return;
	}
	if (p->to_copy == o) {
		p->to_copy = NULL;
		return;
	}
	p->waiting--;
	o->c->queued--;
	while (*at && *at != o) {
		before = *at;
		at = &before->next;
	}
	if (*at) {
		*at = o->next;
		if (p->last == o)
			p->last = before;
		return;
	}
	for (at = &o->c->beside; *at != o;)
		at = &(*at)->next;
	*at = o->next;
}

int
wr_op_find(struct wr_control *c, const char *ref, struct wr_op_row *out, struct wr_err *err)
{
	const struct wr_op *o = c->unrecorded;

	if (wr_store_op_find(c->store, ref, out, err) < 0)
		return -1;
	while (o && strcmp(o->row.id.s, out->id.s) != 0)
		o = o->next;
	if (!o)
		return 0;
	free(out->receipt);
	free(out->error);
	out->receipt = o->row.receipt ? wr_strdup(o->row.receipt) : NULL;
	out->error = o->row.error ? wr_strdup(o->row.error) : NULL;
	out->state = o->row.state;
	out->finished = o->row.finished;
	memcpy(out->step, o->row.step, sizeof(out->step));
	return 0;
}

struct wr_op *
wr_op_live(struct wr_control *c, const struct wr_op_row *row)
{
	struct wr_proj *p = wr_proj_find(c, &row->project);

	struct wr_op *const single[] = {p ? p->run : NULL, p ? p->copying : NULL,
					p ? p->to_copy : NULL};

	for (size_t i = 0; i < WR_ARRAY_LEN(single); i++)
		if (single[i] && !strcmp(single[i]->row.id.s, row->id.s))
			return single[i];
	for (struct wr_op *o = p ? p->first : NULL; o; o = o->next)
		if (!strcmp(o->row.id.s, row->id.s))
			return o;
	/* A copy waits beside its source's save until that has ended. */
	for (struct wr_op *o = c->beside; o; o = o->next)
		if (!strcmp(o->row.id.s, row->id.s))
			return o;
	return NULL;
}

bool
wr_op_watch(struct wr_control *c, const struct wr_uuid *op, struct wr_op_watch *w)
{
	struct wr_op_row row = {0};
	struct wr_op *o = NULL;

	if (wr_op_find(c, op->s, &row, NULL) == 0)
		o = wr_op_live(c, &row);
	wr_op_row_fini(&row);
	if (!o)
		return false;
	w->next = o->watches;
	o->watches = w;
	return true;
}

static void
drop_watch(struct wr_op *o, const struct wr_op_watch *w)
{
	for (struct wr_op_watch **at = o ? &o->watches : NULL; at && *at; at = &(*at)->next)
		if (*at == w) {
			*at = w->next;
			return;
		}
}

void
wr_op_unwatch(struct wr_control *c, struct wr_op_watch *w)
{
	for (size_t i = 0; i < c->proj_count; i++) {
		struct wr_proj *p = c->proj[i];

		drop_watch(p->run, w);
		drop_watch(p->copying, w);
		drop_watch(p->to_copy, w);
		for (struct wr_op *o = p->first; o; o = o->next)
			drop_watch(o, w);
	}
}

void
wr_ops_detach(struct wr_control *c)
{
	for (size_t i = 0; i < c->proj_count; i++) {
		struct wr_proj *p = c->proj[i];

		if (p->run)
			wr_op_free(p->run);
		if (p->copying)
			wr_op_free(p->copying);
		if (p->to_copy)
			wr_op_free(p->to_copy);
		p->copying = p->to_copy = NULL;
		while (p->first) {
			struct wr_op *o = p->first;

			p->first = o->next;
			wr_op_free(o);
		}
		p->run = p->last = NULL;
	}
	wr_timer_off(&c->loop, &c->record);
	while (c->unrecorded) {
		struct wr_op *o = c->unrecorded;

		c->unrecorded = o->next;
		wr_op_free(o);
	}
	while (c->beside) {
		struct wr_op *o = c->beside;

		c->beside = o->next;
		wr_op_free(o);
	}
}
