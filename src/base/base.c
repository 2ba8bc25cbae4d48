/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base.h"

#include <unistd.h>

static WR_NORETURN void
out_of_memory(void)
{
	static const char msg[] = "warren: out of memory\n";

	if (write(STDERR_FILENO, msg, sizeof(msg) - 1) < 0)
		_exit(1); /* nowhere left to say it */
	_exit(1);
}

void
wr_assert_fail(const char *cond, const char *file, int line)
{
	fprintf(stderr, "warren: internal error: %s at %s:%d\n", cond, file, line);
	abort();
}

void *
wr_malloc(size_t size)
{
	void *p = malloc(size ? size : 1);

	if (!p)
		out_of_memory();
	return p;
}

void *
wr_calloc(size_t count, size_t size)
{
	void *p = calloc(count ? count : 1, size ? size : 1);

	if (!p)
		out_of_memory();
	return p;
}

void *
wr_realloc(void *p, size_t size)
{
	void *q = realloc(p, size ? size : 1);

	if (!q)
		out_of_memory();
	return q;
}

void *
wr_reallocarray(void *p, size_t count, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(count, size, &total))
		out_of_memory();
	return wr_realloc(p, total);
}

char *
wr_strdup(const char *s)
{
	return wr_memdup(s, strlen(s) + 1);
}

void *
wr_memdup(const void *p, size_t len)
{
	void *q = wr_malloc(len);

	if (len)
		memcpy(q, p, len);
	return q;
}

char *
wr_asprintf(const char *fmt, ...)
{
	va_list ap;
	char *s = NULL;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		out_of_memory();
	va_end(ap);
	return s;
}

void
wr_grow(void *p, size_t *cap, size_t need, size_t elem_size)
{
	void *q;
	size_t n = *cap;

	if (need <= n)
		return;
	n = n ? n : 16;
	while (n < need)
		n += n / 2 + 1;
	memcpy(&q, p, sizeof(q)); /* p is the address of a typed pointer */
	q = wr_reallocarray(q, n, elem_size);
	memcpy(p, &q, sizeof(q));
	*cap = n;
}

void
wr_freep(void *pp)
{
	void *p;

	memcpy(&p, pp, sizeof(p));
	free(p);
}
