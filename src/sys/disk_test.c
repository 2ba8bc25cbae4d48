/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of disks. With real ones and their schedulers it is tested in the VM lane.
 */
#include "sys/disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"

static void
test_disk__scheduler_in_force(void **state)
{
	static const char *const wrong[] = {"", "\n", "[]", "mq-deadline kyber\n",
					    "[a-name-that-is-longer-than-any-of-them-is]"};
	char s[32];

	(void)state;
	assert_true(wr_disk_scheduler("none [mq-deadline] bfq\n", s, sizeof(s)));
	assert_string_equal(s, "mq-deadline");
	assert_true(wr_disk_scheduler("[none]\n", s, sizeof(s)));
	assert_string_equal(s, "none");
	assert_true(wr_disk_scheduler("none\n", s, sizeof(s)));
	assert_string_equal(s, "none");
	for (size_t i = 0; i < WR_ARRAY_LEN(wrong); i++)
		assert_false(wr_disk_scheduler(wrong[i], s, sizeof(s)));
}

static void
test_disk__io_cost(void **state)
{
	static const char qos[] = "8:16 enable=0 ctrl=auto\n8:0 enable=1 ctrl=auto rpct=0.00\n"
				  "253:1 enable=1";

	(void)state;
	assert_true(wr_disk_io_cost(qos, 8, 0));
	assert_true(wr_disk_io_cost(qos, 253, 1));
	assert_false(wr_disk_io_cost(qos, 8, 16));
	assert_false(wr_disk_io_cost(qos, 8, 1));
	assert_false(wr_disk_io_cost("", 8, 0));
	assert_false(wr_disk_io_cost("8:0\nenable=1\n", 8, 0));
}

static void
test_disk__below(void **state)
{
	struct wr_disk d[4];
	size_t n = wr_disks_below(".", d, WR_ARRAY_LEN(d));

	(void)state;
	assert_true(n <= WR_ARRAY_LEN(d));
	for (size_t i = 0; i < n; i++) {
		assert_true(*d[i].name && !strchr(d[i].name, '/'));
		assert_true(*d[i].scheduler);
		assert_true(d[i].weights || strcmp(d[i].scheduler, "bfq") != 0);
	}
	assert_int_equal(wr_disks_below("/proc", d, WR_ARRAY_LEN(d)), 0);
	assert_int_equal(wr_disks_below("/no/such/place", d, WR_ARRAY_LEN(d)), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_disk__scheduler_in_force),
	    cmocka_unit_test(test_disk__io_cost),
	    cmocka_unit_test(test_disk__below),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
