/* SPDX-License-Identifier: Apache-2.0 */
/* What processes of ours get to see of our environment. */
#include <unistd.h>

#include "serve/control/control_int.h"

extern char **environ;

/* Everything of ours that settings of the node or tests come by, but no secrets. */
char **
wr_part_environment(struct wr_control *c, const char *token)
{
	static const char *const pass[] = {
	    "PATH=", "LANG=", "TZ=", "HOME=", "ASAN_OPTIONS=", "UBSAN_OPTIONS="};
	static const char *const secret[] = {"WARREN_TOKEN=", "WARREN_OP_TOKEN=", "WARREN_SOCKET=",
					     "WARREN_PROJECT=", "WARREN_URL="};
	size_t n = 0, cap = 0;
	char **env = NULL;

	for (char **e = environ; *e; e++) {
		bool take = !strncmp(*e, "WARREN_", 7);

		for (size_t i = 0; i < WR_ARRAY_LEN(pass); i++)
			take |= !strncmp(*e, pass[i], strlen(pass[i]));
		for (size_t i = 0; i < WR_ARRAY_LEN(secret); i++)
			take &= strncmp(*e, secret[i], strlen(secret[i])) != 0;
		if (!take)
			continue;
		wr_grow(&env, &cap, n + 1, sizeof(*env));
		env[n++] = wr_strdup(*e);
	}
	wr_grow(&env, &cap, n + 3, sizeof(*env));
	env[n++] = wr_asprintf("WARREN_SOCKET=%s", c->node->socket_path);
	if (token)
		env[n++] = wr_asprintf("WARREN_OP_TOKEN=%s", token);
	env[n] = NULL;
	return env;
}

void
wr_part_environment_free(char **env)
{
	for (char **e = env; *e; e++)
		free(*e);
	free(env);
}
