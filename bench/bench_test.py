#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of the benchmark's own arithmetic and trees; needs no warren.  Run: bench/bench_test.py"""

import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import measure  # noqa: E402
import report  # noqa: E402
import trees  # noqa: E402


def took(wall, rss=1024):
    return measure.summary([{"wall": wall, "cpu": wall, "rss": rss}])


def case(**measures):
    return {"tree": {"files": 1, "dirs": 1, "links": 0, "bytes": 1}, "measures": measures,
            "repository": {"Warren": {"bytes": 90}, "bup": {"bytes": 100}}}


def judged(one_case):
    return {text: judge(one_case) for text, judge in report.floors()}


class Floors(unittest.TestCase):
    def verdict(self, start, one_case):
        found = [v for text, v in judged(one_case).items() if text.startswith(start)]
        self.assertEqual(len(found), 1)
        return found[0]

    def test_at_least_and_at_most(self):
        c = case(first={"Warren": took(1), "bup": took(8), "restic": took(2.9), "borg": took(9)},
                 unchanged={"Warren": took(1), "find -printf": took(0.9)},
                 changed={"Warren": took(1.05)},
                 restore={"Warren": took(1.5), "cp -a": took(1), "restic": took(7.5)})
        self.assertTrue(self.verdict("first save at least 8", c)[1])
        self.assertFalse(self.verdict("first save at least 3", c)[1])
        self.assertFalse(self.verdict("unchanged", c)[1])
        self.assertTrue(self.verdict("one changed", case(
            unchanged={"Warren": took(1)}, changed={"Warren": took(1.049)}))[1])
        self.assertTrue(self.verdict("restore at most 1.5", c)[1])
        self.assertTrue(self.verdict("restore at least 5", c)[1])
        self.assertEqual(self.verdict("repository", c), ("0.90 x", True))

    def test_peak_is_that_of_the_worst_operation(self):
        c = case(first={"Warren": took(1, 100 * 1024)}, verify={"Warren": took(1, 129 * 1024)})
        self.assertEqual(self.verdict("peak", c), ("129 MiB", False))

    def test_not_measured_is_neither_met_nor_missed(self):
        for value in judged({"tree": {}, "measures": {}, "repository": {}}).values():
            self.assertIsNone(value)
        self.assertEqual(report.verdict(None), "not measured")

    def test_failed_tool_is_shown(self):
        c = case(first={"Warren": took(1), "bup": {"error": "no space"}})
        text = "\n".join(report.time_table(c, "wall", ["borg"]))
        self.assertIn("| bup | failed |", text)
        self.assertIn("| borg | not installed |", text)
        self.assertIsNone(self.verdict("first save at least 8", c))


class Measure(unittest.TestCase):
    def test_run_counts_descendants(self):
        with tempfile.TemporaryDirectory() as work:
            spin = "import time\nwhile time.process_time() < 0.2: pass"
            run = measure.Runner(work).run(
                (["sh", "-c", f"'{sys.executable}' -c '{spin}'; true"], None))
            self.assertGreaterEqual(run["cpu"], 0.2)
            self.assertGreaterEqual(run["wall"], 0.2)

    def test_failure_names_no_directory(self):
        with tempfile.TemporaryDirectory() as work:
            with self.assertRaises(measure.Failed) as caught:
                measure.Runner(work).run((["ls", os.path.join(work, "absent")], None))
            self.assertNotIn(work, str(caught.exception))

    def test_slow_command_is_not_repeated(self):
        self.assertEqual(len(measure.repeat(lambda: took(5)["runs"][0], 4)["runs"]), 1)
        self.assertEqual(len(measure.repeat(lambda: took(3)["runs"][0], 4)["runs"]), 3)


class Trees(unittest.TestCase):
    def contents(self, path):
        found = {}
        for folder, _, names in os.walk(path):
            for name in names:
                full = os.path.join(folder, name)
                key = os.path.relpath(full, path)
                if os.path.islink(full):
                    found[key] = os.readlink(full)
                else:
                    with open(full, "rb") as f:
                        found[key] = f.read()
        return found

    def test_same_in_every_run(self):
        makers = [(trees.small_files, 300, 100, 16), (trees.modules, 200), (trees.big, 1 << 20),
                  (trees.edits, 2)]
        with tempfile.TemporaryDirectory() as work:
            for number, (maker, *args) in enumerate(makers):
                for copy in "ab":
                    trees.make(os.path.join(work, f"{copy}{number}"), maker, *args)
                first = self.contents(os.path.join(work, f"a{number}"))
                self.assertTrue(first)
                self.assertEqual(first, self.contents(os.path.join(work, f"b{number}")))

    def test_edit_changes_half_of_the_files(self):
        with tempfile.TemporaryDirectory() as work:
            tree = os.path.join(work, "t")
            trees.make(tree, trees.edits, 4)
            before = self.contents(tree)
            trees.edit(tree, 0)
            after = self.contents(tree)
            self.assertEqual(sum(before[k] != after[k] for k in before), 2)

    def test_append_keeps_the_mode(self):
        with tempfile.TemporaryDirectory() as work:
            path = os.path.join(work, "f")
            trees.write(path, b"x")
            os.chmod(path, 0o444)
            trees.append(path)
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o444)
            self.assertEqual(os.path.getsize(path), 15)


if __name__ == "__main__":
    unittest.main()
