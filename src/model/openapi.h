/* SPDX-License-Identifier: Apache-2.0 */
/* The table of calls as an OpenAPI 3.1 document.  Pure. */
#ifndef WR_OPENAPI_H
#define WR_OPENAPI_H

#include "base/json.h"

/* A new reference. The same for a server that serves it and a program that prints it. */
json_t *wr_openapi(void);

#endif
