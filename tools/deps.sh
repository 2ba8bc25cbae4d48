#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Debian packages that a make target needs.
#   deps.sh look PACKAGE...     say which are missing; fails if any is
#   deps.sh install PACKAGE...  install the missing ones, as root or with sudo
set -u

mode=$1
shift

if ! command -v dpkg-query >/dev/null; then
	[ "$mode" = look ] && exit 0
	echo "This is no Debian system: install what these packages hold:" "$@" >&2
	exit 0
fi

missing=
for p in "$@"; do
	case " $missing " in *" $p "*) continue ;; esac
	status=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)
	[ "$status" = installed ] || missing="$missing $p"
done
[ -z "$missing" ] && exit 0

if [ "$mode" = look ]; then
	echo "These packages are missing:$missing" >&2
	echo "HINT: 'make deps' installs them (as root or with sudo)." >&2
	exit 1
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "These packages are missing:$missing" >&2
		echo "HINT: run as root: apt-get install$missing" >&2
		exit 1
	fi
	as_root=sudo
fi
apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y"

# A package list may be absent (a bare chroot) or speak of versions that are gone.
known=yes
for p in $missing; do
	apt-cache policy "$p" 2>/dev/null | grep -q 'Candidate: [^(]' || known=no
done

# shellcheck disable=SC2086 # lists of words
if [ "$known" = yes ]; then
	echo "Installing with apt-get:$missing"
	$apt install --no-install-recommends $missing && exit 0
fi
echo "Updating the package lists with apt-get"
# shellcheck disable=SC2086
$apt update || exit 1
echo "Installing with apt-get:$missing"
# shellcheck disable=SC2086
$apt install --no-install-recommends $missing
