# SPDX-License-Identifier: Apache-2.0
# A few targets over meson and ninja.  `make` builds build/warren.

BUILD = build
PREFIX = /usr/local
DESTDIR =
FUZZ_SECONDS = 60
BENCH_ARGS =

# Debian packages; each target installs only its own.
DEPS_BUILD = gcc libc6-dev make git meson ninja-build pkg-config libssl-dev libisal-dev \
	libdeflate-dev libjansson-dev libseccomp-dev libsqlite3-dev libmicrohttpd-dev \
	libarchive-dev scdoc
DEPS_DEMO = bup rsync jq btrfs-progs mount openssl
DEPS_CHECK = libcmocka-dev zlib1g-dev bats bup par2 rsync jq acl attr mtree-netbsd e2fsprogs \
	fuse3 python3-fuse mount procps bsdutils libcap2-bin patch \
	python3 xxd curl openssl iproute2 faketime spin btrfs-progs xfsprogs time
DEPS_DEB = dpkg-dev jq
DEPS_VM = qemu-system-x86 debootstrap
DEPS_LINT = clang clang-format cppcheck shellcheck
DEPS_FUZZ = clang libclang-rt-14-dev
DEPS_BENCH = restic borgbackup casync iperf3 xfsprogs

export LC_ALL = C.UTF-8

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

# Unit tests are built only on request, so cmocka is no need of `make`.
$(BUILD)/build.ninja:
	@tools/deps.sh look $(DEPS_BUILD)
	meson setup $(BUILD) -Dtests=false -Dprefix=$(PREFIX)

deps:
	@tools/deps.sh install $(DEPS_BUILD)
deps-demo:
	@tools/deps.sh install $(DEPS_BUILD) $(DEPS_DEMO)
deps-check:
	@tools/deps.sh install $(DEPS_BUILD) $(DEPS_CHECK)
deps-deb:
	@tools/deps.sh install $(DEPS_BUILD) $(DEPS_DEB)
deps-vm:
	@tools/deps.sh install $(DEPS_BUILD) $(DEPS_CHECK) $(DEPS_DEB) $(DEPS_VM)
deps-lint:
	@tools/deps.sh install $(DEPS_BUILD) $(DEPS_CHECK) $(DEPS_LINT)
deps-fuzz:
	@tools/deps.sh install $(DEPS_BUILD) $(DEPS_FUZZ)
deps-bench:
	@tools/deps.sh install $(DEPS_BUILD) $(DEPS_DEMO) $(DEPS_BENCH)

demo: deps-demo
	@$(MAKE) --no-print-directory all
	tools/demo.sh $(abspath $(BUILD))/warren
	tools/demo-host.sh $(abspath $(BUILD))/warren
	tools/demo-limits.sh $(abspath $(BUILD))/warren
	tools/demo-fleet.sh $(abspath $(BUILD))/warren

# ONLY=00-frame runs the suites whose name contains that.
check: deps-check
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@meson configure $(BUILD) -Dtests=true
	@ninja -C $(BUILD) all meson-test-prereq
	@tools/check.sh $(BUILD) $(ONLY)

# What is slow to compile is more than what is slow to run, so it is optimized little.
build-asan: deps-check
	@test -f build-asan/build.ninja || meson setup build-asan -Dtests=true -Dbuildtype=debugoptimized \
		-Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false
	@ninja -C build-asan all meson-test-prereq

check-asan: build-asan
	@tools/check.sh build-asan $(ONLY)

# Guests with a kernel, file systems and an init of their own, see test/vm/README.md.
check-vm: deps-vm
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@meson configure $(BUILD) -Dtests=true -Dprefix=/usr
	@ninja -C $(BUILD) all quota_conform cgroup_test runner_test
	@echo "Guests in QEMU, with Debian's kernel; their images lie in $(BUILD)/vm"
	@$(MAKE) --no-print-directory vm-image
	@tools/check.sh --vm $(BUILD) $(ONLY)

vm-image: deps-vm
	@test/vm/image $(BUILD)/vm

fuzz: deps-fuzz
	@test -f build-fuzz/build.ninja || CC=clang meson setup build-fuzz -Dtests=false \
		-Dfuzz=true -Dbuildtype=debugoptimized
	@ninja -C build-fuzz
	@tools/fuzz.sh build-fuzz $(FUZZ_SECONDS) $(ONLY)

bench: deps-bench
	@$(MAKE) --no-print-directory all
	WARREN_BIN=$(abspath $(BUILD))/warren bench/run $(BENCH_ARGS)
	WARREN_BIN=$(abspath $(BUILD))/warren bench/host
	@ninja -C $(BUILD) bench/place_bench bench/limits_bench
	bench/place $(abspath $(BUILD))/bench/place_bench
	WARREN_BIN=$(abspath $(BUILD))/warren bench/limits $(abspath $(BUILD))/bench/limits_bench
	WARREN_BIN=$(abspath $(BUILD))/warren bench/fleet

# Its build is the one that `check` goes on with; there warnings are errors from then on.
lint: deps-lint
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@meson configure $(BUILD) -Dtests=true -Dwerror=true
	@tools/lint.sh $(BUILD)

format:
	clang-format -i $$(tools/sources.sh)

install: all
	@meson configure $(BUILD) -Dprefix=$(PREFIX)
	DESTDIR='$(DESTDIR)' meson install -C $(BUILD)

deb: deps-deb
	@$(MAKE) --no-print-directory all
	@meson configure $(BUILD) -Dprefix=/usr
	@ninja -C $(BUILD)
	@packaging/deb.sh $(BUILD)

clean:
	rm -rf $(BUILD) build-asan build-fuzz

.PHONY: all deps deps-demo deps-check deps-deb deps-vm deps-lint deps-fuzz deps-bench demo check build-asan check-asan \
	check-vm vm-image \
	fuzz bench lint format install deb clean
