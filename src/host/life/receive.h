/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One push of another node, received in a process of its own (@receive), which control starts for a
 * stream of a peer (host/task/stream.h) and which judges it at its end under the locks.
 */
#ifndef WR_RECEIVE_H
#define WR_RECEIVE_H

#define WR_RECEIVE_MENDED 5
/* argv: "@receive" ROOT|- ; descriptor 3: the stream, 4: a memfd with the PUSH's envelope. Exit
 * status 0: an ACK was given; 4: refused; WR_RECEIVE_MENDED: objects came for a damaged copy; else
 * failed. */
int wr_receive_main(int argc, char **argv);

#endif
