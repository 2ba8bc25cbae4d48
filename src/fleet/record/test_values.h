/* SPDX-License-Identifier: Apache-2.0 */
/* A small fleet and one of each thing that is signed, always the same: what doc/format/records.md
 * shows in hex. */
#ifndef WR_TEST_VALUES_H
#define WR_TEST_VALUES_H

#include "fleet/record/msg.h"

#define TEST_PROJECT "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"

enum test_kind {
	TEST_RECORD,
	TEST_SAVE,
	TEST_SETTINGS,
	TEST_GRANT,
	TEST_FLEET,
	TEST_MESSAGE,
	TEST_KINDS
};
extern const char *const test_kind_name[TEST_KINDS];

/* Key i has the seed bytes 32 i, 32 i + 1, ... 32 i + 31. */
enum { TEST_KEY_HUB, TEST_KEY_SPARE, TEST_KEY_RECOVERY, TEST_KEY_NODE };
struct wr_sign_key test_key(unsigned i);
struct wr_node_id test_node(unsigned i); /* 0, 1, 2; with key TEST_KEY_NODE + i */
struct wr_uuid test_uuid(const char *s);
struct wr_epoch test_epoch(uint64_t number);

void test_record(struct wr_record *r);
void test_save(struct wr_save_rec *s);
void test_settings(struct wr_settings_doc *d);
void test_grant(struct wr_grant *g);
void test_fleet(struct wr_fleet *f);
void test_hello(struct wr_msg *m); /* not sealed */

void test_encoded(enum test_kind k, struct wr_buf *out);
/* Does it decode, and verify by test_fleet?  What decodes must encode to the same bytes: asserted.
 */
bool test_good(enum test_kind k, const void *p, size_t len, struct wr_err *err);
/* No truncation, no byte more, no flipped bit is good. */
void test_damage(enum test_kind k, const struct wr_buf *b);

/* ret is -1 with WR_E_DENIED and a message that has says in it. */
void test_denied(int ret, const struct wr_err *err, const char *says);

#endif
