/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <time.h>
#include <unistd.h>

#include "base/str.h"

/* LIMIT: a longer line is cut; journald and terminals take this much in one write. */
#define LINE_BYTES 4096

/* Fixed after wr_log_init. */
static struct {
	char who[32];
	enum wr_log_level level;
	bool journal;
} conf = {.who = "warren", .level = WR_LOG_NOTICE};

static const char *
level_name(enum wr_log_level level)
{
	switch (level) {
	case WR_LOG_ERROR:
		return "error";
	case WR_LOG_WARNING:
		return "warning";
	case WR_LOG_NOTICE:
		return "notice";
	case WR_LOG_DEBUG:
		break;
	}
	return "debug";
}

void
wr_log_init(const char *who, enum wr_log_level level, bool journal)
{
	snprintf(conf.who, sizeof(conf.who), "%s", who);
	conf.level = level;
	conf.journal = journal;
}

void
wr_log(enum wr_log_level level, const char *fmt, ...)
{
	int saved = errno;
	char line[LINE_BYTES];
	struct timespec now;
	va_list ap;
	size_t head, n;

	if (level > conf.level)
		return;
	if (conf.journal) {
		head = (size_t)snprintf(line, sizeof(line), "<%d>%s: ", (int)level, conf.who);
	} else {
		clock_gettime(CLOCK_REALTIME, &now);
		head = (size_t)snprintf(line, sizeof(line),
					"%s %s %s: ", wr_fmt_utc((int64_t)now.tv_sec).s,
					level_name(level), conf.who);
	}
	va_start(ap, fmt);
	vsnprintf(line + head, sizeof(line) - head - 1, fmt, ap);
	va_end(ap);
	n = strlen(line);
	/* One event stays one line, whatever an error's text brought along. */
	for (size_t i = head; i < n; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[n++] = '\n';
	/* Where standard error cannot be written there is nobody to tell. */
	while (write(STDERR_FILENO, line, n) < 0 && errno == EINTR)
		;
	errno = saved;
}

void
wr_log_err(enum wr_log_level level, const char *what, const struct wr_err *err)
{
	if (*err->hint)
		wr_log(level, "%s: %s hint=\"%s\"", what, err->msg, err->hint);
	else
		wr_log(level, "%s: %s", what, err->msg);
}
