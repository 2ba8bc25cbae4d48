# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
/vm/bin/quota_conform btrfs /vol/btrfs
