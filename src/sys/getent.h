/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts and groups as the host's name services know them, asked by a helper process with a
 * deadline: a service that hangs or fails costs at most two seconds, and failed is not absent.
 *
 * After two seconds were lost nothing is asked for a minute: then /etc/passwd and /etc/group alone
 * answer, as they do wherever a service fails, and what they do not know is failed at once.
 * The helper is a copy of this process (no program is run, so it works behind any wall), has
 * none of its files, and ends with it.
 */
#ifndef WR_GETENT_H
#define WR_GETENT_H

#include <sys/types.h>

#include "base/err.h"

enum wr_getent_answer {
	WR_GETENT_FOUND = 1,
	WR_GETENT_ABSENT, /* every service that is configured and installed says so */
	WR_GETENT_FAILED, /* not known: a service hangs or does not answer */
};
#define WR_GETENT_TEXT 256 /* LIMIT: of a name, with its NUL; longer ones are failed */
struct wr_getent_entry {
	char name[WR_GETENT_TEXT];
	uint32_t id, gid;           /* of a group both are its own */
	char gecos[WR_GETENT_TEXT]; /* cut off where it is longer; "" of a group */
};
/* Any thread. out is written only when found. */
enum wr_getent_answer wr_getent_by_name(bool group, const char *name, struct wr_getent_entry *out);
enum wr_getent_answer wr_getent_by_id(bool group, uint32_t id, struct wr_getent_entry *out);
/* What the newest failure was: "did not answer within 2 s". Valid until the next question. */
const char *wr_getent_why(void);
/* Let the helper end, so that a process that lives on keeps none. */
void wr_getent_end(void);
/* The services of a database ("passwd", "group") in /etc/nsswitch.conf, as they stand there;
 * "files" where there is none. Caller frees. */
char *wr_getent_services(const char *database);
/* Is that one of them? */
bool wr_getent_has_service(const char *database, const char *service);

#endif
