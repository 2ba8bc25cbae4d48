/* SPDX-License-Identifier: Apache-2.0 */
#include "model/uuid.h"

#include <sys/random.h>

#include "model/text.h"

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

void
wr_uuid_new(struct wr_uuid *out)
{
	uint8_t b[16];
	ssize_t n;

	/* So few bytes come whole, but a signal may arrive before the pool is ready. */
	do
		n = getrandom(b, sizeof(b), 0);
	while (n < 0 && errno == EINTR);
	wr_assert(n == (ssize_t)sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* version 4 */
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80); /* variant of RFC 9562 */
	snprintf(out->s, sizeof(out->s),
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
		 b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
		 b[15]);
}

/* Does s have hex digits and dashes where an id has them?  It may end early. */
static bool
like_id(const char *s)
{
	size_t i;

	for (i = 0; s[i]; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (i >= 36 || !strchr(dash ? "-" : DIGITS "abcdef", s[i]))
			return false;
	}
	return i > 0;
}

bool
wr_uuid_parse(const char *s, struct wr_uuid *out)
{
	if (strlen(s) != 36 || !like_id(s) || s[14] != '4' || !strchr("89ab", s[19]))
		return false;
	memcpy(out->s, s, sizeof(out->s));
	return true;
}

int
wr_name_check(const char *s, struct wr_err *err)
{
	static const char hint[] =
	    "names have 1 to 63 of the characters a-z 0-9 _ . @ + -, begin with a letter or _, and "
	    "do not read as the beginning of an id";

	if (!*s)
		wr_err_set(err, WR_E_INVALID, "a name is empty");
	else if (strlen(s) > 63)
		wr_err_set(err, WR_E_INVALID, "name '%s' is longer than 63 characters", WR_Q(s));
	else if (!strchr(LOWER "_", *s))
		wr_err_set(err, WR_E_INVALID, "name '%s' does not begin with a letter a-z or '_'",
			   WR_Q(s));
	else if (s[strspn(s, LOWER DIGITS "_.@+-")])
		wr_err_set(err, WR_E_INVALID, "name '%s' has a character that names cannot have",
			   WR_Q(s));
	else if (like_id(s))
		wr_err_set(err, WR_E_INVALID, "name '%s' reads as the beginning of an id", WR_Q(s));
	else
		return 0;
	return wr_err_hint(err, hint);
}

int
wr_label_check(const char *key, const char *value, struct wr_err *err)
{
	size_t n = strlen(value);

	if (!*key || strlen(key) > 63 || !strchr(LOWER DIGITS, *key) ||
	    key[strspn(key, LOWER DIGITS "_./-")]) {
		wr_err_set(err, WR_E_INVALID, "'%s' is no key of a label", WR_Q(key));
		return wr_err_hint(err, "keys have 1 to 63 of the characters a-z 0-9 _ . / - and "
					"begin with a letter or digit");
	}
	if (n > 255)
		return wr_err_set(err, WR_E_INVALID,
				  "label '%s': its value is longer than 255 bytes", key);
	if (!wr_text_plain(value, n, false))
		return wr_err_set(err, WR_E_INVALID,
				  "label '%s': '%s' is not UTF-8 text without control characters",
				  key, WR_Q(value));
	return 0;
}

enum wr_ref_kind
wr_project_ref(const char *s)
{
	struct wr_uuid id;

	if (wr_uuid_parse(s, &id))
		return WR_REF_ID;
	if (like_id(s) && strlen(s) >= 4 && strlen(s) <= 35)
		return WR_REF_PREFIX;
	return wr_name_check(s, NULL) == 0 ? WR_REF_NAME : WR_REF_BAD;
}
