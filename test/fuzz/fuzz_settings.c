/* SPDX-License-Identifier: Apache-2.0 */
/* A settings file, and a change as typed: the text up to the first NUL is the file, what follows
 * the change. */
#include "model/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was taken is written and taken again, the same. */
static void
round_trip(const struct wr_settings *s)
{
	WR_SCOPED(wr_settings_fini) struct wr_settings back = {0};
	WR_SCOPED(wr_json_freep) json_t *o = wr_settings_json(s), *again = NULL, *show = NULL;
	struct wr_err err = WR_ERR_INIT;

	wr_assert(wr_settings_parse(o, &back, &err) == 0);
	again = wr_settings_json(&back);
	wr_assert(json_equal(o, again));
	show = wr_settings_show(&back);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WR_SCOPED(wr_settings_fini) struct wr_settings s = {0};
	WR_SCOPED(wr_freep) char *text = wr_malloc(size + 2), *home = NULL;
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_err err = WR_ERR_INIT;
	const char *change;

	if (size)
		memcpy(text, data, size);
	text[size] = text[size + 1] = '\0';
	change = text + strlen(text) + 1;
	o = wr_json_parse(text, strlen(text), &err);
	if (!o || wr_settings_parse(o, &s, &err) < 0)
		return 0;
	round_trip(&s);
	for (unsigned as = 0; as < 4; as++)
		if (wr_settings_change(&s, change, as & 1, as & 2, &err) == 0)
			round_trip(&s);
	home = wr_settings_home(&s, "/r");
	wr_assert(*home == '/');
	return 0;
}
