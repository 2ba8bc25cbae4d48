/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/sealed.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/fs.h"

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

int
wr_sealed_make(const void *p, size_t len, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = memfd_create("warren", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int out;

	if (fd < 0)
		return wr_err_sys(err, "make a memory file");
	if (wr_write_all(fd, p, len) < 0)
		return wr_err_sys(err, "fill a memory file");
	if (fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return wr_err_sys(err, "seal a memory file");
	out = fd;
	fd = -1;
	return out;
}

int
wr_sealed_read(int fd, size_t max, struct wr_buf *out, struct wr_err *err)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || (seals & SEALS) != SEALS)
		return wr_err_set(err, WR_E_INVALID, "the file is not sealed");
	if (fstat(fd, &st) < 0)
		return wr_err_sys(err, "stat a memory file");
	if (st.st_size <= 0 || (uint64_t)st.st_size > max)
		return wr_err_set(err, WR_E_INVALID, "the file is empty or too long");
	wr_buf_reserve(out, (size_t)st.st_size);
	if (wr_pread_full(fd, out->p + out->len, (size_t)st.st_size, 0) != (ssize_t)st.st_size)
		return wr_err_sys(err, "read a memory file");
	out->len += (size_t)st.st_size;
	return 0;
}
