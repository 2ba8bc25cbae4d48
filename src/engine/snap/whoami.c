/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/whoami.h"

#include <pwd.h>
#include <unistd.h>

#include "engine/object/commit.h"

char *
wr_whoami(void)
{
	char host[256] = "", buf[16384];
	struct passwd pw, *p = NULL;
	WR_SCOPED(wr_freep) char *name = NULL;
	WR_SCOPED(wr_freep) char *mail = NULL;
	const char *login = "unknown";

	if (gethostname(host, sizeof(host) - 1) < 0 || !*host)
		snprintf(host, sizeof(host), "localhost");
	if (getpwuid_r(getuid(), &pw, buf, sizeof(buf), &p) == 0 && p)
		login = p->pw_name;
	name = wr_strdup(p && p->pw_gecos ? p->pw_gecos : "");
	name[strcspn(name, ",")] = '\0';
	mail = wr_asprintf("%s@%s", login, host);
	return wr_ident(*name ? name : login, mail);
}
