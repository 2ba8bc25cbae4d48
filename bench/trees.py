# SPDX-License-Identifier: Apache-2.0
"""The trees that are saved.  All but `share` are made from a seed and are the same everywhere.

share    what every Debian machine has: /usr/share and /usr/lib, whole directories up to a cap
big      one file of text, binary and noise in turn, and one sparse file like a disk image
tiny     files of 20 to 500 bytes, 200 to a directory
modules  like node_modules: deep, small, many exact duplicates, links in .bin
flat     files of 20 to 500 bytes, 1,000 to a directory (for the scaling section)
edits    files of 1 to 8 MiB to be edited (for bench/split-bits)
"""

import array
import os
import random
import signal
import subprocess

KIB = 1 << 10
MIB = 1 << 20


class Prose:
    """Fast pseudo text and pseudo machine code: random 16-bit numbers looked up in a table that
    holds common words more often than rare ones."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        syllables = ["ba", "con", "der", "el", "for", "ing", "ka", "lo", "men", "or", "per", "re",
                     "st", "ti", "un", "ver"]
        words = sorted({"".join(self.rng.choices(syllables, k=self.rng.randint(1, 4)))
                        for _ in range(6000)})
        self.rng.shuffle(words)
        self.words = self._table([w.encode() + self.rng.choice([b" "] * 7 + [b", ", b".\n"])
                                  for w in words])
        codes = [self.rng.randbytes(self.rng.randint(1, 6)) + bytes(self.rng.choice([0, 0, 0, 3]))
                 for _ in range(3000)]
        self.codes = self._table(codes)

    def _table(self, items):
        weights = [1 / (rank + 8) for rank in range(len(items))]
        return self.rng.choices(items, weights, k=65536)

    def _draw(self, table, size):
        parts = []
        have = 0
        while have < size:
            numbers = array.array("H", self.rng.randbytes(2 * (size // 4 + 16)))
            part = b"".join(map(table.__getitem__, numbers))
            parts.append(part)
            have += len(part)
        return b"".join(parts)[:size]

    def text(self, size):
        return self._draw(self.words, size)

    def binary(self, size):
        return self._draw(self.codes, size)

    def noise(self, size):
        return self.rng.randbytes(size)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


# ---- share ----

def _measure(path):
    """Entries that are not directories, and their bytes."""
    if os.path.islink(path) or not os.path.isdir(path):
        return 1, os.lstat(path).st_size
    files = size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            st = os.lstat(os.path.join(folder, name))
            files += 1
            size += st.st_size
    return files, size


def _take(source, dest, files_left, bytes_left, most, enter):
    """Copy what fits of source's entries, none above `most` bytes, in order of name; then enter
    the directories that did not fit.  Returns what is left."""
    os.makedirs(dest, exist_ok=True)
    too_big = []
    for name in sorted(os.listdir(source)):
        path = os.path.join(source, name)
        files, size = _measure(path)
        if os.path.lexists(os.path.join(dest, name)):
            continue
        if files > files_left or size > min(bytes_left, most):
            if os.path.isdir(path) and not os.path.islink(path):
                too_big.append((files, name))
            continue
        # Not everything below /usr is readable for everybody; what is not stays out of the tree.
        subprocess.run(["cp", "-a", "--", path, dest + "/"], check=False,
                       stderr=subprocess.DEVNULL)
        files_left -= files
        bytes_left -= size
    for _, name in sorted(too_big) if enter else []:
        files_left, bytes_left = _take(os.path.join(source, name), os.path.join(dest, name),
                                       files_left, bytes_left, most, False)
    return files_left, bytes_left


def share(dest, files, size):
    most = size // 8  # a few huge packages shall not be all of it
    left = _take("/usr/lib", os.path.join(dest, "lib"), files // 2, size // 2, most, True)
    _take("/usr/share", os.path.join(dest, "share"), files - files // 2 + left[0],
          size - size // 2 + left[1], most, True)
    # Marks that some of the tools, Warren among them, honour by leaving files out.
    subprocess.run(["find", dest, "(", "-name", "CACHEDIR.TAG", "-o", "-name", ".warrenignore", ")",
                    "-delete"], check=True)


# ---- big ----

def _big_mixed(path, size):
    prose = Prose(11)
    rng = random.Random(12)
    segments = []
    with open(path, "wb") as f:
        while f.tell() < size:
            want = min(rng.randint(64 * KIB, 4 * MIB), size - f.tell())
            if segments and rng.random() < 0.1:
                data = rng.choice(segments)[:want]  # what was there before, at a new offset
            else:
                kind = rng.choices([prose.text, prose.binary, prose.noise], [4, 3, 3])[0]
                data = kind(want)
                if len(segments) < 16:
                    segments.append(data)
            f.write(data)


def _big_image(path, size):
    """Clusters of data in a file of holes: about a seventh is allocated."""
    prose = Prose(13)
    rng = random.Random(14)
    clusters = [prose.binary(1 * MIB), prose.text(1 * MIB)]
    with open(path, "wb") as f:
        f.truncate(size)
        at = 0
        while at < size:
            run = rng.randint(1, 256) * 4 * KIB
            if rng.random() < 0.25:
                data = rng.choice(clusters)[:run]
            else:
                data = rng.choice([prose.text, prose.binary, prose.noise])(run)
            f.seek(at)
            f.write(data[:size - at])
            at += run + rng.randint(1, 1536) * 4 * KIB


def big(dest, size):
    os.makedirs(dest)
    _big_mixed(os.path.join(dest, "mixed.bin"), size)
    _big_image(os.path.join(dest, "disk.img"), size)
    write(os.path.join(dest, "notes.txt"), Prose(15).text(4 * KIB))


# ---- tiny, flat ----

def small_files(dest, files, per_dir, seed):
    prose = Prose(seed)
    rng = random.Random(seed)
    pool = prose.text(1 * MIB)
    os.makedirs(dest)
    for number in range(files):
        if number % per_dir == 0:
            folder = os.path.join(dest, f"d{number // per_dir:04d}")
            os.mkdir(folder)
        head = b"%d\n" % number
        start = rng.randrange(len(pool) - 500)
        size = rng.randint(20, 500)
        write(os.path.join(folder, f"f{number:07d}.txt"), (head + pool[start:start + size])[:size])


# ---- modules ----

def _package(folder, name, version, licenses):
    """One package; its bytes depend on name and version only, as those of a registry do."""
    rng = random.Random(f"{name}@{version}")
    prose = _package.prose
    prose.rng = rng
    os.makedirs(folder)
    write(os.path.join(folder, "package.json"),
          b'{\n  "name": "%s",\n  "version": "%s",\n  "main": "index.js"\n}\n'
          % (name.encode(), version.encode()))
    write(os.path.join(folder, "LICENSE"), licenses[rng.randrange(len(licenses))])
    write(os.path.join(folder, "README.md"), prose.text(rng.randint(300, 6000)))
    write(os.path.join(folder, "index.js"), prose.text(rng.randint(50, 3000)))
    count = 3
    for sub, ending, most in (("lib", ".js", 14), ("types", ".d.ts", 6), ("dist", ".js.map", 3)):
        parts = rng.randint(0, most)
        if parts:
            os.mkdir(os.path.join(folder, sub))
        for i in range(parts):
            size = min(int(rng.lognormvariate(7.3, 1.2)) + 20, 200 * KIB)
            write(os.path.join(folder, sub, f"part{i}{ending}"), prose.text(size))
        count += parts
    return count + 1


def modules(dest, files):
    rng = random.Random(21)
    _package.prose = prose = Prose(22)
    licenses = [prose.text(1100) for _ in range(5)]
    names = [f"mod-{prose.text(9).decode().translate({32: 45, 10: 45, 44: 45, 46: 45})}{i}"
             for i in range(max(files // 30, 20))]
    versions = ["1.0.0", "1.2.3", "2.0.1"]
    made = 0

    def fill(folder, members, depth):
        nonlocal made
        commands = []
        for name in members:
            if made >= files:
                break
            package = os.path.join(folder, name)
            made += _package(package, name, rng.choice(versions), licenses)
            commands.append(name)
            if depth < 6 and rng.random() < 0.35:
                fill(os.path.join(package, "node_modules"),
                     rng.sample(names, rng.randint(1, 6)), depth + 1)
        os.makedirs(os.path.join(folder, ".bin"), exist_ok=True)
        for name in commands[::3]:
            os.symlink(f"../{name}/index.js", os.path.join(folder, ".bin", name))

    os.makedirs(dest)
    app = 0
    while made < files:
        fill(os.path.join(dest, f"app{app}", "node_modules"),
             rng.sample(names, len(names) * 2 // 3), 1)
        app += 1


# ---- edits ----

def edits(dest, files):
    prose = Prose(31)
    rng = random.Random(32)
    os.makedirs(dest)
    for i in range(files):
        kind = (prose.text, prose.binary, prose.text, prose.noise)[i % 4]
        write(os.path.join(dest, f"file{i:03d}"), kind(rng.randint(1 * MIB, 8 * MIB)))


def edit(dest, round_number):
    """Half of the files get one to four small insertions or overwrites."""
    prose = Prose(33)
    rng = random.Random(34 + round_number)
    prose.rng = rng
    names = sorted(os.listdir(dest))
    for name in rng.sample(names, len(names) // 2):
        with open(os.path.join(dest, name), "rb") as f:
            data = bytearray(f.read())
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            piece = prose.text(rng.randint(10, 500))
            data[at:at + rng.choice([0, len(piece)])] = piece
        write(os.path.join(dest, name), data)


# ---- all ----

FULL = {
    "share": (share, 64000, 1900 * 10**6),
    "big": (big, 1 << 30),
    "tiny": (small_files, 100000, 200, 16),
    "modules": (modules, 30000),
    "edits": (edits, 40),
}
QUICK = {
    "share": (share, 8000, 240 * 10**6),
    "big": (big, 128 * MIB),
    "tiny": (small_files, 12000, 200, 16),
    "modules": (modules, 4000),
    "edits": (edits, 8),
}


def make(dest, maker, *args):
    """Make a tree and bring it into the page cache.  In a child process: see measure.py."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            maker(dest, *args)
            status = 0
        finally:
            os._exit(status)
    try:
        status = os.waitpid(pid, 0)[1]
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    if status:
        raise OSError(f"cannot make the tree for {maker.__name__}")
    warm(dest)


def warm(path):
    """Read everything once."""
    block = bytearray(1 * MIB)
    for folder, _, names in os.walk(path):
        for name in names:
            full = os.path.join(folder, name)
            if os.path.islink(full) or not os.path.isfile(full):
                continue
            with open(full, "rb", buffering=0) as f:
                while f.readinto(block):
                    pass


def census(path):
    """What a tree holds, to describe it and to see that a restore brought all of it."""
    found = {"files": 0, "dirs": 0, "links": 0, "bytes": 0}
    for folder, dirs, names in os.walk(path):
        for name in dirs:
            found["links" if os.path.islink(os.path.join(folder, name)) else "dirs"] += 1
        for name in names:
            st = os.lstat(os.path.join(folder, name))
            if (st.st_mode & 0o170000) == 0o120000:
                found["links"] += 1
            else:
                found["files"] += 1
                found["bytes"] += st.st_size
    return found


def pick(path, count):
    """Some regular files of ordinary size, spread over the tree, the same in every run."""
    all_files = []
    for folder, dirs, names in os.walk(path):
        dirs.sort()
        for name in sorted(names):
            full = os.path.join(folder, name)
            st = os.lstat(full)
            if (st.st_mode & 0o170000) == 0o100000 and st.st_nlink == 1 and st.st_size < 64 * KIB:
                all_files.append(full)
    step = max(len(all_files) // count, 1)
    return all_files[step // 2::step][:count]


def append(path, text=b"one more line\n"):
    """Without write permission too, as far as the file is ours."""
    mode = os.stat(path).st_mode & 0o7777
    if not mode & 0o200:
        os.chmod(path, mode | 0o200)
    with open(path, "ab") as f:
        f.write(text)
    if not mode & 0o200:
        os.chmod(path, mode)
