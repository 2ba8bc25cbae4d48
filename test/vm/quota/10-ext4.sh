# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
/vm/bin/quota_conform prjquota /vol/ext4
