#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bup-golden.sh DIR
#
# Build a deterministic input tree in DIR/src, save it with the installed bup
# into DIR/repo, and print branch commits, root tree ids and the full
# "git ls-tree -r -t" tables, so that an independent engine can be compared
# object by object.  Needs: bup 0.33.x, git, python3 (bup depends on it).
# Root gives the fullest coverage (devices, foreign owners, trusted.*);
# without root those cases are skipped and reported.
#
# What is reproducible where:
#  * blob ids, chunk trees, git modes and mangled names: on every machine
#    (checked against the built-in digest below);
#  * .bupm blobs, directory trees and commits: only on this very tree, because
#    .bupm records ctime, owner names, attr flags and xattrs.  So run the other
#    engine on the same DIR/src after this script (same user, nothing touched)
#    and compare its tree for DIR/src with the tree of branch "final", which is
#    a save with a fresh index of the state the script leaves behind.
#    atimes are set in the future so that relatime leaves them alone (a
#    strictatime mount defeats that; the script tells).
#
# Branches: golden~1 = first state, --strip, fresh index; golden = one file
# changed, old index (its types/.bupm shows what bup writes for entries taken
# from its index); final = same state, fresh index; full, strippath, graft =
# first state under other roots; check = first state again, must equal golden~1.
set -eu

EXPECTED_DIGEST=a85e20d3d4a9bea36bc0a4eb276aa7d30ba281d9

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
[ ! -e "$1/src" ] && [ ! -e "$1/repo" ] || { echo "$1/src or $1/repo exists" >&2; exit 2; }
mkdir -p "$1"
top=$(cd "$1" && pwd -P)
src=$top/src
BUP_DIR=$top/repo TZ=UTC LC_ALL=C GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
export BUP_DIR TZ LC_ALL GIT_CONFIG_NOSYSTEM GIT_CONFIG_GLOBAL
umask 022
g() { git --git-dir="$BUP_DIR" "$@"; }

python3 - "$src" <<'PY'
import array, fcntl, hashlib, os, socket, stat, struct, sys
top = os.fsencode(sys.argv[1])
os.mkdir(top); os.chdir(top)
root = os.geteuid() == 0

def R(seed, n):                       # deterministic noise
    out = bytearray(); i = 0
    while len(out) < n:
        out += hashlib.sha512(b'%s:%d' % (seed, i)).digest(); i += 1
    return bytes(out[:n])

def w(name, data=b'', mode=0o644):
    with open(name, 'wb') as f: f.write(data)
    os.chmod(name, mode)

def attempt(what, fn, *a, **k):
    try: fn(*a, **k)
    except (OSError, AttributeError) as e:
        print('skipped: %s (%s)' % (what, e))

big = R(b'big', 4 << 20)
# --- content and chunking
os.mkdir(b'chunk')
w(b'chunk/empty'); w(b'chunk/one', b'x'); w(b'chunk/small', b'hello\n')
w(b'chunk/rand1m', R(b'rand1m', 1 << 20))
w(b'chunk/rand4m', big)                                   # levels 0..3
line = b'All work and no play makes Jack a dull boy.\n'
w(b'chunk/rep10m', (line * (10 * 1024 * 1024 // len(line) + 1))[:10 << 20])
w(b'chunk/log10m', b''.join(b'%08d backup line of a growing log file\n' % i
                            for i in range(230000)))
w(b'chunk/zeros', bytes((10 << 20) + 7))                  # 321 max-size chunks
for n in (8191, 8192, 32767, 32768, 32769, 65536, 256 * 32768, 257 * 32768):
    w(b'chunk/zero-%d' % n, bytes(n))
# files that end exactly on, or one byte after, a boundary of each level
for n in (690, 46803, 118369, 3014404):
    w(b'chunk/end-%d' % n, big[:n]); w(b'chunk/end-%d' % (n + 1), big[:n + 1])
w(b'chunk/single-l1', big[33943:46803])                   # one chunk, level 1
w(b'chunk/single-l2', big[117715:118369])                 # one chunk, level 2
# bup 0.33 stops re-scanning after a forced cut when the rest of its 8 MiB read
# block has no boundary; a plain chunk-by-chunk splitter finds one chunk more here
def low(seed, n): return bytes(65 if x & 1 else 90 for x in R(seed, n))
w(b'chunk/quirk-tail', low(b'low8', 200000))
w(b'chunk/quirk-block', bytes((8 << 20) - 100000) + low(b'low67', 200000) + R(b'tail', 60000))
with open(b'chunk/sparse', 'wb') as f:
    f.seek(3 << 20); f.write(b'island'); f.seek(6 << 20); f.write(b'end')
    f.truncate((6 << 20) + 100000)
# --- name mangling and ordering
os.mkdir(b'names')
for n in (b'a.bup', b'a.bupl', b'a.bupm', b'a.bupd', b'a.bupx', b'a.bup1', b'.bup',
          b'.bupm', b'.bupd', b'a.bup.bup', b'a.bupxx', b'bup', b'x.BUP'):
    w(b'names/' + n, n)
for n in (b'big.bup', b'big.bupl', b'big', b'.big'):
    w(b'names/' + n, big[:200000] + n)
os.symlink(b'a.bup', b'names/link.bup')
os.mkdir(b'names/dir.bup'); w(b'names/dir.bup/f', b'f')
os.mkdir(b'names/dir.bupm')
os.mkdir(b'order')
for n in (b'fo', b'fo-', b'fo.', b'fo.txt', b'fo0', b'fo~', b'chunky-', b'chunky.',
          b'chunky0', b'chunky.buo', b'chunky.buq', b'A', b'Z', b'a'):
    w(b'order/' + n, n)
os.mkdir(b'order/fo.d'); os.mkdir(b'order/foo'); os.mkdir(b'order/a-')
w(b'order/chunky', big[:150000])
os.mkdir(b'order/sub'); w(b'order/sub.c', b'c'); w(b'order/sub0', b'0'); w(b'order/sub!', b'!')
os.mkdir(b'odd')
for n in (b'sp ace', b'tab\tx', b'nl\nx', b'quote"x', b"ap'x", b'back\\slash', b'\xff\xfe',
          b'utf8-\xc3\xa9', b'-dash', b'...', b'..x', b'~', b'*', b'\x01\x7f', b'n' * 255,
          b'#h', b'=', b':colon', b'.hidden'):
    w(b'odd/' + n, b'odd')
# --- types and links
os.mkdir(b'types')
w(b'types/file', b'f')
os.symlink(b'file', b'types/link'); os.symlink(b'no/such', b'types/dangling')
os.symlink(b'/etc/hostname', b'types/abs'); os.symlink(b'.', b'types/dirlink')
os.symlink(b't' * 4000, b'types/longlink'); os.symlink(b'\xff\n x', b'types/oddlink')
attempt('fifo', os.mkfifo, b'types/fifo')
def sock():
    cwd = os.getcwdb(); os.chdir(b'types')
    s = socket.socket(socket.AF_UNIX); s.bind(b'sock'); s.close(); os.chdir(cwd)
attempt('socket', sock)
os.mkdir(b'dev')
attempt('char device', os.mknod, b'dev/null', 0o666 | stat.S_IFCHR, os.makedev(1, 3))
attempt('block device', os.mknod, b'dev/blk', 0o660 | stat.S_IFBLK, os.makedev(259, 300))
os.makedirs(b'hard/sub')
w(b'hard/m-first', b'linked'); os.link(b'hard/m-first', b'hard/z-second')
os.link(b'hard/m-first', b'hard/sub/a-third')
w(b'hard/outside', b'one name is not in the tree')
os.link(b'hard/outside', os.path.dirname(top) + b'/outside-link')
os.symlink(b'tgt', b'hard/sl1'); attempt('hard link to symlink', os.link, b'hard/sl1', b'hard/sl2',
                                         follow_symlinks=False)
w(b'hard/biglink1', big[:100000]); os.link(b'hard/biglink1', b'hard/biglink2')
# --- metadata
os.mkdir(b'meta')
w(b'meta/suid', b's', 0o4755); w(b'meta/sgid', b's', 0o2755); w(b'meta/sticky', b's', 0o1644)
w(b'meta/mode0', b'', 0 if root else 0o400); w(b'meta/exec', b'#!/bin/sh\n', 0o755)
os.mkdir(b'meta/stickydir'); os.chmod(b'meta/stickydir', 0o3777)
for n, ids in ((b'meta/unknown-owner', (54321, 65432)), (b'meta/daemon', (1, 1)),
               (b'meta/huge-ids', (4294967290, 3000000000))):
    w(n, n); attempt('chown to %d:%d' % ids, os.chown, n, *ids)
w(b'meta/xattr', b'x')
for k, v in (('user.one', b'1'), ('user.empty', b''), ('user.bin', bytes(range(256))),
             ('user.caf\u00e9', b'name is utf-8')):
    attempt('xattr ' + ascii(k), os.setxattr, b'meta/xattr', k, v)
os.mkdir(b'meta/xattrdir'); attempt('xattr on dir', os.setxattr, b'meta/xattrdir', 'user.d', b'dir')
w(b'meta/trusted', b't'); attempt('trusted xattr', os.setxattr, b'meta/trusted', 'trusted.t', b'T')
w(b'meta/cap', b'c', 0o755)
attempt('file capability', os.setxattr, b'meta/cap', 'security.capability',
        bytes.fromhex('0100000200040000000000000000000000000000'))
def acl(*e): return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *x) for x in e)
U = 0xffffffff
acc = acl((1, 6, U), (2, 4, 1), (2, 5, 54321), (4, 4, U), (8, 6, 1), (16, 7, U), (32, 0, U))
accd = acl((1, 7, U), (2, 5, 1), (2, 0, 54321), (4, 5, U), (8, 6, 1), (16, 7, U), (32, 4, U))
dfl = acl((1, 7, U), (2, 7, 1), (4, 5, U), (16, 7, U), (32, 0, U))
w(b'meta/acl', b'a'); attempt('access ACL', os.setxattr, b'meta/acl', 'system.posix_acl_access', acc)
os.mkdir(b'meta/acl-default'); attempt('default ACL', os.setxattr, b'meta/acl-default', 'system.posix_acl_default', dfl)
os.mkdir(b'meta/acl-both')
for a, v in (('access', accd), ('default', dfl)):
    attempt('dir ACL', os.setxattr, b'meta/acl-both', 'system.posix_acl_' + a, v)
w(b'meta/nodump', b'n')
def chattr(p, flag):
    fd = os.open(p, os.O_RDONLY)
    b = array.array('l', [0]); fcntl.ioctl(fd, 0x80086601, b, True)
    b[0] |= flag; fcntl.ioctl(fd, 0x40086602, b, True); os.close(fd)
attempt('chattr +d', chattr, b'meta/nodump', 0x40)
# --- directories
os.mkdir(b'emptydir'); os.makedirs(b'onlydirs/a/b'); os.mkdir(b'onlydirs/c')
os.makedirs(b'/'.join([top, b'deep'] + [b'd%d' % i for i in range(40)]))
os.mkdir(b'many')
for i in range(5000): w(b'many/f%05d' % (i * 7919 % 100000), b'%d' % (i % 10))
# --- times: fixed mtime, atime far ahead (relatime will not move it), deepest first
special = {b'meta/xattr': 1234567890123456789, b'meta/suid': -1, b'meta/sgid': -123456789 * 10**9 + 5,
           b'types/file': 2**32 * 10**9 + 999999999, b'meta/exec': 0, b'chunk/one': 1,
           b'types/link': 1500000000000000001}
AT = 2100000000 * 10**9 + 7
for d, ds, fs in os.walk(top, topdown=False):
    for n in fs + ds:
        p = os.path.join(d, n)
        os.utime(p, ns=(AT, special.get(os.path.relpath(p, top), 1600000000 * 10**9 + 123456000)),
                 follow_symlinks=False)
os.utime(top, ns=(AT, 1600000000 * 10**9))
PY

mkdir "$top/idx" "$top/out"
sleep 2       # so that no ctime is "too new" for bup index (see its tmax rule)
bup init >/dev/null 2>&1
save() {   # save BRANCH DATE INDEX [options]
    b=$1; d=$2; i=$top/idx/$3; shift 3
    bup index -f "$i" "$src" 2>/dev/null
    bup save -q -f "$i" -n "$b" -d "$d" "$@" "$src" >/dev/null
}
save golden    1700000000 golden    --strip
save full      1700000001 full
save strippath 1700000002 strippath --strip-path "$top"
save graft     1700000003 graft     --graft "$src=/graft/point"
save check     1700000004 check     --strip
printf changed >"$src/types/file"
touch -a -d @2100000000 "$src/types/file"
touch -m -d @1650000000.5 "$src/types/file"
sleep 2
save golden    1700000000 golden    --strip
save final     1700000005 final     --strip
bup tag golden-first "$(g rev-parse golden~1)"

echo "bup $(bup version 2>/dev/null | head -1), $(git --version), uid $(id -u), fs $(stat -f -c %T "$src")"
echo "== bup ls golden"
bup ls golden
echo "== branch, commit, root tree, commit time, parents"
for r in golden~1 golden final full strippath graft check; do
    printf '%-10s %s\n' "$r" "$(g log -1 --format='%H %T %at %P' "$r" --)"
done
[ "$(g rev-parse 'golden~1^{tree}')" = "$(g rev-parse 'check^{tree}')" ] \
    && echo "stable: a second fresh save gave the same root tree" \
    || echo "UNSTABLE: golden~1 and check differ - do atimes move on this mount?"
g fsck --full --no-dangling >"$top/out/fsck" 2>&1 \
    && echo "git fsck: ok" || { echo "git fsck: FAILED"; cat "$top/out/fsck"; }
# content part only: no .bupm, no directory trees, no devices
g ls-tree -r -t golden~1 >"$top/out/golden-first.table"
digest=$(awk -F'\t' '{ q=$2; split($1,a," "); sub(/^"/,"",q); sub(/"$/,"",q)
        if (q ~ /(^|\/)\.bupm(\/|$)/ || q ~ /^dev(\/|$)/) next
        if (a[2]=="tree" && q !~ /\.bup(\/|$)/) next
        print }' "$top/out/golden-first.table" | tee "$top/out/golden-first.content" | git hash-object --stdin)
echo "content digest: $digest ($( [ "$digest" = "$EXPECTED_DIGEST" ] && echo as expected || echo "EXPECTED $EXPECTED_DIGEST"))"
echo "== git ls-tree -r -t final"
g ls-tree -r -t final | tee "$top/out/final.table"
for r in golden~1 golden full strippath graft; do
    echo "== git ls-tree -r -t $r, only what final does not have (or has under another path), without contents"
    g ls-tree -r -t "$r" | grep -v -x -F -f "$top/out/final.table" \
        | awk -F'\t' '($1 ~ / tree / && $2 !~ /\.bup(\/|"|$)/) || $2 ~ /\.bupm/' || :
done
