"""The workloads of store_bench on one store, in a process of its own: as main.c, which says what they are, for the stores used from Python.

    work.py NAME DIR DATA LEVEL question|fill|mix|bulk N [SECONDS [SEED]]"""
import os
import random
import sys
from time import monotonic as now

import systems

BATCH, LOOK = 1000, 16
KEY_BYTES, VALUE_MIN, VALUE_MAX = 10, 200, 1000


class Data:
    def __init__(self, path):
        with open(path + "/keys", "rb") as f:
            self.keys = f.read()
        with open(path + "/text") as f:
            self.text = f.read()

    def key(self, i):
        at = i * KEY_BYTES % len(self.keys)
        return self.keys[at:at + KEY_BYTES]

    def value(self, key):
        at = (key[2] | key[3] << 8) % (len(self.text) - VALUE_MAX)
        return self.text[at:at + VALUE_MIN + (key[0] | key[1] << 8) % (VALUE_MAX - VALUE_MIN + 1)]


def told(phase, count, begin):
    print(f"{phase} {count} {now() - begin:.6f}")


def load(store, data, start, until, seconds):
    end = now() + seconds
    for at in range(start, until, BATCH):
        if now() > end:
            return at
        store.begin()
        for i in range(at, min(at + BATCH, until)):
            key = data.key(i)
            store.put(key, data.value(key))
        store.commit()
    return until


def read_random(store, data, stored, most, seconds):
    # What is to be read is chosen before, so that the time is the store's.
    order = [data.key(random.randrange(stored)) for _ in range(min(most, 50000))]
    begin, done = now(), 0
    for key in order:
        text = store.get(key)
        done += 1
        if done % LOOK == 0 and now() - begin > seconds:
            break
    told("read", done, begin)
    if text != data.value(key):
        sys.exit("not what was stored")


def mix(store, data, stored, following, seconds):
    order = [random.randrange(10 * stored) for _ in range(50000)]
    begin, done = now(), 0
    while done % LOOK or now() - begin < seconds:
        i = order[done % len(order)]
        done += 1
        if i < stored:
            key = data.key(following)
            following += 1
            store.put(key, data.value(key))
        else:
            store.get(data.key(i % stored))
    told("mixed", done, begin)


def scan(store, stored, seconds):
    begin, found, size = now(), 0, 0
    for _, text in store.items():
        found += 1
        size += len(text)
        if found % BATCH == 0 and now() - begin > seconds:
            stored = found
            break
    told("scan", found, begin)
    if found < stored or size < stored * VALUE_MIN:
        sys.exit(f"{found} of {stored} found")


def question(store, data, n, seconds):
    pairs = []
    begin, took, i = now(), 0.0, 0
    while i < n and took < seconds:
        pairs = [(key, data.value(key)) for key in map(data.key, range(i, min(i + BATCH, n)))]
        begin = now()
        for key, text in pairs:
            store.put(key, text)
            i += 1
            if i % LOOK == 0 and took + now() - begin > seconds:
                break
        took += now() - begin
    told("insert", i, now() - took)
    load(store, data, i, n, 1e9)
    read_random(store, data, n, n, seconds)
    scan(store, n, 8 * seconds)


def bulk(store, data, path, n, seconds):
    begin = now()
    stored = load(store, data, 0, n, seconds)
    for name in systems.files(path):  # on the disk, whatever the store itself does for that
        try:
            fd = os.open(name, os.O_RDONLY)
        except FileNotFoundError:  # a thread of the store tidies up
            continue
        os.fsync(fd)
        os.close(fd)
    told("bulk", stored, begin)
    read_random(store, data, stored, stored, seconds / 4)
    scan(store, stored, seconds / 4)


def tell_memory():
    with open("/proc/self/status") as f:
        for line in f:
            for field, name in (("VmHWM:", "peak"), ("RssAnon:", "anon")):
                if line.startswith(field):
                    print(name, line.split()[1], 0)


def main(name, path, data, level, what, n, seconds="0", seed="0"):
    random.seed(int(seed))
    data, n, seconds = Data(data), int(n), float(seconds)
    store = systems.system(name).engine(path, level)
    if what == "question":
        question(store, data, n, seconds)
    elif what == "bulk":
        bulk(store, data, path, n, seconds)
    elif what == "fill":
        load(store, data, 0, n, 1e9)
    else:
        print("ready", flush=True)
        if sys.stdin.readline():
            mix(store, data, n, n * (int(seed) + 1), seconds)
    tell_memory()
    store.close()


main(*sys.argv[1:])
