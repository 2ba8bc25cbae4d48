/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A name service that never answers (NSS_HANGS) or always fails.  It takes the place of
 * libnss_compat, which every Debian has and hardly anybody uses.
 */
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <unistd.h>

enum nss_status _nss_compat_getpwnam_r(const char *name, struct passwd *pw, char *buf, size_t size,
				       int *err);
enum nss_status _nss_compat_getpwuid_r(uid_t uid, struct passwd *pw, char *buf, size_t size,
				       int *err);
enum nss_status _nss_compat_getgrnam_r(const char *name, struct group *gr, char *buf, size_t size,
				       int *err);
enum nss_status _nss_compat_getgrgid_r(gid_t gid, struct group *gr, char *buf, size_t size,
				       int *err);

static enum nss_status
no_answer(int *err)
{
#ifdef NSS_HANGS
	for (;;)
		pause();
#endif
	*err = ECONNREFUSED;
	return NSS_STATUS_UNAVAIL;
}

#define UNUSED __attribute__((unused))

enum nss_status
_nss_compat_getpwnam_r(const char *name UNUSED, struct passwd *pw UNUSED, char *buf UNUSED,
		       size_t size UNUSED, int *err)
{
	return no_answer(err);
}

enum nss_status
_nss_compat_getpwuid_r(uid_t uid UNUSED, struct passwd *pw UNUSED, char *buf UNUSED,
		       size_t size UNUSED, int *err)
{
	return no_answer(err);
}

enum nss_status
_nss_compat_getgrnam_r(const char *name UNUSED, struct group *gr UNUSED, char *buf UNUSED,
		       size_t size UNUSED, int *err)
{
	return no_answer(err);
}

enum nss_status
_nss_compat_getgrgid_r(gid_t gid UNUSED, struct group *gr UNUSED, char *buf UNUSED,
		       size_t size UNUSED, int *err)
{
	return no_answer(err);
}
