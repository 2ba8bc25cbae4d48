# SPDX-License-Identifier: Apache-2.0
"""How each tool is told to do the same work.  Every method gives the (argv, cwd) pairs of one
measurement; nothing is run here.  Each tool has one repository, at self.repo."""

import os
import shutil
import sys

from measure import first_line

BRANCH = "bench"


class Tool:
    name = ""
    needs = ""  # the program that must be installed

    def __init__(self, program, work):
        self.program = program
        self.repo = os.path.join(work, "repo-" + self.name)
        self.saves = 0

    def version(self):
        return first_line([self.program, "--version"])

    def init(self):
        """Untimed."""
        return []

    def restored(self, dest, tree):
        """Where in dest a restored tree lies."""
        return dest


class Warren(Tool):
    name = "Warren"
    needs = "warren"

    def version(self):
        return first_line([self.program, "version"])

    def init(self, *options):
        return [([self.program, "repo", "init", *options, self.repo], None)]

    def save(self, tree, *options):
        return [([self.program, "repo", "save", "-r", self.repo, "-n", BRANCH, "--json", *options,
                  tree], None)]

    def restore(self, dest):
        return [([self.program, "repo", "restore", "-r", self.repo, BRANCH, dest], None)]

    def verify(self):
        return [([self.program, "repo", "verify", "-r", self.repo, "--data"], None)]


class Bup(Tool):
    name = "bup"
    needs = "bup"

    def _bup(self, *args):
        return [self.program, "-d", self.repo, *args], None

    def init(self):
        return [self._bup("init")]

    def save(self, tree):
        return [self._bup("index", tree), self._bup("save", "--strip", "-q", "-n", BRANCH, tree)]

    def restore(self, dest):
        return [self._bup("restore", "-q", "-C", dest, f"/{BRANCH}/latest/.")]

    def verify(self):
        return None  # bup fsck is git verify-pack; git fsck stands for both


class Restic(Tool):
    name = "restic"
    needs = "restic"

    def version(self):
        return first_line([self.program, "version"])

    def _restic(self, *args):
        return [self.program, "-q", "-r", self.repo, *args], None

    def init(self):
        return [self._restic("init")]

    def save(self, tree):
        return [self._restic("backup", tree)]

    def restore(self, dest):
        return [self._restic("restore", "latest", "--target", dest)]

    def restored(self, dest, tree):
        return dest + tree

    def verify(self):
        return [self._restic("check", "--read-data")]


class Borg(Tool):
    name = "borg"
    needs = "borg"

    def init(self):
        return [([self.program, "init", "--encryption=none", self.repo], None)]

    def save(self, tree):
        self.saves += 1
        return [([self.program, "create", f"{self.repo}::{self.saves}", "."], tree)]

    def restore(self, dest):
        return [([self.program, "extract", f"{self.repo}::{self.saves}"], dest)]

    def verify(self):
        return [([self.program, "check", "--verify-data", self.repo], None)]


class Casync(Tool):
    name = "casync"
    needs = "casync"

    def _args(self, command, *args):
        return [([self.program, command, f"--store={self.repo}/store", *args], None)]

    def init(self):
        return [(["mkdir", "-p", self.repo + "/store"], None)]

    def save(self, tree):
        return self._args("make", self.repo + "/tree.caidx", tree)

    def restore(self, dest):
        return self._args("extract", self.repo + "/tree.caidx", dest)

    def verify(self):
        return None  # has no such command


PEERS = (Bup, Restic, Borg, Casync)


ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def find_warren():
    """The program to measure, and what every run needs besides it."""
    path = os.path.abspath(os.environ.get("WARREN_BIN") or os.path.join(ROOT, "build", "warren"))
    if not os.access(path, os.X_OK):
        sys.exit("bench: no warren at build/warren; build it, or name it in $WARREN_BIN")
    for program in ("git", "find", "cp", "sync"):
        if not shutil.which(program):
            sys.exit(f"bench: '{program}' is needed and not installed")
    return path


def find_stat(tree):
    """Reads every field of every inode of a tree: what an unchanged save has to look at."""
    return [(["find", tree, "-printf", "%p %s %m %u %g %T@ %C@ %i\\n"], None)]


def copy(tree, dest):
    return [(["cp", "-a", "--", tree, dest], None)]


def sync(dest):
    return [(["sync", "-f", dest], None)]


def git_fsck(repo):
    return [(["git", "--git-dir", repo, "fsck", "--full"], None)]


def installed_peers():
    """The peers to measure, and the names of those that are not installed."""
    here = [peer for peer in PEERS if shutil.which(peer.needs)]
    return here, [peer.name for peer in PEERS if peer not in here]


def versions(warren):
    """Who took part, as each program says it itself."""
    found = {"Warren": warren.version()}
    for peer in PEERS:
        found[peer.name] = peer(peer.needs, "/").version() or "not installed"
    for program in ("git", "find", "cp"):
        found[program] = first_line([program, "--version"]) or "not installed"
    return found
