/* SPDX-License-Identifier: Apache-2.0 */
#include "host/task/pushkit.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/fs.h"

/* LIMIT: envelope, key and certificates. */
#define KIT_MAX (2u << 20)

static struct wr_buf *const *
parts(struct wr_push_kit *k, struct wr_buf *out[5])
{
	out[0] = &k->key_pem;
	out[1] = &k->cert_der;
	out[2] = &k->ca_der[0];
	out[3] = &k->ca_der[1];
	out[4] = &k->envelope;
	return out;
}

void
wr_push_kit_fini(struct wr_push_kit *k)
{
	struct wr_buf *part[5];

	if (k->key_pem.p)
		explicit_bzero(k->key_pem.p, k->key_pem.len);
	parts(k, part);
	for (size_t i = 0; i < WR_ARRAY_LEN(part); i++)
		wr_buf_fini(part[i]);
}

int
wr_push_kit_store(const struct wr_push_kit *k, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	int fd = memfd_create("push", MFD_CLOEXEC);
	struct wr_buf *part[5];
	int rc;

	if (fd < 0)
		return wr_err_sys(err, "make a memfd");
	wr_buf_add(&b, k->fleet.s, sizeof(k->fleet.s));
	wr_buf_add64be(&b, (uint64_t)k->fleet_at);
	parts((struct wr_push_kit *)(uintptr_t)k, part);
	for (size_t i = 0; i < WR_ARRAY_LEN(part); i++) {
		wr_buf_add32be(&b, (uint32_t)part[i]->len);
		wr_buf_add(&b, part[i]->p, part[i]->len);
	}
	rc = wr_pwrite_all(fd, b.p, b.len, 0);
	explicit_bzero(b.p, b.len);
	if (rc < 0) {
		wr_err_sys(err, "write the push");
		close(fd);
		return -1;
	}
	return fd;
}

int
wr_push_kit_load(int fd, struct wr_push_kit *out, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_buf *part[5];
	const uint8_t *id;
	struct stat st;
	struct wr_rd r;
	size_t len;

	if (fstat(fd, &st) < 0 || st.st_size <= 0 || (uint64_t)st.st_size > KIT_MAX)
		return wr_err_set(err, WR_E_INVALID, "what is to be pushed did not come along");
	len = (size_t)st.st_size;
	wr_buf_reserve(&b, len);
	if (wr_pread_full(fd, b.p, len, 0) != (ssize_t)len)
		return wr_err_sys(err, "read what is to be pushed");
	r = wr_rd(b.p, len);
	id = wr_rd_bytes(&r, sizeof(out->fleet.s));
	if (id)
		memcpy(out->fleet.s, id, sizeof(out->fleet.s));
	out->fleet_at = (int64_t)wr_rd64be(&r);
	parts(out, part);
	for (size_t i = 0; i < WR_ARRAY_LEN(part); i++) {
		uint32_t n = wr_rd32be(&r);
		const uint8_t *p = wr_rd_bytes(&r, n);

		if (p)
			wr_buf_add(part[i], p, n);
	}
	explicit_bzero(b.p, len);
	if (!r.bad && r.left == 0 && out->fleet.s[sizeof(out->fleet.s) - 1] == '\0')
		return 0;
	wr_push_kit_fini(out);
	return wr_err_set(err, WR_E_INVALID, "what is to be pushed is malformed");
}
