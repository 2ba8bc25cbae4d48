/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmicrohttpd, loaded when a front begins: it and the libraries behind it are large, and no other
 * process of Warren maps them.
 */
#ifndef WR_MHD_H
#define WR_MHD_H

#include <microhttpd.h>

#include "base/err.h"

#define WR_MHD_FUNCTIONS(X)                  \
	X(MHD_add_connection)                \
	X(MHD_add_response_footer)           \
	X(MHD_add_response_header)           \
	X(MHD_create_response_from_buffer)   \
	X(MHD_create_response_from_callback) \
	X(MHD_create_response_from_fd64)     \
	X(MHD_destroy_response)              \
	X(MHD_get_connection_info)           \
	X(MHD_get_daemon_info)               \
	X(MHD_get_timeout)                   \
	X(MHD_lookup_connection_value)       \
	X(MHD_queue_response)                \
	X(MHD_resume_connection)             \
	X(MHD_run)                           \
	X(MHD_start_daemon)                  \
	X(MHD_stop_daemon)                   \
	X(MHD_suspend_connection)

/* wr_mhd.MHD_run(daemon), and so on. */
struct wr_mhd {
#define X(function) __typeof__(function) *function;
	WR_MHD_FUNCTIONS(X)
#undef X
};
extern struct wr_mhd wr_mhd; /* fixed after wr_mhd_load */

/* WR_E_UNSUPPORTED, with the package to install, if it cannot be had. */
int wr_mhd_load(struct wr_err *err);

#endif
