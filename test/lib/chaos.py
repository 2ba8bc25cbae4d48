#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random kill -9 of the daemon, its fronts, workers and operations under a mixed load of many projects; then
every invariant is checked.

  chaos.py WARREN DIR [--kills N] [--projects N] [--seed N]

Prints what it did and found; exit status 0 only if everything holds.  The binary is copied into DIR, so the
processes to kill are exactly those whose image is that copy.
"""
import argparse
import base64
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

ap = argparse.ArgumentParser()
ap.add_argument("warren")
ap.add_argument("dir")
ap.add_argument("--kills", type=int, default=200)
ap.add_argument("--projects", type=int, default=50)
ap.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
ap.add_argument("--user", default="64950", help="owner of the repositories, as root")
args = ap.parse_args()

DIR = os.path.realpath(args.dir)
BIN = os.path.join(DIR, "warren")
NODE = os.path.join(DIR, "node")
VOLUME = os.path.join(DIR, "volume")
ROOT = os.geteuid() == 0
rnd = random.Random(args.seed)
print(f"seed {args.seed}", flush=True)

ENV = {k: v for k, v in os.environ.items() if not k.startswith("WARREN_")}
ENV.update(WARREN_ROOT=NODE, LC_ALL="C.UTF-8")
faults = []  # what must not be
fault_lock = threading.Lock()


def fault(text):
    with fault_lock:
        faults.append(text)
        print("FAULT", text, flush=True)


def warren(*argv, timeout=120):
    """Exit status and the JSON object, whatever happened."""
    try:
        p = subprocess.run([BIN, *argv, "--json"], env=ENV, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=timeout)
    except subprocess.TimeoutExpired:
        fault(f"{' '.join(argv)} hung for {timeout} s")
        return -1, {}
    if p.returncode < 0 or p.returncode > 5:
        fault(f"{' '.join(argv)} ended with {p.returncode}: {p.stderr[-300:]!r}")
    try:
        return p.returncode, json.loads(p.stdout) if p.stdout else {}
    except ValueError:
        # A front that is killed in the middle of a stream leaves half an answer behind, with exit status 1.
        if p.returncode == 0:
            fault(f"{' '.join(argv)} printed no JSON: {p.stdout[:200]!r}")
        return p.returncode, {}


# ---- the daemon ----

daemon = None
stopping = threading.Event()


def serve():
    global daemon
    log = open(os.path.join(DIR, "serve.log"), "ab")
    daemon = subprocess.Popen([BIN, "serve"], env=ENV, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    log.close()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        rc, o = warren("list")
        if rc == 0:
            return
        if daemon.poll() is not None:
            fault(f"the daemon ended with {daemon.returncode} at its start")
            return
        time.sleep(0.05)
    fault("the daemon is not ready after 60 s")


def ours():
    """(pid, first words) of every process whose image is our copy."""
    found = []
    for d in os.listdir("/proc"):
        if not d.isdigit():
            continue
        try:
            if os.readlink(f"/proc/{d}/exe") != BIN:
                continue
            with open(f"/proc/{d}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        found.append((int(d), [w.decode(errors="replace") for w in words]))
    return found


def role(words):
    for w in words[:2]:
        if w in ("@front", "@op", "@worker", "@keeper"):
            return w[1:]
    return "serve" if len(words) > 1 and words[1] == "serve" else "client"


killed = {}


def killer():
    done = 0
    while done < args.kills and not stopping.is_set():
        time.sleep(rnd.uniform(0.02, 0.35))
        by = {}
        for pid, words in ours():
            by.setdefault(role(words), []).append(pid)
        kinds = [k for k in ("op", "worker", "front", "serve", "op", "worker") if by.get(k)]
        if not kinds:
            continue
        kind = rnd.choice(kinds)
        pid = daemon.pid if kind == "serve" else rnd.choice(by[kind])
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        done += 1
        killed[kind] = killed.get(kind, 0) + 1
        if kind == "serve":
            daemon.wait()
            serve()
    stopping.set()


# ---- the load ----

class Project:
    def __init__(self, n):
        self.name = f"p{n:02d}"
        self.lock = threading.Lock()
        self.id = None
        self.uid = None
        self.acked = []  # (commit, file, content)
        self.serial = 0
        self.main = None  # the command's process, as long as nothing was asked to end it
        self.done = {}

    @property
    def tree(self):
        return os.path.join(VOLUME, "projects", self.id)

    @property
    def repo(self):
        return os.path.join(VOLUME, "repos", self.id)

    def count(self, what, rc):
        key = what if rc in (0, 3) else f"{what} refused or failed"
        self.done[key] = self.done.get(key, 0) + 1


def write(p):
    p.serial += 1
    name = f"work/f{p.serial % 7}"
    content = f"{p.name} {p.serial} {rnd.random()}\n" * rnd.choice([1, 10, 2000])
    path = os.path.join(p.tree, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(content)
    if ROOT:
        for x in (os.path.dirname(path), path):
            os.lchown(x, p.uid, p.uid)
    return name, content


def runtime(p):
    try:
        with open(os.path.join(NODE, "run", "run", p.id + ".json")) as f:
            return json.load(f)
    except (OSError, ValueError):
        return None


def alive(text):
    """Is the process PID:START:BOOT there?"""
    try:
        pid, start = text.split(":")[:2]
        with open(f"/proc/{pid}/stat", "rb") as f:
            fields = f.read().rpartition(b")")[2].split()
    except (OSError, ValueError, AttributeError):
        return False
    return fields[0] != b"Z" and fields[19].decode() == start


def act(p):
    what = rnd.choice(["save"] * 6 + ["start"] * 4 + ["stop", "stop", "restart", "undo", "restore", "read",
                                                     "look", "look", "settings", "files"])
    if what == "save":
        if not os.path.isdir(p.tree):
            return
        name, content = write(p)
        rc, o = warren("save", p.name)
        if rc in (0, 3) and o.get("commit"):
            p.acked.append((o["commit"], name, content))
    elif what == "start":
        rc, o = warren("start", p.name)
        if rc in (0, 3):
            r = runtime(p)
            p.main = r.get("main") if r else None
    elif what in ("stop", "restart"):
        p.main = None
        rc, o = warren(what, p.name, *(["--force"] if what == "stop" else []))
        if what == "restart" and rc in (0, 3):
            r = runtime(p)
            p.main = r.get("main") if r else None
    elif what == "undo":
        if not p.acked:
            return
        rc, o = warren("undo", p.name, rnd.choice(p.acked)[0], "--live")
    elif what == "restore":
        if not p.acked:
            return
        commit, name, content = rnd.choice(p.acked)
        rc, o = warren("restore", p.name, f"{commit}:{name}", "--in-place")
        if rc == 0:
            # Nobody else changes this project meanwhile, so the file must be what was asked for.
            try:
                with open(os.path.join(p.tree, name)) as f:
                    same = f.read() == content
            except OSError:
                same = False
            if not same:
                fault(f"{p.name}: restore of {name} from {commit} said 0, the file differs")
    elif what == "read":
        rc, o = warren("ls", p.name, "latest")
    elif what == "look":
        rc, o = warren("state", p.name)
    elif what == "files":
        rc, o = warren("files", p.name, "")
    else:
        rc, o = warren("settings", p.name, f"description=nr {p.serial}")
    p.count(what, rc)
    if p.main and not alive(p.main):
        fault(f"{p.name}: its command ended though nobody stopped it (after {what})")
        p.main = None


def load(projects):
    while not stopping.is_set():
        p = rnd.choice(projects)
        if p.lock.acquire(blocking=False):
            try:
                act(p)
            finally:
                p.lock.release()


# ---- the course of it ----

def create(projects):
    while True:
        with fault_lock:
            if not projects:
                return
            p = projects.pop()
        rc, o = warren("create", "--name", p.name, "--from", os.path.join(DIR, "seed"),
                       "--set", "command=exec sleep 100000", "--set", "stop_timeout=2s")
        if rc not in (0, 3):
            fault(f"create {p.name}: {rc} {o}")
            continue
        p.id, p.uid = o["id"], o["uid"]


def threads(n, fn, *a):
    ts = [threading.Thread(target=fn, args=a) for _ in range(n)]
    for t in ts:
        t.start()
    return ts


def settle():
    until = time.monotonic() + 120
    while time.monotonic() < until:
        # What is desired comes back a few at a time after a restart of the daemon: its operation may be yet to come.
        rc, o = warren("list")
        due = [x["name"] for x in o.get("projects", [])
               if x["desired"] and not x["state"]["active"] and x["state"]["state"] != "error"]
        rc2, o = warren("op", "list")
        live = [x for x in o.get("operations", []) if x["state"] in ("queued", "running")]
        if rc == rc2 == 0 and not live and not due:
            return
        time.sleep(0.1)
    fault(f"operations that never end: {[(x['kind'], x['name'], x['state']) for x in live]}, due: {due}")


def mounted(path):
    with open("/proc/self/mountinfo") as f:
        return any(line.split()[4] == path.replace(" ", "\\040") for line in f)


def check(projects):
    rc, o = warren("list")
    state = {x["name"]: x for x in o.get("projects", [])}
    if len(state) != len(projects):
        fault(f"{len(state)} projects are listed instead of {len(projects)}")
    for p in projects:
        s = state.get(p.name)
        if not s:
            continue
        st = s["state"]
        if st["state"] not in ("stopped", "running", "error"):
            fault(f"{p.name}: state {st['state']} with nothing going on")
        if subprocess.run(["flock", "-n", os.path.join(p.repo, "conf", "lock"), "true"]).returncode != 0:
            fault(f"{p.name}: its lock is held")
        home = s["home"]
        shown = mounted(home) if ROOT else os.path.islink(home)
        if (st["state"] == "stopped") == shown:
            print(p.name, json.dumps(s), [(x["kind"], x["state"], x["by"], x["created"], x["started"], x["finished"])
                                          for x in warren("op", "list", "--project", p.name)[1]["operations"][:6]])
        if st["state"] != "error" and shown != st["active"]:
            fault(f"{p.name}: state {st['state']}, active {st['active']}, home {'shown' if shown else 'not shown'}")
        r = runtime(p)
        if st["state"] == "stopped" and r and (alive(r.get("main")) or alive(r.get("keeper"))):
            fault(f"{p.name}: stopped, and its processes live")
        if st["state"] == "running" and not (r and alive(r.get("main"))):
            fault(f"{p.name}: running without its command")
        v = subprocess.run([BIN, "repo", "verify", "-q", "-r", p.repo], env=ENV, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT)
        if v.returncode != 0:
            fault(f"{p.name}: verify: {v.stdout[-400:]!r}")
        for commit, name, content in p.acked:
            c = subprocess.run([BIN, "repo", "cat", "-r", p.repo, f"{commit}:{name}"], env=ENV,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if c.stdout.decode(errors="replace") != content:
                fault(f"{p.name}: saved {name} is not in {commit}: {c.stderr[-200:]!r}")
                break
    for pid, words in ours():
        if role(words) in ("op", "worker"):
            fault(f"process left over: {pid} {words}")
    return state


def main():
    os.makedirs(DIR, exist_ok=True)
    shutil.copy2(args.warren, BIN)
    seed = os.path.join(DIR, "seed")
    os.makedirs(os.path.join(seed, "work"))
    for i in range(20):
        with open(os.path.join(seed, "work", f"s{i}"), "wb") as f:
            f.write(base64.b64encode(os.urandom(1 + 700 * i)))
    argv = [BIN, "init", "--dc", "dc1", "--allow-root-fs", "--reserve", "16M", VOLUME]
    if ROOT:
        argv[2:2] = ["--user", args.user]
    subprocess.run(argv, env=ENV, check=True, stdout=subprocess.DEVNULL)
    # Processes are ended by uid too: nobody else's may be met.
    first = 1000000000 + os.getpid() * 1000
    with open(os.path.join(NODE, "warren.conf"), "a") as f:
        # Nor is it about the disk of who runs this.
        f.write(f"[node]\nuid_range = {first}-{first + 999}\n[volume]\nmarks = 100,100,100\n")
    serve()
    projects = [Project(n) for n in range(args.projects)]
    begin = time.monotonic()
    for t in threads(3, create, list(projects)):
        t.join()
    projects = [p for p in projects if p.id]
    print(f"{len(projects)} projects made in {time.monotonic() - begin:.1f} s", flush=True)

    begin = time.monotonic()
    ts = threads(4, load, projects) + threads(1, killer)
    for t in ts:
        t.join()
    total = {}
    for p in projects:
        for k, v in p.done.items():
            total[k] = total.get(k, 0) + v
    print(f"{sum(killed.values())} kills in {time.monotonic() - begin:.1f} s: {killed}")
    print("done:", ", ".join(f"{v} {k}" for k, v in sorted(total.items())), flush=True)

    if daemon.poll() is not None:
        fault("the daemon is gone")
        serve()
    settle()
    state = check(projects)
    errors = [n for n, s in state.items() if s["state"]["state"] == "error"]
    print(f"states: {len(errors)} error, "
          f"{sum(s['state']['state'] == 'running' for s in state.values())} running", flush=True)

    # Whatever state they are in: each starts, saves and stops now.
    def finish(rest):
        while True:
            with fault_lock:
                if not rest:
                    return
                p = rest.pop()
            for cmd in (["start", p.name], ["save", p.name], ["stop", p.name, "--force"]):
                rc, o = warren(*cmd)
                # A restore under a running program that was cut off is not finished behind its back, and said so.
                told = o.get("warnings") or []
                if rc == 3 and told and all("was cut off and is not finished" in w for w in told):
                    continue
                if rc != 0:
                    fault(f"{' '.join(cmd)} at the end: {rc} {json.dumps(o)[:600]}")
    for t in threads(3, finish, list(projects)):
        t.join()
    settle()
    check(projects)

    os.kill(daemon.pid, signal.SIGTERM)
    try:
        if daemon.wait(30) != 0:
            fault(f"SIGTERM: the daemon ended with {daemon.returncode}")
    except subprocess.TimeoutExpired:
        fault("SIGTERM: the daemon does not end")
        daemon.kill()
    for pid, words in ours():
        fault(f"left over at the end: {pid} {words}")
        os.kill(pid, signal.SIGKILL)
    with open("/proc/self/mountinfo") as f:
        for line in f:
            if line.split()[4].startswith(DIR + "/"):
                fault(f"mounted at the end: {line.split()[4]}")
    print(f"{len(faults)} faults", flush=True)
    return 1 if faults else 0


try:
    code = main()
finally:
    stopping.set()
    if daemon and daemon.poll() is None:
        daemon.kill()
sys.exit(code)
