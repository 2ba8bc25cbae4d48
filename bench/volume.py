# SPDX-License-Identifier: Apache-2.0
"""A fresh file system for each case, where root and loop devices allow it.

ext4 does not give out an inode number again for minutes after its deletion, and searches past all
such numbers at every creation: whoever creates many files soon after many were deleted measures
the deletions (20 times slower was seen).  So each case gets an ext4 of its own in an image file,
nothing large is deleted before the last measurement in it, and the image goes as one file.
Elsewhere the case runs in an ordinary directory, and the report says so.
"""

import os
import subprocess
import tempfile

import measure

GIB = 1 << 30


def quiet(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


class Volume:
    def __init__(self, parent, size):
        self.dir = tempfile.mkdtemp(prefix="warren-bench.", dir=parent)
        self.image = os.path.join(self.dir, "image")
        self.path = os.path.join(self.dir, "fs")
        self.size = size
        self.fresh = False

    def __enter__(self):
        os.mkdir(self.path)
        try:
            self.fresh = self._mount()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _mount(self):
        if os.geteuid() != 0:
            return False
        with open(self.image, "wb") as f:
            f.truncate(self.size)
        if quiet("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1",
                 self.image) is None:
            return False
        device = quiet("losetup", "--find", "--show", "--direct-io=on", self.image)
        if not device:
            return False
        mounted = quiet("mount", "-o", "noinit_itable", device, self.path) is not None
        quiet("losetup", "-d", device)  # from now on it goes with the mount
        return mounted

    def __exit__(self, *_):
        # After an interrupted command its own children may hold the place for a moment: --lazy.
        if os.path.ismount(self.path) and quiet("umount", self.path) is None:
            quiet("umount", "--lazy", self.path)
        measure.remove(self.dir)
