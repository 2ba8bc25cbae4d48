#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A Debian package of a build directory.
#   deb.sh BUILD [VERSION]   writes BUILD/deb/warren_VERSION_ARCH.deb and prints its path
# VERSION: other than the project's, for tests of upgrades.
set -eu

build=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
option() {
	meson introspect --buildoptions "$build" | jq -r --arg n "$1" '.[] | select(.name == $n).value'
}
version=${2-$(meson introspect --projectinfo "$build" | jq -r .version)}
arch=$(dpkg --print-architecture)
package=$build/deb/warren_${version}_$arch.deb

[ "$(option prefix)" = /usr ] || {
	echo "deb.sh: '$build' is not configured for a package" >&2
	echo "HINT: meson configure -Dprefix=/usr '$build'" >&2
	exit 1
}
mkdir -p "$build/deb"
stage=$(mktemp -d "$build/deb/stage-XXXXXX")
trap 'rm -rf "$stage"' EXIT
root=$stage/root
umask 022
mkdir "$root"
chmod 755 "$root"

DESTDIR=$root meson install -C "$build" --no-rebuild --quiet --strip >"$stage/log" 2>&1 || {
	cat "$stage/log" >&2
	exit 1
}
find "$root/usr/share/man" -type f -exec gzip -9n {} +
install -d "$root/etc/warren"
install -Dm 644 "$here/../LICENSE" "$root/usr/share/doc/warren/copyright"
install -m 644 "$here/../README.md" "$root/usr/share/doc/warren/README.md"

# dpkg-shlibdeps wants a source package around it.
mkdir "$stage/debian"
printf 'Source: warren\n\nPackage: warren\nArchitecture: any\n' >"$stage/debian/control"
shlibs=$(cd "$stage" && dpkg-shlibdeps -O root/usr/bin/warren 2>"$stage/log") || {
	cat "$stage/log" >&2
	exit 1
}

install -d "$root/DEBIAN"
sed -e "s|@VERSION@|$version|; s|@ARCH@|$arch|; s|@SHLIBS@|${shlibs#shlibs:Depends=}|" \
	-e "s|@SIZE@|$(du -sk --exclude=DEBIAN "$root" | cut -f 1)|" \
	"$here/control.in" >"$root/DEBIAN/control"
install -m 755 "$here/postinst" "$here/prerm" "$here/postrm" "$root/DEBIAN/"
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z |
	xargs -0 md5sum) >"$root/DEBIAN/md5sums"

dpkg-deb --root-owner-group --build "$root" "$package.part" >/dev/null
mv "$package.part" "$package"
echo "$package"
