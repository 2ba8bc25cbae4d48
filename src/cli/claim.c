/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/claim.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/str.h"
#include "sys/clock.h"
#include "sys/fs.h"

int
wr_claim(const struct wr_repo *r, const char *command, int wait_s, struct wr_lock *l,
	 struct wr_err *err)
{
	WR_SCOPED(wr_closep) int conf = wr_open_dir(wr_repo_fd(r), "conf");
	WR_SCOPED(wr_freep) char *note = NULL;

	if (conf < 0 || faccessat(conf, "settings.json", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	note = wr_asprintf("warren %s by uid %u since %s pid %d", command, (unsigned)geteuid(),
			   wr_fmt_utc(wr_clock_wall().s).s, (int)getpid());
	if (wr_lock_take(l, conf, "lock", wait_s, note, NULL, err) < 0)
		return wr_err_wrap(err, "the project whose history this is");
	return 0;
}
