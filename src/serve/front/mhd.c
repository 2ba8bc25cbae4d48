/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/front/mhd.h"

#include <dlfcn.h>

#define LIBRARY "libmicrohttpd.so.12"

struct wr_mhd wr_mhd;

static int
missing(struct wr_err *err, const char *why)
{
	wr_err_set(err, WR_E_UNSUPPORTED, "load the HTTP library: %s", why ? WR_Q(why) : LIBRARY);
	return wr_err_hint(err, "install the package libmicrohttpd12");
}

int
wr_mhd_load(struct wr_err *err)
{
	void *lib = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

	if (!lib)
		return missing(err, dlerror());
#define X(function)                                                      \
	wr_mhd.function = (__typeof__(function) *)dlsym(lib, #function); \
	if (!wr_mhd.function)                                            \
		return missing(err, dlerror());
	WR_MHD_FUNCTIONS(X)
#undef X
	return 0;
}
