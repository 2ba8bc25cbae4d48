/* SPDX-License-Identifier: Apache-2.0 */
/* The front: HTTP/1.1 and JSON for one user's connections, without rights. */
#ifndef WR_FRONT_H
#define WR_FRONT_H

/* Descriptor 3: the channel to control. With the argument "tls" descriptor 4 is a file in memory
 * with a private key and its certificates, the node's first, as PEM: then it serves HTTPS.
 * Sandboxed by whoever starts it; libmicrohttpd is loaded here and in no other process. */
int wr_front_main(int argc, char **argv);

#endif
