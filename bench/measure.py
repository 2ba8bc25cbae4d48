# SPDX-License-Identifier: Apache-2.0
"""Run commands and take their wall time, CPU time and peak memory; tell what machine this is.

wait4 gives a process together with all descendants it waited for, so that a command that starts
others (bup starts a dozen) is charged for them: CPU as a sum, memory as the largest single process.
A started process first runs on its starter's memory, so no peak below RSS_FLOOR can be told apart
from the driver's own size; the driver stays small by making trees in a child process.
"""

import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time

MIB = 1 << 20
SETTLE_S = 1.2


class Failed(Exception):
    """A command that was to be measured did not do its work."""


def log(text):
    print(f"[{time.monotonic() - log.start:7.1f} s] {text}", file=sys.stderr, flush=True)


log.start = time.monotonic()


class Runner:
    """Starts commands in an environment of their own; names of the work directory stay inside."""

    def __init__(self, work):
        self.work = work
        self.out = os.path.join(work, "stdout")
        self.err = os.path.join(work, "stderr")
        home = os.path.join(work, "home")
        os.makedirs(home)
        self.env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LC_ALL": "C.UTF-8",
            "HOME": home,
            "TMPDIR": home,
            "XDG_CACHE_HOME": os.path.join(home, "cache"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "BORG_BASE_DIR": os.path.join(home, "borg"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": os.path.join(home, "restic"),
        }

    def run(self, *commands):
        """Run (argv, cwd) pairs in turn as one measurement: {wall, cpu, rss}, rss in KiB."""
        total = {"wall": 0.0, "cpu": 0.0, "rss": 0}
        for argv, cwd in commands:
            with open(self.out, "wb") as out, open(self.err, "wb") as err:
                start = time.perf_counter()
                child = subprocess.Popen(argv, cwd=cwd, env=self.env, stdin=subprocess.DEVNULL,
                                         stdout=out, stderr=err)
                try:
                    _, status, usage = os.wait4(child.pid, 0)
                except BaseException:
                    child.kill()
                    child.wait()
                    raise
                wall = time.perf_counter() - start
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                raise Failed(f"{os.path.basename(argv[0])} ended with {child.returncode}: "
                             + self.complaint())
            total["wall"] += wall
            total["cpu"] += usage.ru_utime + usage.ru_stime
            total["rss"] = max(total["rss"], usage.ru_maxrss)
        return total

    def stdout(self):
        with open(self.out, encoding="utf-8", errors="replace") as f:
            return f.read()

    def complaint(self):
        """The last line of standard error, without the names of this machine."""
        with open(self.err, encoding="utf-8", errors="replace") as f:
            lines = f.read().replace(self.work, "WORK").strip().splitlines()
        return lines[-1][:200] if lines else "no message"


def settle():
    """Let files grow older than the times that careful tools distrust."""
    time.sleep(SETTLE_S)


def rss_floor():
    """KiB below which a peak says nothing about the measured process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 512


def summary(runs):
    """Median times and the highest peak of some runs of one thing."""
    return {
        "wall": statistics.median(r["wall"] for r in runs),
        "cpu": statistics.median(r["cpu"] for r in runs),
        "rss": max(r["rss"] for r in runs),
        "runs": runs,
    }


def repeat(once, limit_s, times=3):
    """Up to so many runs; a first run of more than limit_s stays the only one."""
    runs = [once()]
    while len(runs) < times and runs[0]["wall"] <= limit_s:
        runs.append(once())
    return summary(runs)


def remove(path):
    """Delete a tree or file, outside of all measuring."""
    if os.path.lexists(path):
        subprocess.run(["rm", "-rf", "--", path], check=True)


def usage(path):
    """What a repository takes: bytes in files, bytes allocated, number of files."""
    os.sync()
    found = {"bytes": 0, "allocated": 0, "files": 0}
    for folder, _, names in os.walk(path):
        for name in names:
            st = os.lstat(os.path.join(folder, name))
            found["bytes"] += st.st_size
            found["allocated"] += st.st_blocks * 512
            found["files"] += 1
    return found


def file_system(path):
    """Type of the file system that holds path."""
    st = os.stat(path)
    device = f"{os.major(st.st_dev)}:{os.minor(st.st_dev)}"
    kind = "unknown"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as f:
        for line in f:
            left, _, right = line.partition(" - ")
            if left.split()[2] == device:
                kind = right.split()[0]
    if kind == "unknown":  # btrfs shows other device numbers in stat than in mountinfo
        done = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True,
                              check=False)
        kind = done.stdout.strip() or kind
    return kind


def machine():
    facts = {"cpu": "unknown", "cores": len(os.sched_getaffinity(0)), "memory_bytes": 0,
             "kernel": platform.release().partition("-")[0], "system": "unknown", "file_system": "unknown",
             "fresh": False, "load_before": os.getloadavg()[0]}
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.startswith("model name"):
                facts["cpu"] = line.partition(":")[2].strip()
                break
    with open("/proc/meminfo", encoding="ascii") as f:
        facts["memory_bytes"] = int(f.readline().split()[1]) * 1024
    try:
        facts["system"] = platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        pass
    return facts


def first_line(argv):
    """First line that a program prints about its version; None if it is not installed."""
    if not shutil.which(argv[0]):
        return None
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"
