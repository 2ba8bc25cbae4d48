#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The C sources of the project, one per line.
cd "$(dirname "$0")/.." || exit 1
find src test bench -name '*.[ch]' -type f 2>/dev/null | LC_ALL=C sort
