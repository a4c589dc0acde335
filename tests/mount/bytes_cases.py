"""One value through every call that reads or changes bytes, at random, against a model in memory: reads, writes, mappings, holes, truncation,
copies within the value, closing and opening again.  What a descriptor, a mapping and a path show must agree at each step; what is
published must be what another process reads.  KVFS_SEED repeats a run; KVFS_SECONDS makes it longer."""
import ctypes
import mmap
import os
import random
import time

from harness import Door, elsewhere, equal, get, put, seed_of

SECONDS = float(os.environ.get('KVFS_SECONDS', '5'))
MOST = 200_000
LIBC = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


class Bytes:
    def __init__(self, b, rng):
        self.b, self.rng, self.path = b, rng, b.path('k')
        self.door = Door(b.store)
        self.data = self.published = b''
        put(self.path, b'')
        self.fd = os.open(self.path, os.O_RDWR)
        self.log = []

    def span(self):
        """An offset, which may be past the end, and a length."""
        unit = self.rng.choice((1, 1, 512, 4096))
        at = self.rng.randrange(MOST) // unit * unit
        return at, min(self.rng.choice((1, 10, 4096, 33_000, 70_000)), MOST - at)

    def step(self):
        # A change of parts is replayed on what others published: here nobody else writes, so the model is exact.
        do = self.rng.choice((self.write, self.write, self.read, self.read, self.look_mapped, self.write_mapped, self.cut, self.reserve,
                              self.punch, self.zero, self.copy, self.sync, self.reopen, self.reopen, self.replace, self.send))
        self.log.append(do.__name__)
        do()
        equal(os.fstat(self.fd).st_size, len(self.data), 'the size by descriptor')
        equal(os.stat(self.path).st_size, len(self.data), 'the size by path, to the writer')

    def changed(self, at, new):
        self.data = self.data[:at].ljust(at, b'\0') + new + self.data[at + len(new):]

    def write(self):
        at, size = self.span()
        new = self.rng.randbytes(size)
        equal(os.pwrite(self.fd, new, at), size)
        self.changed(at, new)

    def read(self):
        at, size = self.span()
        equal(os.pread(self.fd, size, at), self.data[at:at + size], f'{size} bytes at {at} of {len(self.data)}')

    def look_mapped(self):
        if self.data:
            kind = self.rng.choice((mmap.MAP_SHARED, mmap.MAP_PRIVATE))
            with mmap.mmap(self.fd, len(self.data), flags=kind, prot=mmap.PROT_READ) as mapped:
                at, size = self.span()
                equal(mapped[at:at + size], self.data[at:at + size], f'mapped, {size} bytes at {at}')

    def write_mapped(self):
        at, size = self.span()
        size = min(size, len(self.data) - at)
        if size > 0:
            new = self.rng.randbytes(size)
            with mmap.mmap(self.fd, len(self.data)) as mapped:
                mapped[at:at + size] = new
                self.changed(at, new)
                if self.rng.random() < 0.3:
                    mapped.flush()  # msync is an fsync of the whole file
                    self.published = self.data

    def cut(self):
        size = self.rng.randrange(MOST)
        os.ftruncate(self.fd, size)
        self.data = self.data[:size].ljust(size, b'\0')

    def fallocate(self, mode, at, size):
        if LIBC.fallocate(self.fd, mode, ctypes.c_long(at), ctypes.c_long(size)) < 0:
            raise OSError(ctypes.get_errno(), f'fallocate mode {mode}')

    def reserve(self):
        at, size = self.span()
        keep = self.rng.random() < 0.5
        self.fallocate(KEEP_SIZE if keep else 0, at, size)
        if not keep:
            self.data = self.data.ljust(at + size, b'\0')

    def punch(self):
        at, size = self.span()
        self.fallocate(KEEP_SIZE | PUNCH_HOLE, at, size)
        if at < len(self.data):
            self.changed(at, bytes(min(size, len(self.data) - at)))

    def zero(self):
        at, size = self.span()
        self.fallocate(ZERO_RANGE, at, size)
        self.changed(at, bytes(size))

    def copy(self):
        """Within the value, where the two do not overlap."""
        at, size = self.span()
        to = self.rng.randrange(MOST)
        size = min(size, MOST - to, max(len(self.data) - at, 0))
        if size > 0 and abs(at - to) >= size:
            equal(os.copy_file_range(self.fd, self.fd, size, at, to), size)
            self.changed(to, self.data[at:at + size])

    def send(self):
        at, size = self.span()
        size = max(min(size, len(self.data) - at), 0)
        into = os.memfd_create('sent')
        done = 0
        while done < size:
            done += os.sendfile(into, self.fd, at + done, size - done)
        equal(os.pread(into, size + 1, 0), self.data[at:at + size], 'sent')
        os.close(into)

    def check_published(self):
        equal(elsewhere(lambda: (os.stat(self.path).st_size, get(self.path))), (len(self.published), self.published), 'elsewhere')
        equal(self.door.get('k'), self.published, 'the library')

    def sync(self):
        self.check_published()
        os.fsync(self.fd)
        self.published = self.data
        self.check_published()

    def reopen(self):
        self.check_published()
        os.close(self.fd)
        self.published = self.data
        self.check_published()
        self.fd = os.open(self.path, os.O_RDWR)

    def replace(self):
        """By another session or door, between two of ours."""
        if self.rng.random() < 0.3:
            os.close(self.fd)
            self.data = self.published = self.rng.randbytes(self.rng.randrange(MOST))
            if self.rng.random() < 0.5:
                self.door.put('k', self.data)
            else:
                put(self.path, self.data)
            self.fd = os.open(self.path, os.O_RDWR)


def test_bytes_of_one_value(b):
    b.up('-o', 'durability=none')
    value = Bytes(b, random.Random(seed_of()))
    until = time.monotonic() + SECONDS
    try:
        while time.monotonic() < until:
            value.step()
    except BaseException:
        print(len(value.log), 'steps, the last:', value.log[-20:])
        raise
    value.reopen()
    print(len(value.log), 'steps')
