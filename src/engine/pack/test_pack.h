/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of this folder: a git repository with deltas, packs made by hand, whole files. */
#ifndef WR_PACK_TEST_PACK_H
#define WR_PACK_TEST_PACK_H

#include "engine/object/test_util.h"

#include <fcntl.h>

#include "engine/pack/pack.h"
#include "sys/fs.h"

static int dir_fd = -1; /* test_dir, or what open_packs made it */

static WR_UNUSED struct wr_buf
read_whole(const char *name)
{
	struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int fd = open(test_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (wr_read_file(fd, name, (size_t)1 << 30, &b, &err) < 0)
		fail_msg("%s", err.msg);
	return b;
}

static WR_UNUSED void
random_bytes(uint64_t *seed, void *out, size_t len)
{
	uint8_t *p = out;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)test_random(seed);
}

/* Words, so that there is something to compress. */
static WR_UNUSED void
random_text(uint64_t *seed, void *out, size_t len)
{
	static const char *const word[] = {"pack ",  "index ", "object ",   "tree\n",
					   "of ",    "the ",   "snapshot ", "repository ",
					   "delta ", "a ",     "42 "};
	char *p = out;

	for (size_t i = 0; i < len;) {
		const char *w = word[test_random(seed) % WR_ARRAY_LEN(word)];

		while (*w && i < len)
			p[i++] = *w++;
	}
}

/* A bare repository "repo" with a history of 60 commits that deltify well, and one tag. */
static WR_UNUSED void
make_history(void)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf s = WR_BUF_INIT, text = WR_BUF_INIT;
	uint64_t seed = 7;
	char line[120];

	for (unsigned i = 0; i < 60; i++) {
		random_text(&seed, line, sizeof(line));
		wr_buf_addf(&text, "line %u ", i);
		wr_buf_add(&text, line, sizeof(line));
		random_bytes(&seed, line, sizeof(line));
		wr_buf_addf(&s,
			    "commit refs/heads/main\ncommitter A <a@b> %u +0000\ndata 2\nc\n"
			    "M 644 inline text\ndata %zu\n",
			    1000000 + i, text.len);
		wr_buf_add(&s, text.p, text.len);
		wr_buf_addf(&s, "\nM 644 inline dir/noise%u\ndata %zu\n", i, sizeof(line));
		wr_buf_add(&s, line, sizeof(line));
		wr_buf_adds(&s, "\nM 644 inline empty\ndata 0\n\n");
	}
	wr_buf_adds(&s, "tag v1\nfrom refs/heads/main\ntagger A <a@b> 1 +0000\ndata 2\nt\n");
	write_file("stream", s.p, s.len);
	assert_int_equal(run(NULL, "rm -rf repo && git init -q --bare repo && "
				   "git fast-import --quiet <stream"),
			 0);
}

/* Repack into one pack, given more settings of git; dir_fd is its directory.  The name comes
 * without suffix. */
static WR_UNUSED void
make_pack(const char *settings, char *name, size_t name_size)
{
	struct wr_buf out = WR_BUF_INIT;
	char path[600];

	make_history();
	assert_int_equal(run(&out,
			     "git %s repack -q -adf --depth=40 --window=20 && cd repo/objects"
			     "/pack && basename -s .pack *.pack",
			     settings),
			 0);
	out.len--;
	snprintf(name, name_size, "%s", wr_buf_str(&out));
	wr_buf_fini(&out);
	wr_closep(&dir_fd);
	snprintf(path, sizeof(path), "%s/repo/objects/pack", test_dir);
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir_fd >= 0);
}

/* A pack written by hand, entry by entry. */
struct hand_pack {
	struct wr_buf b;
	struct wr_idx_entry e[16];
	size_t count;
};

static WR_UNUSED void
hand_start(struct hand_pack *h, uint32_t count)
{
	*h = (struct hand_pack){.b = WR_BUF_INIT};
	wr_buf_adds(&h->b, "PACK");
	wr_buf_add32be(&h->b, 2);
	wr_buf_add32be(&h->b, count);
}

/* Head of an entry; gives its offset. */
static WR_UNUSED uint64_t
hand_head(struct hand_pack *h, unsigned type, uint64_t size)
{
	uint64_t off = h->b.len;
	uint8_t c = (uint8_t)(type << 4 | (size & 15));

	for (size >>= 4; size; size >>= 7) {
		wr_buf_add8(&h->b, c | 0x80);
		c = size & 0x7f;
	}
	wr_buf_add8(&h->b, c);
	return off;
}

static WR_UNUSED void
hand_stream(struct hand_pack *h, const void *p, size_t len)
{
	struct wr_deflater *d = wr_deflater_new(1);

	wr_deflate(d, p, len, &h->b);
	wr_deflater_free(d);
}

static WR_UNUSED void
hand_distance(struct hand_pack *h, uint64_t distance)
{
	uint8_t t[10];
	size_t n = sizeof(t);

	t[--n] = distance & 0x7f;
	while (distance >>= 7)
		t[--n] = (uint8_t)(0x80 | (--distance & 0x7f));
	wr_buf_add(&h->b, t + n, sizeof(t) - n);
}

static WR_UNUSED void
hand_list(struct hand_pack *h, const struct wr_id *id, uint64_t off)
{
	h->e[h->count++] = (struct wr_idx_entry){.id = *id, .off = off};
}

/* Trailer; writes NAME.pack and NAME.idx into test_dir and points dir_fd there. */
static WR_UNUSED void
hand_finish(struct hand_pack *h, const char *name)
{
	struct wr_buf idx = WR_BUF_INIT;
	struct wr_sha1 sha;
	struct wr_id sum;
	char file[64];

	wr_sha1_init(&sha);
	wr_sha1_add(&sha, h->b.p, h->b.len);
	sum = wr_sha1_end(&sha);
	wr_buf_add(&h->b, sum.b, WR_ID_LEN);
	snprintf(file, sizeof(file), "%s.pack", name);
	write_file(file, h->b.p, h->b.len);
	wr_idx_format(&idx, h->e, h->count, &sum);
	snprintf(file, sizeof(file), "%s.idx", name);
	write_file(file, idx.p, idx.len);
	wr_buf_fini(&idx);
	wr_buf_fini(&h->b);
	wr_closep(&dir_fd);
	dir_fd = open(test_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir_fd >= 0);
}

struct opened {
	struct wr_pack pack;
	struct wr_idx idx;
	struct wr_pack_reader *r;
	struct wr_buf out;
};

static WR_UNUSED void
open_both(struct opened *o, const char *name)
{
	struct wr_err err = WR_ERR_INIT;
	char file[80];

	*o = (struct opened){.pack = WR_PACK_INIT};
	snprintf(file, sizeof(file), "%s.pack", name);
	if (wr_pack_open(&o->pack, dir_fd, file, &err) < 0)
		fail_msg("%s", err.msg);
	snprintf(file, sizeof(file), "%s.idx", name);
	if (wr_idx_open(&o->idx, dir_fd, file, &err) < 0)
		fail_msg("%s", err.msg);
	o->r = wr_pack_reader_new();
}

static WR_UNUSED void
close_both(struct opened *o)
{
	wr_pack_close(&o->pack);
	wr_idx_close(&o->idx);
	wr_pack_reader_free(o->r);
	wr_buf_fini(&o->out);
}

static WR_UNUSED int
teardown_pack(void **state)
{
	wr_closep(&dir_fd);
	return teardown_dir(state);
}

#endif
