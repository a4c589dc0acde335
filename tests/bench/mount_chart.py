#!/usr/bin/python3
"""Runs mount_bench with the mount at its own default durability, and writes what it found as CSV and chart. `make bench-mount` runs it, and says where
stores/chart.py is."""
import argparse
import csv
import os
import shutil
import subprocess

import chart
import machine

COLUMNS = [("kvfs_us", "kvfs", True), ("nothing_fs_us", "nothing_fs", False), ("beneath_us", "the file system beneath", False)]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--work", required=True, help="a directory for stores and mounts, which must not exist; it is removed")
    p.add_argument("--bin", required=True, help="mount_bench")
    p.add_argument("--out", required=True, help="where the results go")
    p.add_argument("--rounds", default="21")
    p.add_argument("--mib", default="256", help="of the large value")
    args = p.parse_args()
    os.environ.setdefault("KVFS_DURABILITY", "relaxed")
    note = machine.words(os.path.dirname(os.path.abspath(args.work)))
    note = f"{note}; durability={os.environ['KVFS_DURABILITY']}; median of {args.rounds} rounds, fewer of large values and storms"
    table = args.out + "/mount.csv"
    try:
        subprocess.run([args.bin, args.work, args.rounds, args.mib, table], check=True)
    finally:
        shutil.rmtree(args.work, ignore_errors=True)
    with open(table) as f:
        text = f.read()
    with open(table, "w") as f:
        f.write(f"# {note}; medians, microseconds; to_...: median of the rounds' ratios\n{text}")
    groups = [(row["call"], [(name, float(row[column]), ours) for column, name, ours in COLUMNS])
              for row in csv.DictReader(text.splitlines())]
    chart.bars(args.out + "/mount.svg", "Calls through a mount: microseconds, less is better", note, groups)


main()
