# SPDX-License-Identifier: Apache-2.0
"""What is measured on a tree, and in which order.

A case is a dict: tree (what it holds), measures[operation][tool] (see measure.summary, or
{"error": text}), repository[tool].  Tools that compare with each other run in the same round.
"""

import json
import os
import time

import measure
import tools
import trees
from measure import Failed, log

ROUNDS = 3
CHANGED_FILES = 10


class Rounds:
    """Up to three rounds; no further one begins when the time for one measurement is used up."""

    def __init__(self, budget_s):
        self.until = time.monotonic() + budget_s
        self.count = 0

    def __iter__(self):
        while self.count < ROUNDS and (not self.count or time.monotonic() < self.until):
            self.count += 1
            yield self.count


class Case:
    def __init__(self, name, tree, runner, warren, peers, limit_s):
        self.name = name
        self.tree = tree
        self.runner = runner
        self.warren = warren
        self.peers = peers
        self.limit_s = limit_s  # a peer's run that took longer is not repeated
        self.budget_s = 4 * limit_s  # after that no further round of Warren's begins
        self.measures = {}
        self.repository = {}
        self.restores_made = 0

    # ---- helpers ----

    def note(self, operation, tool, runs):
        self.measures.setdefault(operation, {})[tool] = \
            runs if isinstance(runs, dict) else measure.summary(runs)

    def attempt(self, operation, tool, work):
        """One tool's failure is shown in the table and does not end the run."""
        log(f"{self.name}: {operation}: {tool}")
        try:
            work()
            return True
        except Failed as why:
            log(f"{self.name}: {operation}: {tool}: {why}")
            self.note(operation, tool, {"error": str(why)})
            return False

    def fresh(self, tool, *options):
        measure.remove(tool.repo)
        for command in tool.init(*options):
            self.runner.run(command)
        os.sync()

    def save_warren(self, made, *options):
        """A save that must (or must not) find changes; otherwise a wrong thing was measured."""
        run = self.runner.run(*self.warren.save(self.tree, *options))
        receipt = json.loads(self.runner.stdout())
        if receipt["made"] != made:
            raise Failed(f"a save reported made={receipt['made']}")
        if receipt["skipped"]:
            raise Failed(f"a save skipped {len(receipt['skipped'])} files")
        return run

    def restored(self, place):
        """Nothing may be missing where a restore claims to be done."""
        want, got = trees.census(self.tree), trees.census(place)
        if want != got:
            raise Failed(f"the restore has {got}, the tree has {want}")

    def victim(self):
        """The file that changes: the largest of `big`, an ordinary one elsewhere."""
        if self.name == "big":
            return os.path.join(self.tree, "mixed.bin")
        return trees.pick(self.tree, 1)[0]

    # ---- operations ----

    def first_saves(self):
        def warren_first(*options):
            self.fresh(self.warren)
            return self.save_warren(True, *options)

        def warren():
            for threads in (1, 2) if self.name in ("share", "big") else ():
                self.note(f"first, {threads} threads", "Warren",
                          [warren_first("--threads", str(threads))
                           for _ in Rounds(self.budget_s)])
            self.note("first", "Warren", [warren_first() for _ in Rounds(self.budget_s)])
            self.repository["Warren"] = measure.usage(self.warren.repo)

        def peer_first(peer):
            self.fresh(peer)
            return self.runner.run(*peer.save(self.tree))

        def peer_all(peer):
            self.note("first", peer.name, measure.repeat(lambda: peer_first(peer), self.limit_s))
            self.repository[peer.name] = measure.usage(peer.repo)

        if not self.attempt("first", "Warren", warren):
            raise Failed(f"{self.name}: Warren cannot save, so there is nothing to compare")
        self.peers = [p for p in self.peers if self.attempt("first", p.name, lambda: peer_all(p))]

    def later_saves(self):
        """Unchanged saves and saves after one file grew, in turn: their difference is small."""
        victim = self.victim()

        def grow():
            trees.append(victim)
            measure.settle()

        def warren():
            runs = {"find": [], "unchanged": [], "changed": []}
            self.save_warren(False)
            for _ in Rounds(self.budget_s):
                runs["find"].append(self.runner.run(*tools.find_stat(self.tree)))
                runs["unchanged"].append(self.save_warren(False))
                grow()
                runs["changed"].append(self.save_warren(True))
            self.note("unchanged", "find -printf", runs["find"])
            self.note("unchanged", "Warren", runs["unchanged"])
            self.note("changed", "Warren", runs["changed"])
            if self.name == "share":
                for n in (1, 2):
                    self.note(f"unchanged, {n} threads", "Warren",
                              [self.save_warren(False, "--threads", str(n))
                               for _ in range(ROUNDS)])

        def peer_later(peer):
            self.runner.run(*peer.save(self.tree))
            same = measure.repeat(lambda: self.runner.run(*peer.save(self.tree)), self.limit_s)
            changed = []
            while len(changed) < len(same["runs"]):
                grow()
                changed.append(self.runner.run(*peer.save(self.tree)))
            self.note("unchanged", peer.name, same)
            self.note("changed", peer.name, changed)

        self.attempt("unchanged", "Warren", warren)
        for peer in self.peers:
            self.attempt("unchanged", peer.name, lambda: peer_later(peer))

    def into_empty(self, restore):
        """restore(dest) is (commands, place of the tree in dest).  Every restore has a directory
        of its own that stays till the end of the case; see volume.py."""
        self.restores_made += 1
        dest = f"{self.tree}-restored-{self.restores_made}"
        os.mkdir(dest)
        commands, place = restore(dest)
        os.sync()
        run = self.runner.run(*commands)
        self.restored(place)
        return run

    def copy(self):
        """cp -a, and the same with the data brought to the disk: what a restore promises."""
        self.restores_made += 1
        dest = f"{self.tree}-restored-{self.restores_made}"
        os.sync()
        copied = self.runner.run(*tools.copy(self.tree, dest))
        synced = self.runner.run(*tools.sync(dest))
        self.restored(dest)
        return copied, {"wall": copied["wall"] + synced["wall"],
                        "cpu": copied["cpu"] + synced["cpu"], "rss": copied["rss"]}

    def restores(self):
        # Every tool's newest snapshot must be the tree as it is now.
        self.save_all()

        def together():
            runs = {"Warren": [], "cp -a": [], "cp -a and sync": []}
            for _ in Rounds(self.budget_s):
                runs["Warren"].append(self.into_empty(lambda d: (self.warren.restore(d), d)))
                copied, synced = self.copy()
                runs["cp -a"].append(copied)
                runs["cp -a and sync"].append(synced)
            for tool, list_of_runs in runs.items():
                self.note("restore", tool, list_of_runs)

        def peer_restore(peer):
            self.note("restore", peer.name, measure.repeat(
                lambda: self.into_empty(
                    lambda d: (peer.restore(d), peer.restored(d, self.tree))),
                self.limit_s / 2))

        self.attempt("restore", "Warren", together)
        for peer in self.peers:
            self.attempt("restore", peer.name, lambda: peer_restore(peer))

    def save_all(self):
        measure.settle()
        self.runner.run(*self.warren.save(self.tree))
        self.peers = [p for p in self.peers if self.attempt(
            "save before restore", p.name, lambda: self.runner.run(*p.save(self.tree)))]

    def in_place(self):
        """Ten files grew; the newest snapshot is restored over the tree itself."""
        victims = trees.pick(self.tree, CHANGED_FILES)
        if len(victims) < CHANGED_FILES:
            return
        sizes = [os.path.getsize(v) for v in victims]

        def warren():
            same, restored = [], []
            for _ in Rounds(self.budget_s):
                same.append(self.save_warren(False))
                for path in victims:
                    trees.append(path)
                measure.settle()
                os.sync()
                restored.append(self.runner.run(*self.warren.restore(self.tree)))
                if [os.path.getsize(v) for v in victims] != sizes:
                    raise Failed("the files were not brought back")
                # A restore makes a safety snapshot on a branch of its choice; the next round's
                # first save is the one to compare with, so let it be an ordinary one.
                self.runner.run(*self.warren.save(self.tree))
            self.note("in place", "unchanged save", same)
            self.note("in place", "Warren", restored)

        self.attempt("in place", "Warren", warren)

    def verifies(self):
        def warren():
            runs = {"Warren": [], "git fsck": []}
            for _ in Rounds(self.budget_s):
                runs["Warren"].append(self.runner.run(*self.warren.verify()))
            self.note("verify", "Warren", runs["Warren"])
            self.note("verify", "git fsck", measure.repeat(
                lambda: self.runner.run(*tools.git_fsck(self.warren.repo)), self.limit_s))

        def peer_verify(peer):
            self.note("verify", peer.name, measure.repeat(
                lambda: self.runner.run(*peer.verify()), self.limit_s))

        self.attempt("verify", "Warren", warren)
        for peer in self.peers:
            if peer.verify():
                self.attempt("verify", peer.name, lambda: peer_verify(peer))

    def run(self):
        """The case as data."""
        census = trees.census(self.tree)
        measure.settle()
        self.first_saves()
        self.later_saves()
        self.verifies()
        self.restores()
        self.in_place()
        return {"tree": census, "measures": self.measures, "repository": self.repository}


def scale(runner, warren, tree, count):
    """A row of the scaling table: Warren alone on so many files, with one and two threads."""
    case = Case("scaling", tree, runner, warren, [], 0)
    row = {"files": count, "threads": {}}
    log(f"scaling: {count} files")
    measure.settle()
    for threads in (1, 2):
        option = ("--threads", str(threads))
        first = []
        for _ in range(ROUNDS if count < 10**6 else 1):
            case.fresh(warren)
            first.append(case.save_warren(True, *option))
        case.save_warren(False, *option)
        row["threads"][str(threads)] = {
            "first": measure.summary(first),
            "unchanged": measure.summary(
                [case.save_warren(False, *option) for _ in range(ROUNDS)]),
        }
    row["find"] = measure.summary([runner.run(*tools.find_stat(tree)) for _ in range(ROUNDS)])
    row["repository"] = measure.usage(warren.repo)
    return row
