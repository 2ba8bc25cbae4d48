# SPDX-License-Identifier: Apache-2.0
"""Tables and verdicts from the numbers of a run.

A ratio is the other tool's figure over Warren's, so more than 1 speaks for Warren; seconds stand
behind it in brackets, because they mean little on another machine.
"""

MIB = 1 << 20

TREES = {
    "share": "`share`: whole directories of /usr/share and /usr/lib, as every Debian machine has "
             "them",
    "big": "`big`: one file of text, binary and noise in turn, and one sparse file like a disk "
           "image",
    "tiny": "`tiny`: files of 20 to 500 bytes",
    "modules": "`modules`: like node_modules: deep, small files, many duplicates, links",
}
ORDER = ["Warren", "bup", "restic", "borg", "casync"]
OPERATIONS = [
    ("first", "first save"),
    ("unchanged", "unchanged save"),
    ("changed", "one changed file"),
    ("restore", "restore to an empty directory"),
    ("verify", "verify all data"),
]


# ---- numbers ----

def figure(case, operation, tool, what="wall"):
    """A figure, or None if it was not measured."""
    return case["measures"].get(operation, {}).get(tool, {}).get(what)


def size_of(case, tool):
    return case["repository"].get(tool, {}).get("bytes")


def over(a, b):
    return a / b if a is not None and b else None


def number(x):
    """Three figures, as far as they are worth something."""
    if x >= 100:
        return f"{x:,.0f}"
    return f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def seconds(x):
    return f"{x * 1000:.0f} ms" if x < 0.9995 else f"{x:.1f} s"


def mib(size):
    return f"{size / MIB:,.0f} MiB" if size >= 10 * MIB else f"{size / MIB:.1f} MiB"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


# ---- floors ----

def peak_kib(case):
    """Warren's highest peak in any operation, None if there is none."""
    peaks = [by["Warren"]["rss"] for by in case["measures"].values() if "rss" in by.get("Warren", {})]
    return max(peaks, default=None)


def faster(case, operation, *peers):
    times = [figure(case, operation, p) for p in peers]
    return min((t for t in times if t is not None), default=None)


def growth_ms(case, tool):
    same, changed = figure(case, "unchanged", tool), figure(case, "changed", tool)
    return None if same is None or changed is None else (changed - same) * 1000


def at_least(floor, value):
    return None if value is None else (f"{number(value)} x", value >= floor)


def at_most(ceiling, value, unit="x"):
    return None if value is None else (f"{number(value)} {unit}", value <= ceiling)


def warren_over(case, operation, other, other_operation=None):
    return over(figure(case, operation, "Warren"),
                figure(case, other_operation or operation, other))


def floors():
    """(text, judge): judge(case) gives (value as text, met), None if not measured."""
    def first(case, peers):
        return over(faster(case, "first", *peers), figure(case, "first", "Warren"))

    def restore(case):
        return over(figure(case, "restore", "restic"), figure(case, "restore", "Warren"))

    def verify(case):
        return over(figure(case, "verify", "git fsck"), figure(case, "verify", "Warren"))

    def peak(case):
        kib = peak_kib(case)
        return None if kib is None else kib / 1024

    return [
        ("first save at least 8 x faster than bup",
         lambda c: at_least(8, first(c, ["bup"]))),
        ("first save at least 3 x faster than the faster of restic and borg",
         lambda c: at_least(3, first(c, ["restic", "borg"]))),
        ("unchanged save at most 1 x `find -printf`",
         lambda c: at_most(1, warren_over(c, "unchanged", "find -printf"))),
        ("one changed file at most 50 ms more than none",
         lambda c: at_most(50, growth_ms(c, "Warren"), "ms")),
        ("restore at most 1.5 x `cp -a`",
         lambda c: at_most(1.5, warren_over(c, "restore", "cp -a"))),
        ("restore at least 5 x faster than restic",
         lambda c: at_least(5, restore(c))),
        ("restore in place of 10 changed files at most 2 x an unchanged save",
         lambda c: at_most(2, warren_over(c, "in place", "unchanged save"))),
        ("`verify --data` at least 5 x faster than `git fsck --full`",
         lambda c: at_least(5, verify(c))),
        ("repository at most 1 x bup's",
         lambda c: at_most(1, over(size_of(c, "Warren"), size_of(c, "bup")))),
        ("peak memory at most 128 MiB",
         lambda c: at_most(128, peak(c), "MiB")),
    ]


def verdict(judged):
    if judged is None:
        return "not measured"
    value, met = judged
    return f"{value}, met" if met else f"{value}, **missed**"


def floor_table(results):
    cases = results["cases"]
    rows = []
    for text, judge in floors():
        row = [text]
        for name, case in cases.items():
            if name == "big" and "changed file" in text and "in place" not in text:
                row.append("does not apply: the file is 1 GiB")
            elif name == "big" and "in place" in text:
                row.append("does not apply: no 10 files")
            else:
                row.append(verdict(judge(case)))
        rows.append(row)
    return table(["Floor"] + [f"`{n}`" for n in cases], rows)


# ---- one tree ----

def cell(mine, theirs, unit):
    if theirs is None:
        return "not measured"
    if mine:
        return f"{number(theirs / mine)} ({unit(theirs)})"
    return f"({unit(theirs)})"


def time_table(case, what, not_installed):
    """Rows are tools, columns operations; `changed` is a difference, not a time."""
    names = ORDER + ["find -printf", "cp -a", "cp -a and sync", "git fsck"]
    rows = []
    for tool in names:
        row = [tool]
        for operation, _ in OPERATIONS:
            done = case["measures"].get(operation, {})
            if operation == "changed":
                delta = growth_ms(case, tool) if what == "wall" else None
                row.append("" if delta is None else f"{delta:+,.0f} ms")
            elif "error" in done.get(tool, {}):
                row.append("failed")
            elif tool in done:
                row.append(cell(figure(case, operation, "Warren", what),
                                done[tool][what], seconds))
            else:
                row.append("not installed" if tool in not_installed else "")
        if any(row[1:]):
            rows.append(row)
    head = ["Tool"] + [title for op, title in OPERATIONS if what == "wall" or op != "changed"]
    if what != "wall":
        at = [op for op, _ in OPERATIONS].index("changed") + 1
        rows = [row[:at] + row[at + 1:] for row in rows]
    return table(head, rows)


def space_table(case, rss_floor_kib, not_installed):
    def peak(tool, operation):
        kib = figure(case, operation, tool, "rss")
        if kib is None:
            return ""
        return f"at most {mib(rss_floor_kib * 1024)}" if kib <= rss_floor_kib else mib(kib * 1024)

    rows = []
    for tool in ORDER:
        if tool in not_installed:
            rows.append([tool, "not installed"] + [""] * (len(OPERATIONS)))
        elif tool in case["repository"]:
            rows.append([tool, cell(size_of(case, "Warren"), size_of(case, tool), mib)] +
                        [peak(tool, op) for op, _ in OPERATIONS])
    return table(["Tool", "repository"] + ["peak: " + title for _, title in OPERATIONS], rows)


def tree_section(name, case, results):
    tree = case["tree"]
    lines = [f"## {name}", "",
             f"{TREES[name]}: {tree['files']:,} files, {tree['dirs']:,} directories, "
             f"{tree['links']:,} symlinks, {tree['bytes'] / 10**6:,.1f} MB.", "",
             "Wall time, times Warren's:", ""]
    lines += time_table(case, "wall", results["not_installed"])
    lines += ["CPU time (user and system, all processes), times Warren's:", ""]
    lines += time_table(case, "cpu", results["not_installed"])
    lines += ["Repository, times Warren's, and peak memory of the largest process:", ""]
    lines += space_table(case, results["rss_floor_kib"], results["not_installed"])
    if figure(case, "in place", "Warren"):
        ratio = warren_over(case, "in place", "unchanged save")
        lines += [f"Restore in place over the tree after 10 files changed: {number(ratio)} x an "
                  f"unchanged save ({seconds(figure(case, 'in place', 'Warren'))} against "
                  f"{seconds(figure(case, 'in place', 'unchanged save'))}).", ""]
    pairs = [(op, figure(case, f"{op}, 1 threads", "Warren"),
              figure(case, f"{op}, 2 threads", "Warren")) for op in ("first", "unchanged")]
    for op, one, two in pairs:
        if one and two:
            lines += [f"{op.capitalize()} save with 2 threads: {number(one / two)} x as fast as "
                      f"with 1 ({seconds(one)}, {seconds(two)}).", ""]
    return lines


def scaling_section(rows):
    lines = ["## Scaling", "",
             "Warren alone; files of 20 to 500 bytes, 1,000 to a directory. `find` is the wall time "
             "of `find -printf` over the same tree; per file is against the first row.", ""]
    base = {}
    out = []
    for row in rows:
        one = row["threads"]["1"]
        for threads, got in row["threads"].items():
            line = [f"{row['files']:,}", threads]
            for op in ("first", "unchanged"):
                wall = got[op]["wall"]
                per_file = wall / row["files"]
                base.setdefault((op, threads), per_file)
                line += [f"{number(one[op]['wall'] / wall)} ({seconds(wall)})",
                         number(per_file / base[op, threads])]
            line += [number(got["unchanged"]["wall"] / row["find"]["wall"]),
                     mib(got["first"]["rss"] * 1024), mib(got["unchanged"]["rss"] * 1024)]
            out.append(line)
    return lines + table(["Files", "Threads", "first save: speed-up", "time per file",
                          "unchanged: speed-up", "time per file", "unchanged over `find`",
                          "peak: first", "peak: unchanged"], out)


# ---- whole ----

def failures(results, tool=None):
    """(case, operation, tool, text) of everything that did not work."""
    return [(name, operation, who, got["error"])
            for name, case in results["cases"].items()
            for operation, by in case["measures"].items()
            for who, got in by.items() if "error" in got and tool in (None, who)]


def not_measured(results):
    lines = []
    if results["not_installed"]:
        lines.append("- Not installed on this machine: " + ", ".join(results["not_installed"]) + ".")
    if results["not_run"]:
        lines.append("- Left out of this run: " + ", ".join(results["not_run"]) + ".")
    if results["quick"]:
        lines.append("- `--quick`: trees of about an eighth of the size, scaling to 100,000 files "
                     "only. The floors are meant for the whole trees.")
    lines += [f"- {tool} failed at `{operation}` on `{name}`: {text}"
              for name, operation, tool, text in failures(results)]
    lines += [
        "- bup and casync have no verification of their own that could be compared; `git fsck` "
        "ran on Warren's repository.",
        "- No cold page cache, no network, no second repository on the machine, no encryption for "
        "borg (restic has no way to leave it out).",
    ]
    return lines


def markdown(results):
    m = results["machine"]
    lines = ["<!-- SPDX-License-Identifier: Apache-2.0 -->",
             "<!-- Made by bench/run; edit that, not this. -->", "", "# Benchmarks", "",
             "Every figure of this page is from one run on one machine. A ratio is the other tool's "
             "figure over Warren's: above 1 speaks for Warren. Seconds stand in brackets, since "
             "they mean little elsewhere.", ""]
    lines += table(["Machine", ""], [
        ["CPU", f"{m['cpu']}, {m['cores']} cores"],
        ["Memory", f"{m['memory_bytes'] / (1 << 30):.1f} GiB"],
        ["System", f"{m['system']}, Linux {m['kernel']}"],
        ["File system", m["file_system"] + (", freshly made for each case in an image file"
                                             if m["fresh"] else ", in use")],
        ["Load before the run", f"{m['load_before']:.2f}"],
    ])
    lines += table(["Program", "Version"], [[k, v] for k, v in results["versions"].items()])
    if results["cases"]:
        lines += ["## Floors", "", "What Warren must reach, and whether it did:", ""]
        lines += floor_table(results)
    for name, case in results["cases"].items():
        lines += tree_section(name, case, results)
    if results.get("scaling"):
        lines += scaling_section(results["scaling"])
    lines += ["## Not measured", ""] + not_measured(results) + [""]
    lines += [
        "## How", "",
        "- Each case has a file system of its own if root and loop devices allow: ext4 creates "
        "files many times slower for minutes after many were deleted, so nothing large is deleted "
        "before a case has ended.",
        "- The tree lies in the page cache (it was read once); every repository and target is on "
        "the same file system; `sync` runs before each command that writes.",
        f"- Median of 3 runs. A peer has one if its first took more than {results['limit_s']} s (a "
        f"restore: {results['limit_s'] / 2:.0f} s), Warren and what takes turns with it fewer after "
        f"{4 * results['limit_s']} s; `results.json` has every run. "
        "First saves go into a fresh repository; unchanged saves follow one that is not counted.",
        "- One changed file: a line is appended to one file; the figure is the save after that less "
        "an unchanged save. In `big` it is the file of 1 GiB.",
        "- Restores go into an empty directory and are compared with the tree by number of files, "
        "directories and links and by size; Warren, `cp -a` and `cp -a` with `sync` take turns.",
        "- Each tool runs as it comes: Warren with its default split bits, bup index and save, "
        "restic and borg with their default compression, casync with a store of its own.",
        "- CPU time covers a command and all processes it started. Memory is the peak resident set "
        "of the largest of them, mapped files included.",
        "",
    ]
    return "\n".join(lines)
