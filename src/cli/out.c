/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/out.h"

#include <locale.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "base/str.h"
#include "cli/options.h"
#include "sys/clock.h"

/* Fixed after wr_out_init. */
static struct {
	bool tty, color, json, quiet;
	const char *command; /* "repo save" */
} out;

/* Guards standard error and `shown`: a warning and the progress line never mix. */
static pthread_mutex_t err_mutex = PTHREAD_MUTEX_INITIALIZER;
static bool shown; /* a progress line stands on the terminal */

static bool
declares(const struct wr_args *a, const char *name)
{
	const struct wr_opt *o;

	for (size_t i = 0; (o = wr_cmd_opt(a->cmd, i)); i++)
		if (!strcmp(o->name, name))
			return true;
	return false;
}

static bool
flag_if_any(const struct wr_args *a, const char *name)
{
	return declares(a, name) && wr_arg_flag(a, name);
}

void
wr_out_init(const struct wr_args *a)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	/* Names are bytes and UTF-8 in our eyes, whatever the user's locale: this is for
	 * wcwidth() alone. */
	(void)setlocale(LC_CTYPE, "C.UTF-8");
	/* Set by who shows our output on a terminal that we do not see. */
	out.tty = isatty(STDOUT_FILENO) || getenv("WARREN_TTY");
	out.color = out.tty && !(no_color && *no_color) && !(term && !strcmp(term, "dumb"));
	out.json = flag_if_any(a, "json");
	out.quiet = flag_if_any(a, "quiet");
	out.command = a->cmd->path;
}

bool
wr_out_json(void)
{
	return out.json;
}

bool
wr_out_quiet(void)
{
	return out.quiet;
}

bool
wr_out_tty(void)
{
	return out.tty;
}

const char *
wr_color(enum wr_color c)
{
	static const char *const seq[] = {
	    [WR_PLAIN] = "\033[0m", [WR_BOLD] = "\033[1m",   [WR_DIM] = "\033[2m",
	    [WR_RED] = "\033[31m",  [WR_GREEN] = "\033[32m", [WR_YELLOW] = "\033[33m",
	    [WR_BLUE] = "\033[34m", [WR_CYAN] = "\033[36m",
	};

	return out.color ? seq[c] : "";
}

/* ---- names ---- */

void
wr_name_escape(struct wr_buf *b, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < len;) {
		size_t n = wr_utf8_len(p + i, len - i);

		if (n && p[i] != '\\' && !wr_utf8_acts(wr_utf8_decode(p + i, n))) {
			wr_buf_add(b, p + i, n);
			i += n;
			continue;
		}
		for (n = n ? n : 1; n; n--)
			wr_buf_addf(b, "\\x%02x", p[i++]);
	}
}

void
wr_name_add(struct wr_buf *b, const void *bytes, size_t len)
{
	if (out.tty)
		wr_name_escape(b, bytes, len);
	else
		wr_buf_add(b, bytes, len);
}

void
wr_name_print(const void *bytes, size_t len)
{
	struct wr_buf b = WR_BUF_INIT;

	wr_name_add(&b, bytes, len);
	if (b.len)
		fwrite(b.p, 1, b.len, stdout);
	wr_buf_fini(&b);
}

size_t
wr_text_width(const char *s)
{
	const uint8_t *p = (const uint8_t *)s;
	size_t left = strlen(s), width = 0;

	while (left) {
		size_t n = wr_utf8_len(p, left);
		int w;

		if (p[0] == 033 && left > 1 && p[1] == '[') { /* our own colours take no room */
			n = strcspn((const char *)p, "m");
			n = WR_MIN(n + 1, left);
		} else {
			w = n ? wcwidth((wchar_t)wr_utf8_decode(p, n)) : 1;
			width += w < 0 ? 1 : (size_t)w;
			n = n ? n : 1;
		}
		p += n;
		left -= n;
	}
	return width;
}

/* ---- remarks ---- */

static void
clear_line_locked(void)
{
	if (shown)
		fputs("\r\033[K", stderr);
	shown = false;
}

static void say(const char *label, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void
say(const char *label, const char *fmt, va_list ap)
{
	pthread_mutex_lock(&err_mutex);
	clear_line_locked();
	fprintf(stderr, "warren %s: %s", out.command ? out.command : "", label);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	pthread_mutex_unlock(&err_mutex);
}

void
wr_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("warning: ", fmt, ap);
	va_end(ap);
}

void
wr_remark(const char *fmt, ...)
{
	va_list ap;

	if (out.quiet || out.json)
		return;
	va_start(ap, fmt);
	say("", fmt, ap);
	va_end(ap);
}

/* ---- tables ---- */

void
wr_table_init(struct wr_table *t, const char *align, const char *const *heads)
{
	*t = (struct wr_table){.align = align, .column_count = strlen(align)};
	for (size_t i = 0; heads && i < t->column_count; i++)
		wr_table_addf(t, "%s%s%s", wr_color(WR_BOLD), heads[i], wr_color(WR_PLAIN));
}

static void
take_cell(struct wr_table *t, char *s)
{
	wr_grow(&t->cell, &t->cell_cap, t->cell_count + 1, sizeof(*t->cell));
	t->cell[t->cell_count++] = s;
}

void
wr_table_add(struct wr_table *t, const char *text)
{
	take_cell(t, wr_strdup(text));
}

void
wr_table_addf(struct wr_table *t, const char *fmt, ...)
{
	va_list ap;
	char *s = NULL;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	wr_assert(n >= 0);
	take_cell(t, s);
}

void
wr_table_add_name(struct wr_table *t, const void *bytes, size_t len)
{
	struct wr_buf b = WR_BUF_INIT;

	wr_name_add(&b, bytes, len);
	take_cell(t, wr_buf_detach(&b, NULL));
}

void
wr_table_print(struct wr_table *t)
{
	WR_SCOPED(wr_freep) size_t *width = wr_calloc(t->column_count, sizeof(*width));

	wr_assert(t->cell_count % t->column_count == 0);
	for (size_t i = 0; i < t->cell_count; i++) {
		size_t *w = &width[i % t->column_count];

		*w = WR_MAX(*w, wr_text_width(t->cell[i]));
	}
	for (size_t i = 0; i < t->cell_count; i++) {
		size_t c = i % t->column_count;
		int pad = (int)(width[c] - wr_text_width(t->cell[i]));
		bool last = c + 1 == t->column_count;

		if (t->align[c] == 'r')
			printf("%*s%s", pad, "", t->cell[i]);
		else
			printf("%s%*s", t->cell[i], last ? 0 : pad, "");
		fputs(last ? "\n" : "  ", stdout);
	}
}

void
wr_table_fini(struct wr_table *t)
{
	for (size_t i = 0; i < t->cell_count; i++)
		free(t->cell[i]);
	free(t->cell);
	*t = (struct wr_table){0};
}

/* ---- JSON ---- */

static struct {
	bool open, any;
} stream;

static char *
dump(json_t *taken, size_t flags)
{
	char *s = json_dumps(taken, flags | JSON_REAL_PRECISION(9));

	wr_assert(s != NULL);
	json_decref(taken);
	return s;
}

static int
written(struct wr_err *err)
{
	if (!ferror(stdout))
		return 0;
	wr_err_sys(err, "write standard output");
	return wr_err_hint(err, "%s", ""); /* the one for full disks speaks of repositories */
}

int
wr_json_print(json_t *taken, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *s = dump(taken, out.tty ? JSON_INDENT(2) : JSON_COMPACT);

	puts(s);
	fflush(stdout);
	return written(err);
}

void
wr_json_stream_begin(json_t *taken_head, const char *key)
{
	WR_SCOPED(wr_freep) char *s = dump(taken_head, JSON_COMPACT);

	wr_assert(!stream.open);
	/* Leave the closing brace for the end. */
	printf("%.*s,\"%s\":[", (int)strlen(s) - 1, s, key);
	stream.open = true;
	stream.any = false;
}

int
wr_json_stream_item(json_t *taken, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *s = dump(taken, JSON_COMPACT);

	printf("%s\n%s", stream.any ? "," : "", s);
	stream.any = true;
	return written(err);
}

int
wr_json_stream_end(json_t *taken_tail, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *s = taken_tail ? dump(taken_tail, JSON_COMPACT) : NULL;

	wr_assert(stream.open);
	stream.open = false;
	printf("%s]", stream.any ? "\n" : "");
	if (s && strlen(s) > 2)
		printf(",%s\n", s + 1);
	else
		puts("}");
	fflush(stdout);
	return written(err);
}

void
wr_json_error(const struct wr_err *err)
{
	json_t *obj = json_object(), *e;

	if (!stream.open)
		wr_json_str(obj, "schema", "warren.error/1");
	e = wr_json_object(obj, "error");
	wr_json_str(e, "code", wr_err_name(err->code));
	wr_json_str(e, "message", err->msg);
	wr_json_str(e, "hint", *err->hint ? err->hint : NULL);
	/* Where standard output cannot be written, standard error has told it. */
	(void)(stream.open ? wr_json_stream_end(obj, NULL) : wr_json_print(obj, NULL));
}

/* ---- progress ---- */

#define TICK_NS 100000000
#define FIRST_TICKS 5 /* what ends within half a second gets no line */

struct wr_progress {
	atomic_uint_fast64_t files, bytes, files_total, bytes_total;
	const char *verb;
	pthread_t thread;
	pthread_mutex_t mutex; /* guards stop */
	pthread_cond_t wake;
	bool stop, drawing;
	/* For the rate, of the drawing thread only: bytes or, without bytes, files per second. */
	double rate;
	uint64_t rate_at, rate_ns;
};

static size_t
terminal_width(void)
{
	struct winsize w;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_col < 20)
		return 80;
	return w.ws_col;
}

/* The line without a bar; *out_share is what is done of the whole, below 0 if unknown. */
static void
compose(struct wr_progress *p, struct wr_buf *b, double *out_share)
{
	uint64_t files = atomic_load(&p->files), files_total = atomic_load(&p->files_total);
	uint64_t bytes = atomic_load(&p->bytes), bytes_total = atomic_load(&p->bytes_total);
	bool by_bytes = bytes_total > 0 || (files_total == 0 && bytes > 0);
	uint64_t now = by_bytes ? bytes : files, total = by_bytes ? bytes_total : files_total;
	uint64_t ns = wr_clock_mono_ns();
	double seconds = (double)(ns - p->rate_ns) / 1e9;

	if (now >= p->rate_at && seconds > 0) {
		double step = (double)(now - p->rate_at) / seconds;

		/* Settles within a few seconds, and jumps there at the start. */
		p->rate += (step - p->rate) * (p->rate > 0 ? WR_MIN(seconds / 3, 1.0) : 1.0);
	}
	p->rate_at = now;
	p->rate_ns = ns;
	*out_share = total ? WR_MIN((double)now / (double)total, 1.0) : -1;

	if (files || files_total)
		wr_buf_addf(b, "  %s", wr_fmt_count(files).s);
	if (files_total && !bytes_total)
		wr_buf_addf(b, " of %s", wr_fmt_count(files_total).s);
	if (files || files_total)
		wr_buf_adds(b, " files");
	if (bytes || bytes_total)
		wr_buf_addf(b, "  %s", wr_fmt_bytes(bytes).s);
	if (bytes_total)
		wr_buf_addf(b, " of %s", wr_fmt_bytes(bytes_total).s);
	if (p->rate >= 1 && by_bytes)
		wr_buf_addf(b, "  %s/s", wr_fmt_bytes((uint64_t)p->rate).s);
	else if (p->rate >= 1)
		wr_buf_addf(b, "  %s/s", wr_fmt_count((uint64_t)p->rate).s);
	if (total && now < total && p->rate >= 1 && (double)(total - now) / p->rate < 360000) {
		unsigned left = (unsigned)((double)(total - now) / p->rate) + 1;

		wr_buf_addf(b, "  %u:%02u left", left / 60, left % 60);
	}
}

static void
draw(struct wr_progress *p)
{
	struct wr_buf b = WR_BUF_INIT;
	double share;
	size_t room = terminal_width() - 1, used;
	char head[64];

	compose(p, &b, &share);
	if (share >= 0)
		snprintf(head, sizeof(head), "%s %3d%%", p->verb, (int)(share * 100));
	else
		snprintf(head, sizeof(head), "%s", p->verb);
	used = strlen(head) + b.len;
	pthread_mutex_lock(&err_mutex);
	clear_line_locked();
	fputs(head, stderr);
	if (share >= 0 && used + 14 <= room) {
		int bar = (int)WR_MIN(room - used - 4, (size_t)30);
		int full = (int)(share * bar);

		fputs("  [", stderr);
		for (int i = 0; i < bar; i++)
			fputc(i < full ? '=' : i == full ? '>' : ' ', stderr);
		fputc(']', stderr);
	}
	if (strlen(head) < room)
		fprintf(stderr, "%.*s", (int)(room - strlen(head)), wr_buf_str(&b));
	fflush(stderr);
	shown = true;
	pthread_mutex_unlock(&err_mutex);
	wr_buf_fini(&b);
}

static void *
draw_main(void *arg)
{
	struct wr_progress *p = arg;
	struct timespec until;
	unsigned ticks = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	pthread_mutex_lock(&p->mutex);
	while (!p->stop) {
		until.tv_nsec += TICK_NS;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		while (!p->stop && pthread_cond_timedwait(&p->wake, &p->mutex, &until) == 0)
			;
		if (p->stop || ++ticks < FIRST_TICKS)
			continue;
		pthread_mutex_unlock(&p->mutex);
		draw(p);
		pthread_mutex_lock(&p->mutex);
	}
	pthread_mutex_unlock(&p->mutex);
	return NULL;
}

bool
wr_progress_wanted(const struct wr_args *a)
{
	return !out.json && !out.quiet && !flag_if_any(a, "no-progress") && isatty(STDERR_FILENO);
}

struct wr_progress *
wr_progress_begin(const struct wr_args *a, const char *verb)
{
	struct wr_progress *p = wr_calloc(1, sizeof(*p));
	pthread_condattr_t attr;

	p->verb = verb;
	if (!wr_progress_wanted(a))
		return p;
	p->rate_ns = wr_clock_mono_ns();
	pthread_mutex_init(&p->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->wake, &attr);
	pthread_condattr_destroy(&attr);
	p->drawing = pthread_create(&p->thread, NULL, draw_main, p) == 0;
	return p;
}

void
wr_progress_total(struct wr_progress *p, uint64_t files, uint64_t bytes)
{
	atomic_store_explicit(&p->files_total, files, memory_order_relaxed);
	atomic_store_explicit(&p->bytes_total, bytes, memory_order_relaxed);
}

void
wr_progress_add(struct wr_progress *p, uint64_t files, uint64_t bytes)
{
	atomic_fetch_add_explicit(&p->files, files, memory_order_relaxed);
	atomic_fetch_add_explicit(&p->bytes, bytes, memory_order_relaxed);
}

void
wr_progress_set(struct wr_progress *p, uint64_t files, uint64_t bytes)
{
	atomic_store_explicit(&p->files, files, memory_order_relaxed);
	atomic_store_explicit(&p->bytes, bytes, memory_order_relaxed);
}

void
wr_progress_end(struct wr_progress *p)
{
	if (!p)
		return;
	if (p->drawing) {
		pthread_mutex_lock(&p->mutex);
		p->stop = true;
		pthread_cond_signal(&p->wake);
		pthread_mutex_unlock(&p->mutex);
		pthread_join(p->thread, NULL);
		pthread_mutex_lock(&err_mutex);
		clear_line_locked();
		fflush(stderr);
		pthread_mutex_unlock(&err_mutex);
	}
	free(p);
}
