#!/usr/bin/python3
"""What one call costs from Python, beside py-lmdb on the same machine: reads, and writes in a transaction each, without flushes and with
them, of 100-byte values, as they are and (Dict, JSON) as texts in JSON, which py-lmdb's caller gives to json.loads() and json.dumps(), in turns on the same keys: processor time of the process where nothing waits, else time. Prints the median over the rounds, and the median, least and greatest ratio.

    make python && PYTHONPATH=build/plain/python tests/bench/python_bench.py DIR [KEYS [ROUNDS]]

DIR must not exist, and is removed. It needs py-lmdb (Debian: python3-lmdb)."""
import json
import os
import random
import shutil
import statistics
import sys
import time

import lmdb

import kvfs

GETS, PUTS, FLUSHED = 20000, 2000, 100
SLICE = 4000
TEXT = 'v' * 98
VALUE = json.dumps(TEXT).encode()


def key_of(i):
    return f'key{i * 2654435761 % 100000000:08}'


def per_call(fn, keys, clock):
    start = clock()
    for key in keys:
        fn(key)
    return (clock() - start) / len(keys) * 1e6


class Lmdb:
    def __init__(self, path, flush):
        self.env = lmdb.open(path, map_size=1 << 34, sync=flush, metasync=flush)

    def load(self, keys):
        """In slices, as update() does: what a commit costs depends on what others have freed."""
        for at in range(0, len(keys), SLICE):
            with self.env.begin(write=True) as t:
                for key in keys[at:at + SLICE]:
                    t.put(key, VALUE)

    def get(self, key):
        with self.env.begin() as t:
            return t.get(key)

    def put(self, key):
        with self.env.begin(write=True) as t:
            t.put(key, VALUE)

    def get_json(self, key):
        with self.env.begin() as t:
            return json.loads(t.get(key))

    def put_json(self, key):
        with self.env.begin(write=True) as t:
            t.put(key, json.dumps(TEXT).encode())


class Kvfs:
    def __init__(self, path, flush):
        self.db = db = kvfs.open(path, 'c', durability='full' if flush else 'none')

        def put(key):
            db[key] = VALUE

        def get(key):
            return db[key]
        self.get, self.put = get, put

    def load(self, keys):
        self.db.update((key, VALUE) for key in keys)


class Dict(Kvfs):
    def __init__(self, path, flush):
        super().__init__(path, flush)
        self.db = d = kvfs.Dict(path, codec=bytes)
        j = kvfs.Dict(path)

        def get(key):
            return d[key]

        def put(key):
            d[key] = VALUE

        def get_json(key):
            return j[key]

        def put_json(key):
            j[key] = TEXT
        self.get, self.put, self.get_json, self.put_json = get, put, get_json, put_json


def compare(name, ours, theirs, keys, rounds, count, method, clock):
    costs = []
    for _ in range(rounds):
        chosen = [keys[random.randrange(len(keys))] for _ in range(count)]
        plain = [key.encode() for key in chosen]
        turns = [(ours, chosen), (theirs, plain)]
        random.shuffle(turns)
        cost = {store: per_call(getattr(store, method), turn, clock) for store, turn in turns}
        costs.append((cost[ours], cost[theirs]))
    ratios = [a / b for a, b in costs]
    print(f'{name:32} {statistics.median(a for a, _ in costs):9.2f} us  py-lmdb {statistics.median(b for _, b in costs):9.2f} us'
          f'  ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})', flush=True)


def main():
    base, n = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100000
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 11
    os.mkdir(base)
    try:
        keys = [key_of(i) for i in range(n)]
        for flush in (False, True):
            note = 'each flushed' if flush else 'not flushed'
            theirs = Lmdb(f'{base}/lmdb{flush}', flush)
            theirs.load([key.encode() for key in keys])
            for kind in (Kvfs, Dict):
                ours = kind(f'{base}/{kind.__name__}{flush}', flush)
                start = time.perf_counter()
                ours.load(keys)
                if not flush:
                    print(f'{kind.__name__}: update() of {n} keys: {(time.perf_counter() - start) / n * 1e6:.2f} us each')
                    compare(f'{kind.__name__}: read', ours, theirs, keys, rounds, GETS, 'get', time.process_time)
                if not flush and kind is Dict:
                    compare('Dict, JSON: read', ours, theirs, keys, rounds, GETS, 'get_json', time.process_time)
                    compare('Dict, JSON: write, not flushed', ours, theirs, keys, rounds, PUTS, 'put_json', time.process_time)
                compare(f'{kind.__name__}: write, {note}', ours, theirs, keys, rounds, FLUSHED if flush else PUTS, 'put',
                        time.perf_counter if flush else time.process_time)
    finally:
        shutil.rmtree(base)


if __name__ == '__main__':
    main()
