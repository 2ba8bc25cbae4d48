/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/ipc/codec.h"

#include <string.h>
#include <unistd.h>

static const struct wr_codec_kind *
find(const struct wr_codec *c, unsigned type)
{
	for (size_t i = 0; i < c->count; i++)
		if (c->kind[i].type == type)
			return &c->kind[i];
	return NULL;
}

/* ---- writing ---- */

static void
put_number(struct wr_buf *out, const struct wr_part *p, const void *m)
{
	const char *at = (const char *)m + p->at;
	uint16_t n16;
	uint32_t n32;

	switch (p->bits) {
	case 8:
		wr_buf_add8(out, *(const uint8_t *)at);
		return;
	case 16:
		memcpy(&n16, at, sizeof(n16));
		wr_buf_add8(out, (uint8_t)(n16 >> 8));
		wr_buf_add8(out, (uint8_t)n16);
		return;
	default:
		memcpy(&n32, at, sizeof(n32));
		wr_buf_add32be(out, n32);
	}
}

void
wr_codec_put(const struct wr_codec *c, const void *m, struct wr_buf *out)
{
	const struct wr_codec_kind *k;
	unsigned type;

	memcpy(&type, (const char *)m + c->type_at, sizeof(type));
	k = find(c, type);
	wr_assert(k); /* the caller filled in a type */
	wr_buf_add8(out, k->type);
	for (size_t i = 0; i < WR_CODEC_PARTS && k->part[i]; i++) {
		if (k->part[i]->bits)
			put_number(out, k->part[i], m);
		else
			k->part[i]->put(out, m);
	}
}

/* ---- reading ---- */

static void
take_number(struct wr_rd *r, const struct wr_part *p, void *m)
{
	char *at = (char *)m + p->at;
	uint16_t n16;
	uint32_t n32;

	switch (p->bits) {
	case 8:
		*(uint8_t *)at = wr_rd8(r);
		return;
	case 16:
		n16 = wr_rd16be(r);
		memcpy(at, &n16, sizeof(n16));
		return;
	default:
		n32 = wr_rd32be(r);
		memcpy(at, &n32, sizeof(n32));
	}
}

static int
take_kind(const struct wr_codec *c, struct wr_rd *r, bool from_below,
	  const struct wr_codec_kind **out, struct wr_err *err)
{
	uint8_t type = wr_rd8(r);
	const struct wr_codec_kind *k = find(c, type);

	if (r->bad)
		return wr_codec_bad(err, "it is empty");
	if (!k)
		return wr_err_set(err, WR_E_INVALID, "message: no type %u is known", type);
	if (from_below != (type >= c->first_below))
		return wr_err_set(err, WR_E_INVALID, "message: type %u does not come from %s", type,
				  from_below ? c->below : "control");
	*out = k;
	return 0;
}

int
wr_codec_take(const struct wr_codec *c, const void *p, size_t len, const int *fds, size_t fd_count,
	      bool from_below, void *m, struct wr_err *err)
{
	struct wr_rd r = wr_rd(p, len);
	const struct wr_codec_kind *k = NULL;
	int fd = fd_count ? fds[0] : -1;
	unsigned type;

	memcpy((char *)m + c->fd_at, &fd, sizeof(fd));
	for (size_t i = 1; i < fd_count; i++)
		close(fds[i]);
	if (fd_count > 1)
		return wr_codec_bad(err, "it carries several descriptors");
	if (take_kind(c, &r, from_below, &k, err) < 0)
		return -1;
	type = k->type;
	memcpy((char *)m + c->type_at, &type, sizeof(type));
	if (fd < 0 && k->fd == WR_CODEC_FD)
		return wr_codec_bad(err, "its descriptor is missing");
	if (fd >= 0 && k->fd == WR_CODEC_NO_FD)
		return wr_codec_bad(err, "it carries a descriptor and should not");
	for (size_t i = 0; i < WR_CODEC_PARTS && k->part[i]; i++) {
		if (k->part[i]->bits)
			take_number(&r, k->part[i], m);
		if (k->part[i]->take && k->part[i]->take(&r, m, err) < 0)
			return -1;
	}
	if (r.bad)
		return wr_codec_bad(err, "it is cut short");
	return r.left ? wr_codec_bad(err, "bytes follow its end") : 0;
}

/* ---- for parts ---- */

int
wr_codec_bad(struct wr_err *err, const char *what)
{
	return wr_err_set(err, WR_E_INVALID, "message: %s", what);
}

void
wr_codec_put_bytes(struct wr_buf *out, const void *p, size_t len)
{
	wr_buf_add32be(out, (uint32_t)len);
	wr_buf_add(out, p, len);
}

void
wr_codec_put_text(struct wr_buf *out, const char *s)
{
	wr_codec_put_bytes(out, s ? s : "", s ? strlen(s) : 0);
}

const uint8_t *
wr_codec_take_bytes(struct wr_rd *r, size_t *out_len)
{
	uint32_t len = wr_rd32be(r);
	const uint8_t *p = wr_rd_bytes(r, len);

	*out_len = r->bad ? 0 : len;
	return p;
}

void
wr_codec_copy(char **io, const uint8_t *p, size_t len)
{
	free(*io);
	*io = wr_malloc(len + 1);
	if (len)
		memcpy(*io, p, len);
	(*io)[len] = '\0';
}
