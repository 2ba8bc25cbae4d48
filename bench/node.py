# SPDX-License-Identifier: Apache-2.0
"""A node with a daemon of its own, as bench/host and bench/fleet measure it."""

import base64
import http.client
import json
import os
import random
import re
import socket
import statistics
import subprocess
import time

from measure import Failed


def spread(values):
    v = sorted(values)
    return {"median": statistics.median(v), "p95": v[int(0.95 * (len(v) - 1))], "max": v[-1], "n": len(v)}


class Socket(http.client.HTTPConnection):
    """HTTP over the daemon's socket."""

    def __init__(self, path):
        super().__init__("warren", timeout=120)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(120)
        self.sock.connect(self.path)


class Node:
    """A node of its own with a daemon."""

    def __init__(self, program, work, name=""):
        self.program = program
        self.root = os.path.join(work, "node" + name)
        self.volume = os.path.join(work, "volume" + name)
        self.env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "HOME": work,
                    "WARREN_ROOT": self.root}
        self.log = os.path.join(work, f"serve{name}.log")
        self.daemon = None

    def run(self, *argv):
        p = subprocess.run([self.program, *argv, "--json"], env=self.env, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, check=False)
        if p.returncode not in (0, 3):
            raise Failed(f"warren {' '.join(argv)} ended with {p.returncode}: "
                         + p.stdout.decode(errors="replace")[-300:])
        return json.loads(p.stdout)

    def timed(self, *argv, good=(0, 3)):
        """Wall time of a whole command, as a user waits for it, in ms."""
        start = time.perf_counter()
        p = subprocess.run([self.program, *argv, "-q"], env=self.env, stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE, check=False)
        wall = time.perf_counter() - start
        if p.returncode not in good:
            raise Failed(f"warren {' '.join(argv)} ended with {p.returncode}: "
                         + p.stderr.decode(errors="replace")[-300:])
        return wall * 1000

    def configure(self, text=""):
        os.makedirs(self.root, mode=0o755, exist_ok=True)
        with open(os.path.join(self.root, "warren.conf"), "w", encoding="ascii") as f:
            f.write("[front]\nidle = 1s\n[node]\nuid_range = 1500000000-1500099999\n" + text)

    def init(self, *more):
        argv = ["init", "--dc", "dc1", "--allow-root-fs"]
        if os.geteuid() == 0:
            argv += ["--user", "nobody"]
        self.run(*argv, *more, self.volume)

    def start(self):
        with open(self.log, "ab") as out:
            self.daemon = subprocess.Popen([self.program, "serve"], env=self.env, stdin=subprocess.DEVNULL,
                                           stdout=out, stderr=out)
        begin = time.perf_counter()
        while time.perf_counter() - begin < 120:
            if subprocess.run([self.program, "version"], env=self.env, stdout=subprocess.DEVNULL,
                              check=False).returncode == 0 and self.answers():
                return time.perf_counter() - begin
            if self.daemon.poll() is not None:
                break
            time.sleep(0.01)
        with open(self.log, encoding="utf-8", errors="replace") as f:
            raise Failed("the daemon does not start: " + f.read()[-300:])

    def answers(self):
        try:
            c = Socket(os.path.join(self.root, "run", "warren.sock"))
            c.request("GET", "/v1/health")
            return c.getresponse().status == 200
        except OSError:
            return False

    def stop(self):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.terminate()
            self.daemon.wait(60)
        self.daemon = None

    def processes(self):
        """The daemon and all below it."""
        parent, found, new = {}, set(), {self.daemon.pid}
        for d in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{d}/stat", "rb") as f:
                    parent[int(d)] = int(f.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
        while new:
            found |= new
            new = {p for p, up in parent.items() if up in found} - found
        return found

    def memory(self):
        """Bytes: what is theirs alone and their share of what is shared (PSS), and resident pages counted once per
        process (RSS)."""
        pss = rss = 0
        pids = self.processes()
        for pid in pids:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
                text = f.read()
            pss += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1]) * 1024
            rss += int(re.search(r"^Rss:\s+(\d+)", text, re.M)[1]) * 1024
        return {"pss": pss, "rss": rss, "processes": len(pids)}


def seed(path, files=20):
    rnd = random.Random(5)
    os.makedirs(os.path.join(path, "work"))
    for i in range(files):
        with open(os.path.join(path, "work", f"f{i}.txt"), "wb") as f:
            f.write(base64.b64encode(rnd.randbytes(1 + 200 * i)))


def touch(tree, n):
    path = os.path.join(tree, "work", "f1.txt")
    with open(path, "a", encoding="ascii") as f:
        f.write(f"{n}\n")


def ms(x):
    return f"{x['median']:.1f} ({x['p95']:.1f})"


def met(ok):
    return "met" if ok else "**missed**"
