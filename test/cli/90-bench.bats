#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: it is about the scripts of the benchmark
# The benchmark's own arithmetic, and that it measures the binary at all.

bats_require_minimum_version 1.5.0
load lib

@test "the benchmark's own tests" {
	run -0 python3 "$ROOT/bench/bench_test.py"
}
