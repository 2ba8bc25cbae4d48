/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/whoami.h"

#include <unistd.h>

#include "engine/object/commit.h"
#include "sys/getent.h"

char *
wr_whoami(void)
{
	char host[256] = "";
	struct wr_getent_entry me = {.gecos = ""};
	WR_SCOPED(wr_freep) char *name = NULL;
	WR_SCOPED(wr_freep) char *mail = NULL;
	const char *login = "unknown";

	if (gethostname(host, sizeof(host) - 1) < 0 || !*host)
		snprintf(host, sizeof(host), "localhost");
	if (wr_getent_by_id(false, getuid(), &me) == WR_GETENT_FOUND)
		login = me.name;
	name = wr_strdup(me.gecos);
	name[strcspn(name, ",")] = '\0';
	mail = wr_asprintf("%s@%s", login, host);
	return wr_ident(*name ? name : login, mail);
}
