/* SPDX-License-Identifier: Apache-2.0 */
/* warren repo init: make a repository. */
#include "cli/cli.h"
#include "cli/out.h"
#include "engine/repo/repo.h"

int
wr_cmd_repo_init(const struct wr_args *a, struct wr_err *err)
{
	const char *path = wr_arg_repo(a, err);
	unsigned want = (unsigned)wr_arg_u64(a, "split-bits", 0);
	struct wr_repo *r;
	unsigned bits;
	bool existed;

	if (!path || wr_repo_init(path, want ? want : WR_SPLIT_BITS_DEFAULT, &existed, err) < 0)
		return -1;
	if (wr_repo_open(path, &r, err) < 0)
		return -1;
	bits = wr_repo_config(r)->split_bits;
	wr_repo_close(r);
	if (existed && want && want != bits) {
		wr_err_set(err, WR_E_EXISTS, "'%s' is a repository already, with %u split bits",
			   WR_Q(path), bits);
		return wr_err_hint(err, "a repository keeps its split bits for ever: files cut "
					"otherwise would share nothing with its history");
	}
	if (wr_out_json()) {
		json_t *o = wr_json_begin("warren.init/1");

		wr_json_path(o, "repo", path, strlen(path));
		wr_json_bool(o, "existed", existed);
		wr_json_u64(o, "split_bits", bits);
		return wr_json_print(o, err);
	}
	if (!wr_out_quiet())
		printf("%s %s (split bits %u)\n",
		       existed ? "already a repository:" : "made repository", WR_Q(path), bits);
	return 0;
}
