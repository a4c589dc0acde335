"""Many threads, many processes, forks."""
import gc
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time

import kvfs
from support import SECONDS, Case

GIB = float(os.environ.get('KVFS_PYTHON_GIB', '0.1'))


def in_child(fn):
    """Forks; what fn raises is the child's exit status 1."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            fn()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def count_up(args):
    d, processes, threads = args
    counts, ready = [0] * threads, d.sub('ready')
    ready[os.getpid()] = 1
    while len(ready) < processes:
        time.sleep(0.01)
    until = time.time() + SECONDS

    def work(me):
        while time.time() < until:
            key = counts[me] % 3

            def change(t):
                t[key] = t.get(key, 0) + 1
                t['all'] = t.get('all', 0) + 1
            d.atomically(change, tries=100000)
            counts[me] += 1
    pool = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for t in pool:
        t.start()
    for t in pool:
        t.join()
    return sum(counts)


def put_own(d):
    d[os.getpid()] = 'child'
    return os.getpid()


class Sharing(Case):
    def test_no_update_is_lost_by_ten_processes_of_eight_threads(self):
        d = self.dict()
        with multiprocessing.get_context('fork').Pool(10) as pool:
            done = pool.map(count_up, [(d, 10, 8)] * 10, chunksize=1)
        print(f'{sum(done)} updates', end=' ')
        self.assertGreater(sum(done), 100)
        self.assertEqual(d['all'], sum(done))
        self.assertEqual(sum(d[i] for i in range(3)), sum(done))

    def test_increments_from_threads(self):
        db = self.tree()
        pool = [threading.Thread(target=lambda: [db.incr('n') for _ in range(500)]) for _ in range(8)]
        for t in pool:
            t.start()
        for t in pool:
            t.join()
        self.assertEqual(db['n'], b'4000')

    def test_one_transaction_file_and_iterator_used_by_many_threads(self):
        db = self.tree()
        db.update({f'{i:04}': str(i) for i in range(2000)})
        t, keys, f = db.transaction(), iter(db), db.file('big', 'wb', buffering=0)
        got, errors = [], []

        def work(me):
            try:
                for i in range(200):
                    t[f'new/{me}/{i}'] = b'x'
                    t[f'{i:04}']
                    f.write(b'0123456789')
                got.extend(keys)
            except BaseException as e:
                errors.append(e)
        pool = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        self.assertEqual(errors, [])
        t.commit()
        f.close()
        self.assertEqual(sorted(got), [f'{i:04}' for i in range(2000)])
        self.assertEqual(len(db), 2000 + 1200 + 1)

    def test_close_while_others_are_in_it(self):
        for _ in range(20):
            db = kvfs.open(self.path, 'c', durability='none')
            stop, errors = [], []

            def work():
                try:
                    while not stop:
                        db['a'] = b'1'
                        list(db.items())
                except kvfs.Closed:
                    pass
                except BaseException as e:
                    errors.append(e)
            pool = [threading.Thread(target=work) for _ in range(4)]
            for t in pool:
                t.start()
            time.sleep(0.005)
            db.close()
            for t in pool:
                t.join(20)
            stop.append(1)
            self.assertEqual(errors, [])

    def test_the_gil_is_released(self):
        db = self.tree(durability='full')
        ticks, stop = [], threading.Event()

        def tick():
            while not stop.is_set():
                ticks.append(time.monotonic())
                time.sleep(0.0005)
        thread = threading.Thread(target=tick)
        thread.start()
        db['big'] = bytes(200 << 20)
        stop.set()
        thread.join()
        self.assertLess(max(b - a for a, b in zip(ticks, ticks[1:])), 0.2)

    def test_a_child_opens_the_store_anew(self):
        for db, key, one, two in self.both():
            db[key] = one
            t, s, f, keys, w = db.transaction(), db.snapshot(), db.file('file', 'wb'), iter(db), db.watch()

            def child():
                db[key]
                db[key] = two
                for use in (lambda: t[key], lambda: s[key], lambda: f.raw.write(b''), lambda: next(keys), lambda: next(w), t.commit):
                    try:
                        use()
                    except kvfs.Forked:
                        continue
                    raise AssertionError(use)
                with db.transaction() as mine:
                    mine['child'] = one
                gc.collect()
            self.assertEqual(in_child(child), 0)
            self.assertEqual((db[key], db['child']), (two, one))
            self.assertEqual(s[key], one)
            self.assertIn(key, keys)
            t.abort()
            s.close()
            w.close()
            f.drop()

    def test_fork_while_threads_write(self):
        db = self.tree()
        stop = threading.Event()

        def work(me):
            i = 0
            while not stop.is_set():
                db[f't{me}'] = str(i)
                with db.batch():
                    db[f'b{me}'] = str(i)
                i += 1
        pool = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in pool:
            t.start()
        try:
            for i in range(20):
                def child():
                    db[f'child{i}'] = str(os.getpid())
                    assert db[f'child{i}'] == str(os.getpid()).encode()
                self.assertEqual(in_child(child), 0)
        finally:
            stop.set()
            for t in pool:
                t.join()
        self.assertEqual(sum(1 for _ in db.keys(prefix='child')), 20)

    def test_multiprocessing(self):
        d = self.dict()
        for method in ('fork', 'spawn', 'forkserver'):
            with multiprocessing.get_context(method).Pool(2) as pool:
                for pid in pool.map(put_own, [d] * 4):
                    self.assertEqual(d[pid], 'child')

    def test_close_ends_a_watch_that_waits(self):
        db = self.tree()
        w = db.watch()
        threading.Timer(0.2, w.close).start()
        start = time.monotonic()
        self.assertRaises(kvfs.Closed, next, w)
        self.assertLess(time.monotonic() - start, 5)

    def test_a_signal_interrupts_a_watch(self):
        script = 'import kvfs, sys; db = kvfs.open(sys.argv[1], "c"); w = db.watch(); print(flush=True); next(w)'
        child = subprocess.Popen([sys.executable, '-c', script, self.path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(0.3)
        child.send_signal(2)
        self.assertIn(b'KeyboardInterrupt', child.communicate(timeout=20)[1])

    def test_a_large_value_in_bounded_memory(self):
        script = '''
import hashlib, sys, kvfs
def anonymous():  # KiB; the pages of the map, which the kernel drops when it likes, are not in it
    return int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0])
db, size, block = kvfs.open(sys.argv[1], "c", durability="none"), int(sys.argv[2]), 1 << 20
before = most = anonymous()
sum = hashlib.blake2b()
with db.file("big", "wb") as f:
    for i in range(size // block):
        part = i.to_bytes(8, "little") * (block // 8)
        sum.update(part)
        f.write(part)
        most = max(most, anonymous()) if i % 16 == 0 else most
want = sum.digest()
sum, buf, n = hashlib.blake2b(), bytearray(block), 0
with db.file("big") as f:
    while got := f.readinto(buf):
        sum.update(memoryview(buf)[:got])
        n += got
        most = max(most, anonymous())
assert n == size // block * block and sum.digest() == want
print(most - before)
'''
        out = subprocess.run([sys.executable, '-c', script, self.path, str(int(GIB * (1 << 30)))], capture_output=True, text=True)
        self.assertEqual(out.returncode, 0, out.stderr)
        print(f'{int(out.stdout) >> 10} MiB', end=' ')
        self.assertLess(int(out.stdout), 100 << 10)  # the library buffers 64 MiB

    def test_nothing_leaks(self):
        db = self.tree()
        db['a'] = b'x' * 10000

        def use():
            for _ in range(300):
                db['a'] = db['a']
                db.get('b'), 'c//' in db, list(db.items())
                with db.transaction() as t:
                    t['t'] = b''
                    list(t)
                with db.file('f', 'wb') as f:
                    f.write(b'1')
                with db.file('f') as f:
                    f.read()
                try:
                    db['x//'] = b''
                except ValueError:
                    pass
        use()
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(4):
            use()
        self.assertLess(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 4 << 10)
