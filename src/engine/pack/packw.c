/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing one pack.  Until commit everything lies in a directory of its own, so a killed writer
 * leaves one thing to remove.  Crash order of commit:
 *
 *   objects, count, trailer -> fsync pack -> index -> fsync index -> rename pack -> rename index
 *   -> fsync objects/pack
 *
 * An index never appears before its whole pack is durable; a pack without an index is invisible.
 */
#include <dirent.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/pack/pack_int.h"
#include "sys/crash.h"
#include "sys/fs.h"

#define TMP_PREFIX "pack-tmp-warren-"
#define OUT_LEN ((size_t)1 << 20)
/* Packs from here on are not left in the page cache. */
#define UNCACHE_BYTES (32u << 20)
/* Start writeback this often, so that the last fsync finds little to do. */
#define FLUSH_BYTES ((uint64_t)8 << 20)

struct wr_packw {
	int objects_fd; /* borrowed */
	int dir_fd;     /* the temporary directory */
	int fd;         /* the pack in it */
	char dir[sizeof(TMP_PREFIX) + 12];
	uint8_t *out; /* OUT_LEN */
	size_t out_len;
	uint64_t written;  /* bytes in the file */
	uint64_t flushing; /* of these, handed to writeback */
	struct wr_idx_entry *e;
	size_t count, cap;
};

static void
packw_free(struct wr_packw *w)
{
	wr_closep(&w->fd);
	wr_closep(&w->dir_fd);
	free(w->out);
	free(w->e);
	free(w);
}

void
wr_packw_abort(struct wr_packw *w)
{
	if (!w)
		return;
	/* Best effort: what stays is swept up by the next writer. */
	(void)wr_remove_tree(w->objects_fd, w->dir, NULL);
	packw_free(w);
}

struct wr_packw *
wr_packw_open(int objects_fd, struct wr_err *err)
{
	struct wr_packw *w = wr_calloc(1, sizeof(*w));

	w->objects_fd = objects_fd;
	w->dir_fd = w->fd = -1;
	wr_random_name(w->dir, sizeof(w->dir), TMP_PREFIX);
	if (mkdirat(objects_fd, w->dir, 0700) < 0) {
		wr_err_sys(err, "make directory '%s'", w->dir);
		packw_free(w);
		return NULL;
	}
	w->dir_fd = wr_open_dir(objects_fd, w->dir);
	if (w->dir_fd >= 0)
		w->fd = openat(w->dir_fd, "pack", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (w->fd < 0) {
		wr_err_sys(err, "create a pack in '%s'", w->dir);
		wr_packw_abort(w);
		return NULL;
	}
	w->out = wr_malloc(OUT_LEN);
	memcpy(w->out, "PACK", 4);
	wr_put32be(w->out + 4, 2);
	wr_put32be(w->out + 8, 0); /* the count comes with commit */
	w->out_len = WR_PACK_HEAD_LEN;
	return w;
}

static int
write_out(struct wr_packw *w, const void *p, size_t len, struct wr_err *err)
{
	if (wr_write_all(w->fd, p, len) < 0)
		return wr_err_sys(err, "write '%s/pack'", w->dir);
	w->written += len;
	if (w->written - w->flushing >= FLUSH_BYTES) {
		/* Only a head start: failure shows in fsync. */
		(void)sync_file_range(w->fd, (off_t)w->flushing, (off_t)(w->written - w->flushing),
				      SYNC_FILE_RANGE_WRITE);
		w->flushing = w->written;
	}
	return 0;
}

static int
flush_out(struct wr_packw *w, struct wr_err *err)
{
	size_t n = w->out_len;

	w->out_len = 0;
	return n ? write_out(w, w->out, n, err) : 0;
}

static int
put(struct wr_packw *w, const void *p, size_t len, struct wr_err *err)
{
	if (len > OUT_LEN - w->out_len && flush_out(w, err) < 0)
		return -1;
	if (len > OUT_LEN)
		return write_out(w, p, len, err);
	memcpy(w->out + w->out_len, p, len);
	w->out_len += len;
	return 0;
}

int
wr_packw_add(struct wr_packw *w, enum wr_obj_type type, const struct wr_id *id, uint64_t size,
	     const void *z, size_t z_len, struct wr_err *err)
{
	uint8_t head[WR_ENTRY_HEAD_MAX];
	size_t head_len = wr_pack_head_format(head, type, size);
	uint64_t off = wr_packw_bytes(w);

	wr_assert(type >= WR_OBJ_COMMIT && type <= WR_OBJ_TAG);
	if (w->count == UINT32_MAX)
		return wr_err_set(err, WR_E_LIMIT, "a pack holds at most %" PRIu32 " objects",
				  UINT32_MAX);
	if (put(w, head, head_len, err) < 0 || put(w, z, z_len, err) < 0)
		return -1;
	wr_grow(&w->e, &w->cap, w->count + 1, sizeof(*w->e));
	w->e[w->count++] = (struct wr_idx_entry){
	    .id = *id,
	    .crc = libdeflate_crc32(libdeflate_crc32(0, head, head_len), z, z_len),
	    .off = off,
	};
	return 0;
}

uint64_t
wr_packw_bytes(const struct wr_packw *w)
{
	return w->written + w->out_len;
}

uint32_t
wr_packw_count(const struct wr_packw *w)
{
	return (uint32_t)w->count;
}

/* The count stands in front of what is hashed, so the file is read again (from the page cache). */
static int
finish_pack(struct wr_packw *w, struct wr_id *out_sum, struct wr_err *err)
{
	uint8_t count[4];
	struct wr_sha1 h;

	wr_put32be(count, (uint32_t)w->count);
	if (flush_out(w, err) < 0)
		return -1;
	if (wr_pwrite_all(w->fd, count, sizeof(count), 8) < 0)
		return wr_err_sys(err, "write '%s/pack'", w->dir);
	(void)sync_file_range(w->fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* as in write_out */
	wr_sha1_init(&h);
	for (uint64_t at = 0; at < w->written;) {
		size_t len = (size_t)WR_MIN((uint64_t)OUT_LEN, w->written - at);
		ssize_t n = wr_pread_full(w->fd, w->out, len, at);

		if (n < 0)
			return wr_err_sys(err, "read '%s/pack'", w->dir);
		if ((size_t)n != len)
			return wr_err_set(err, WR_E_CHANGED, "'%s/pack' became shorter", w->dir);
		wr_sha1_add(&h, w->out, len);
		at += len;
	}
	*out_sum = wr_sha1_end(&h);
	return write_out(w, out_sum->b, WR_ID_LEN, err);
}

static int
write_idx(struct wr_packw *w, const struct wr_id *sum, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_closep) int fd = -1;

	wr_idx_format(&b, w->e, w->count, sum);
	fd = openat(w->dir_fd, "idx", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (fd < 0 || wr_write_all(fd, b.p, b.len) < 0 || fsync(fd) < 0)
		return wr_err_sys(err, "write '%s/idx'", w->dir);
	return 0;
}

int
wr_pack_publish(int from_fd, int objects_fd, const char *name, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *pack = wr_asprintf("pack/%s.pack", name);
	WR_SCOPED(wr_freep) char *idx = wr_asprintf("pack/%s.idx", name);

	if (renameat(from_fd, "pack", objects_fd, pack) < 0)
		return wr_err_sys(err, "rename a new pack to '%s'", pack);
	wr_crash_point("pack.renamed");
	if (renameat(from_fd, "idx", objects_fd, idx) < 0) {
		wr_err_sys(err, "rename a new index to '%s'", idx);
		/* Take the pack back, unless one of this name was there with its index before. */
		if (faccessat(objects_fd, idx, F_OK, 0) < 0)
			unlinkat(objects_fd, pack, 0);
		return -1;
	}
	wr_crash_point("idx.renamed");
	return wr_fsync_dir(objects_fd, "pack", err);
}

/* DURABLE: see the head of this file. */
static int
commit(struct wr_packw *w, char **out_name, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *name = NULL;
	struct wr_id sum;

	if (finish_pack(w, &sum, err) < 0)
		return -1;
	wr_crash_point("pack.written");
	if (fsync(w->fd) < 0)
		return wr_err_sys(err, "sync '%s/pack'", w->dir);
	if (write_idx(w, &sum, err) < 0)
		return -1;
	wr_crash_point("pack.synced");
	name = wr_asprintf("pack-%s", wr_id_hex(&sum).s);
	if (wr_pack_publish(w->dir_fd, w->objects_fd, name, err) < 0)
		return -1;
	/* A small one is about to be read again, by those who send it on. */
	if (w->written >= UNCACHE_BYTES)
		wr_uncache(w->fd, 0, 0);
	*out_name = wr_steal(&name);
	return 0;
}

int
wr_packw_commit(struct wr_packw *w, char **out_name, struct wr_err *err)
{
	int rc = 0;

	if (w->count == 0)
		*out_name = NULL;
	else
		rc = commit(w, out_name, err);
	wr_packw_abort(w); /* only the directory is left */
	return rc;
}

int
wr_packw_clean(int objects_fd, struct wr_err *err)
{
	int fd = wr_open_dir(objects_fd, "."), rc = 0;
	struct dirent *e;
	DIR *d;

	if (fd < 0)
		return wr_err_sys(err, "open the objects directory");
	d = fdopendir(fd);
	if (!d) {
		wr_err_sys(err, "read the objects directory");
		close(fd);
		return -1;
	}
	while (rc == 0 && (e = readdir(d)))
		if (strncmp(e->d_name, TMP_PREFIX, strlen(TMP_PREFIX)) == 0)
			rc = wr_remove_tree(objects_fd, e->d_name, err);
	closedir(d);
	return rc;
}
