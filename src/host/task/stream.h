/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs over a push's stream.  Towards the sender: one byte; after WR_STREAM_SYNC the sync
 * protocol (doc/format/sync.md), and behind its end, or at once after WR_STREAM_ANSWER: u32 length,
 * big endian, and the envelope of the answer (ACK, NACK or ERROR).  From the sender: the sync
 * protocol alone.
 */
#ifndef WR_TASK_STREAM_H
#define WR_TASK_STREAM_H

#define WR_STREAM_SYNC 'S'
#define WR_STREAM_ANSWER 'A'

#endif
