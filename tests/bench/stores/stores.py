#!/usr/bin/python3
"""store_bench: kvfs beside other stores, each in a process of its own, at matched durability. `make bench-stores` runs it.

The question's own test: N inserts of random 10-byte keys and 200 to 1000 characters of text, a commit each, then as many random reads; a scan of
all; nine reads to one insert, from one process and from eight at once. A phase ends after --seconds, so what flushes inserts fewer; the rest is
loaded untimed, and all read from a store of N. Then, in a control group with little memory: a bulk load of four times that memory, and reads.
Systems take turns within each of --rounds, and each number is the median of them. Writes CSV and charts."""
import argparse
import csv
import os
import random
import shutil
import statistics
import string
import subprocess
import sys
import time

import chart
import machine
from systems import SYSTEMS, files

HERE = os.path.dirname(os.path.abspath(__file__))
PROCESSES = 8
RECORD = 640  # bytes of a key and a value, roughly, with what any store adds
GROUPS = [("all", "all", "A power cut loses nothing"), ("older", "all", "A power cut loses the latest commits, kill -9 nothing"),
          ("broken", "all", "A power cut may destroy the store, kill -9 loses nothing"),
          ("broken", "between", "Even a kill at a bad moment may damage the file")]


class Memory:
    """A control group with a limit of memory; version 1 or 2, where this process may make one."""

    def __init__(self, mib):
        self.path = None
        with open("/proc/self/cgroup") as f:
            for line in f:
                _, controllers, own = line.strip().split(":", 2)
                if "memory" in controllers.split(",") and self.make("/sys/fs/cgroup/memory", own, "memory.limit_in_bytes", mib):
                    return
                if not controllers and self.make("/sys/fs/cgroup", own, "memory.max", mib):
                    return

    def make(self, root, own, limit, mib):
        for parent in (root + own, root):
            path = f"{parent}/kvfs-bench-{os.getpid()}"
            try:
                os.mkdir(path)
                self.path = path
                with open(f"{path}/{limit}", "w") as f:
                    f.write(str(mib << 20))
                return True
            except OSError:
                self.remove()
        return False

    def enter(self):
        with open(self.path + "/cgroup.procs", "w") as f:
            f.write(str(os.getpid()))

    def remove(self):
        if self.path:
            os.rmdir(self.path)
        self.path = None


def make_data(path, keys):
    os.makedirs(path)
    with open(path + "/keys", "wb") as f:
        f.write(os.urandom(10 * keys))
    with open(path + "/text", "w") as f:
        f.write("".join(random.choices(string.ascii_letters + " " * 10, k=66000)))


class Bench:
    def __init__(self, args):
        self.args, self.complained = args, set()
        self.data, self.store = args.work + "/data", args.work + "/store"

    def command(self, system, level, *what):
        first = ([f"{self.args.bin}/{system.engine}"] if isinstance(system.engine, str) else
                 [sys.executable, HERE + "/work.py", system.name])
        return [*first, self.store, self.data, level, *map(str, what)]

    def fresh(self):
        shutil.rmtree(self.store, ignore_errors=True)
        os.mkdir(self.store)

    def file_mib(self):
        return sum(os.stat(f).st_blocks for f in files(self.store)) / 2048

    def complain(self, system, level, what, error):
        if (system.name, level, what) not in self.complained:
            self.complained.add((system.name, level, what))
            print(f"{system.name} {level}: {what}: {error.strip().splitlines()[-1] if error.strip() else 'failed'}", file=sys.stderr)

    def run(self, system, level, what, *numbers, memory=None):
        """What it told: {phase: (count, seconds)}; {} if it could not."""
        try:
            done = subprocess.run(self.command(system, level, what, *numbers), capture_output=True, text=True, timeout=self.args.timeout,
                                  preexec_fn=memory.enter if memory and memory.path else None)
        except subprocess.TimeoutExpired:
            self.complain(system, level, what, "out of time")
            return {}
        if done.returncode:
            self.complain(system, level, what, done.stderr or f"status {done.returncode}")
        return {w[0]: (int(w[1]), float(w[2])) for w in map(str.split, done.stdout.splitlines()) if len(w) == 3}

    def run_at_once(self, system, level, n, seeds):
        """Operations a second of all processes together, one for each seed; None if one of them cannot."""
        workers = [subprocess.Popen(self.command(system, level, "mix", n, self.args.seconds, seed), stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for seed in seeds]
        end, rate = time.monotonic() + self.args.timeout, 0.0
        for w in workers:
            w.stdout.readline()
        for w in workers:
            try:
                w.stdin.write("go\n")
                w.stdin.flush()
            except OSError:
                pass
        for w in workers:
            try:
                out, error = w.communicate(timeout=max(1.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                w.kill()
                out, error = w.communicate()[0], "out of time"
            told = [line.split() for line in out.splitlines() if line.startswith("mixed ")]
            if w.returncode or not told:
                self.complain(system, level, f"{len(seeds)} at once", error)
                rate = None
            elif rate is not None:
                rate += int(told[0][1]) / float(told[0][2])
        return rate

    def question(self, system, level):
        n = min(self.args.n, system.most)
        row = {"records": n}
        self.fresh()
        told = self.run(system, level, "question", n, self.args.seconds)
        row |= {phase: told[phase][0] / told[phase][1] for phase in ("insert", "read", "scan") if phase in told}
        row |= {name + "_mib": told[name][0] / 1024 for name in ("peak", "anon") if name in told}
        row["file_mib"] = self.file_mib()
        if told:
            row["mixed"] = self.run_at_once(system, level, n, [0])
            row["mixed8"] = self.run_at_once(system, level, n, range(1, PROCESSES + 1)) if system.shared else None
        return row

    def bulk(self, system, memory):
        level, n = system.levels[-1][0], 4 * (self.args.memory << 20) // RECORD
        self.fresh()
        told = self.run(system, level, "bulk", n, self.args.bulk_seconds, memory=memory)
        row = {phase: told[phase][0] / told[phase][1] for phase in ("bulk", "read", "scan") if phase in told}
        row["records"] = told["bulk"][0] if "bulk" in told else 0
        return row | {"wanted": n, "file_mib": self.file_mib()}


def median_of(rounds):
    row = {}
    for field in {f for r in rounds for f in r}:
        values = [r[field] for r in rounds if r.get(field) is not None]
        row[field] = statistics.median(values) if values else None
    return row


def write_csv(path, note, fields, rows):
    with open(path, "w", newline="") as f:
        f.write(f"# {note}\n")
        out = csv.writer(f, lineterminator="\n")
        out.writerow(fields)
        for row in rows:
            out.writerow([("" if v is None else f"{v:.4g}" if isinstance(v, float) and v < 1000 else f"{v:.0f}" if isinstance(v, float) else v)
                          for v in (row.get(f) for f in fields)])


def draw(args, note, rows):
    for field, title in (("insert", "Inserts a second, a commit each"), ("read", "Random reads a second"),
                         ("mixed8", "Operations a second of eight processes at once, nine reads to one insert")):
        groups = []
        for cut, kill, heading in GROUPS:
            bars = [(f"{r['system']}, {r['level']}", r.get(field), r["system"].startswith("kvfs")) for r in rows
                    if (r["after_power_cut"], r["after_kill"]) == (cut, kill)]
            if field == "mixed8":
                bars = [b for b in bars if b[1]]
            if bars:
                groups.append((heading, bars))
        chart.bars(f"{args.out}/stores_{field}.svg", title, note, groups)


def measure_question(args, bench, chosen, note):
    rounds = {(s.name, level[0]): [] for s in chosen for level in s.levels}
    end, whole = time.monotonic() + args.budget, 0
    while whole < args.rounds and (whole == 0 or time.monotonic() < end):
        for s in chosen:
            for level in s.levels:
                rounds[s.name, level[0]].append(bench.question(s, level[0]))
        whole += 1
        print(f"round {whole} of {args.rounds}", flush=True)
    rows = [{"system": s.name, "level": level, "after_power_cut": cut, "after_kill": kill} | median_of(rounds[s.name, level])
            for s in chosen for level, cut, kill in s.levels]
    how = f"{note}; {args.n} records, median of {whole} rounds"
    write_csv(args.out + "/stores.csv", how + "; rates in operations a second; mixed8: eight processes together",
              ["system", "level", "after_power_cut", "after_kill", "records", "insert", "read", "scan", "mixed", "mixed8", "peak_mib",
               "anon_mib", "file_mib"], rows)
    if not args.only:
        draw(args, how, rows)


def measure_bulk(args, bench, chosen, note):
    memory, rows = Memory(args.memory), []
    if not memory.path:
        print("no control group can be made here: bulk loads run without a limit of memory", file=sys.stderr)
    try:
        for s in chosen:
            rows.append({"system": s.name, "level": s.levels[-1][0]} | bench.bulk(s, memory))
    finally:
        limit = f"{args.memory} MiB of memory" if memory.path else "no limit of memory"
        memory.remove()
    write_csv(args.out + "/stores_bulk.csv", f"{note}; {limit}; random keys, {args.bulk_seconds:g} s at most to load",
              ["system", "level", "records", "wanted", "bulk", "read", "scan", "file_mib"], rows)


def measure(args):
    bench, note = Bench(args), machine.words(args.work)
    chosen = [s for s in SYSTEMS if args.only in s.name]
    make_data(bench.data, max(10 * args.n, 4 * (args.memory << 20) // RECORD))
    if args.rounds:
        measure_question(args, bench, chosen, note)
    if args.bulk_seconds:
        measure_bulk(args, bench, chosen, note)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--work", required=True, help="a directory for the stores, which must not exist; it is removed")
    p.add_argument("--bin", required=True, help="where the programs in C are")
    p.add_argument("--out", required=True, help="where the results go")
    p.add_argument("--n", type=int, default=10000, help="records")
    p.add_argument("--seconds", type=float, default=0.4, help="the longest a phase takes")
    p.add_argument("--rounds", type=int, default=3, help="of the question's own test; 0: leave it out")
    p.add_argument("--budget", type=float, default=200, help="seconds after which no further round begins")
    p.add_argument("--memory", type=int, default=32, help="MiB for the bulk load; the store gets four times as much")
    p.add_argument("--bulk-seconds", type=float, default=15, help="the longest a bulk load takes; 0: leave it out")
    p.add_argument("--timeout", type=float, default=120, help="seconds for any one process")
    p.add_argument("--only", default="", help="systems whose name contains this; no charts then")
    args = p.parse_args()
    args.work = os.path.abspath(args.work)
    os.makedirs(args.out, exist_ok=True)
    os.makedirs(args.work)
    try:
        measure(args)
    finally:
        shutil.rmtree(args.work)


if __name__ == "__main__":
    main()
