"""Random operations through a mount, against a model in memory.  KVFS_SEED repeats a run; KVFS_SECONDS makes it longer."""
import os
import random
import time

from harness import Child, elsewhere, equal, seed_of

SECONDS = float(os.environ.get('KVFS_SECONDS', '20'))
NAMES = ['a', 'b', 'c', 'd1/x', 'd1/y', 'd2/x', 'd2/z']
WRITERS = 3


class Value:
    """What one inode holds: shared by all names that are linked to it."""

    def __init__(self, data=b''):
        self.data = data
        self.mode = 0o644
        self.links = 1
        self.xattrs = {}


class Writer:
    """A session in another process: what it sees, and what it will do to the value as that is when it publishes."""

    def __init__(self, path):
        self.child = Child({'open': lambda s, flags: s.update(fd=os.open(path, flags)),
                            'write': lambda s, data, at: os.pwrite(s['fd'], data, at),
                            'read': lambda s, size, at: os.pread(s['fd'], size, at),
                            'cut': lambda s, size: os.ftruncate(s['fd'], size),
                            'sync': lambda s: os.fsync(s['fd']), 'close': lambda s: os.close(s['fd'])})
        self.value = None
        self.data = b''
        self.whole = self.blurred = False
        self.changes = []

    def open(self, value, truncate):
        self.child.do('open', os.O_RDWR | (os.O_TRUNC if truncate else 0))
        self.value, self.whole, self.data = value, truncate, b'' if truncate else value.data
        self.changes = []

    def change(self, kind, *args):
        self.child.do(kind, *args)
        self.data = changed(self.data, kind, *args)
        self.changes.append((kind, *args))

    def has_cut(self):
        return any(change[0] == 'cut' for change in self.changes)

    def publish(self, how):
        self.child.do(how)
        if not self.whole and not self.changes:
            return  # and it goes on seeing what it saw
        if self.whole:
            self.value.data = self.data
        else:
            for change in self.changes:
                self.value.data = changed(self.value.data, *change)
        # The kernel may still have pages of what the session saw before others' changes came in.
        self.blurred = self.blurred or self.data != self.value.data
        self.data, self.whole, self.changes = self.value.data, False, []


def changed(data, kind, *args):
    if kind == 'cut':
        return data[:args[0]].ljust(args[0], b'\0')
    new, at = args
    return data[:at].ljust(at, b'\0') + new + data[at + len(new):] if new else data


class Model:
    """Every operation is done to the mount and to the model; what both say must agree."""

    def __init__(self, bench, seed):
        self.b = bench
        self.r = random.Random(seed)
        self.keys = {}
        self.readers = []
        self.writers = []
        self.log = []

    def step(self):
        operation = self.r.choice([
            self.put, self.put, self.append, self.patch, self.truncate, self.unlink, self.rename, self.link, self.chmod, self.xattr,
            self.command, self.open_reader, self.check_reader, self.open_writer, self.write, self.write, self.cut, self.sync,
            self.close_writer, self.kill_writer, self.check, self.check])
        name = self.r.choice(NAMES)
        self.log.append((operation.__name__, name))
        operation(name)

    def some_bytes(self):
        kind = self.r.random()
        size = self.r.randrange(100) if kind < 0.5 else self.r.randrange(70_000) if kind < 0.97 else self.r.randrange(1_500_000)
        return self.r.randbytes(size)

    def free(self, name):
        """Who cuts a value that others make longer meanwhile asks for something that is nobody's to say."""
        value = self.keys.get(name)
        return value is None or not any(w.value is value and w.has_cut() and not w.whole for w in self.writers)

    # ---- whole operations

    def replaced(self, name, data):
        if name in self.keys:
            self.keys[name].data = data
        else:
            self.keys[name] = Value(data)

    def put(self, name):
        data = self.some_bytes()
        if self.free(name):
            with open(self.b.path(name), 'wb') as file:
                file.write(data)
            self.replaced(name, data)

    def command(self, name):
        data = self.some_bytes()
        if self.free(name) and self.r.random() < 0.3:
            self.b.kvfs('put', name, data=data)
            self.replaced(name, data)

    def append(self, name):
        data = self.some_bytes()[:9000] + b'.'
        if self.free(name):
            with open(self.b.path(name), 'ab', buffering=0) as file:
                file.write(data)
            value = self.keys.setdefault(name, Value())
            for _, read, versions in self.readers:
                if read is value and versions[-1] == value.data:
                    versions.append(value.data + data)  # a reader may see what is appended
            value.data += data

    def patch(self, name):
        data = self.some_bytes()
        if name in self.keys and self.free(name):
            value = self.keys[name]
            at = self.r.randrange(len(value.data) + 10_000)
            with open(self.b.path(name), 'r+b', buffering=0) as file:
                file.seek(at)
                file.write(data)
            value.data = changed(value.data, 'write', data, at)

    def truncate(self, name):
        if name in self.keys and self.free(name):
            value = self.keys[name]
            size = self.r.randrange(2 * len(value.data) + 5)
            os.truncate(self.b.path(name), size)
            value.data = changed(value.data, 'cut', size)

    def unlink(self, name):
        if name in self.keys and self.r.random() < 0.5:
            os.unlink(self.b.path(name))
            self.keys.pop(name).links -= 1

    def rename(self, name):
        target = self.r.choice(NAMES)
        if name in self.keys:
            os.rename(self.b.path(name), self.b.path(target))
            if self.keys.get(target) is not self.keys[name]:
                if target in self.keys:
                    self.keys[target].links -= 1
                self.keys[target] = self.keys.pop(name)

    def link(self, name):
        target = self.r.choice(NAMES)
        if name in self.keys and target not in self.keys:
            os.link(self.b.path(name), self.b.path(target))
            self.keys[target] = self.keys[name]
            self.keys[target].links += 1

    def chmod(self, name):
        if name in self.keys:
            self.keys[name].mode = self.r.randrange(0o1000) | 0o600
            os.chmod(self.b.path(name), self.keys[name].mode)

    def xattr(self, name):
        if name in self.keys:
            attribute = 'user.' + self.r.choice('xyz')
            self.keys[name].xattrs[attribute] = self.some_bytes()[:3000]
            os.setxattr(self.b.path(name), attribute, self.keys[name].xattrs[attribute])

    # ---- readers and writers that stay open

    def open_reader(self, name):
        if name in self.keys:
            if len(self.readers) > 8:
                os.close(self.readers.pop(0)[0])
            self.readers.append((os.open(self.b.path(name), os.O_RDONLY), self.keys[name], [self.keys[name].data]))

    def check_reader(self, _):
        if self.readers:
            fd, _, versions = self.r.choice(self.readers)
            size = os.fstat(fd).st_size
            data = next((v for v in versions if len(v) == size), b'')
            equal(size, len(data))
            at = self.r.randrange(len(data) + 1)
            equal(os.pread(fd, 100_000, at), data[at:at + 100_000])

    def open_writer(self, name):
        if name in self.keys and len(self.writers) < WRITERS:
            writer = Writer(self.b.path(name))
            writer.open(self.keys[name], self.r.random() < 0.5)
            self.writers.append(writer)

    def write(self, _):
        if self.writers:
            writer = self.r.choice(self.writers)
            writer.change('write', self.some_bytes(), self.r.randrange(len(writer.data) + 10_000))
            at = self.r.randrange(len(writer.data) + 1)
            if not writer.blurred:
                equal(writer.child.do('read', 100_000, at), writer.data[at:at + 100_000])

    def cut(self, _):
        if self.writers:
            writer = self.r.choice(self.writers)
            if writer.whole or writer.data == writer.value.data:
                writer.change('cut', self.r.randrange(len(writer.data) + 100))

    def sync(self, _):
        if self.writers:
            self.r.choice(self.writers).publish('sync')

    def close_writer(self, _):
        if self.writers:
            writer = self.writers.pop(self.r.randrange(len(self.writers)))
            writer.publish('close')
            writer.child.end()

    def kill_writer(self, _):
        if self.writers and self.r.random() < 0.3:
            self.writers.pop(self.r.randrange(len(self.writers))).child.kill()

    # ---- comparing

    def check(self, name):
        value = self.keys.get(name)
        equal(look(self.b.path(name)), value and (len(value.data), value.mode, value.links, value.xattrs, value.data), name)

    def check_all(self):
        for name in NAMES:
            self.check(name)
        seen = []
        for top, _, files in os.walk(self.b.mnt):
            seen += [os.path.relpath(os.path.join(top, file), self.b.mnt) for file in files]
        equal(sorted(seen), sorted(self.keys))


def look(path):
    try:
        st = os.stat(path)
        with open(path, 'rb') as file:
            data = file.read()
    except FileNotFoundError:
        return None
    xattrs = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return st.st_size, st.st_mode & 0o7777, st.st_nlink, xattrs, data


def test_model(b):
    seed = seed_of()
    b.up('-o', 'durability=none')
    os.mkdir(b.path('d1'))
    os.mkdir(b.path('d2'))
    model = Model(b, seed)
    until = time.monotonic() + SECONDS
    try:
        while time.monotonic() < until:
            for _ in range(50):
                model.step()
            model.check_all()
    except BaseException:
        print(len(model.log), 'steps, the last:', model.log[-30:])
        raise
    while model.writers:
        model.close_writer(None)
    elsewhere(model.check_all)
    for fd, _, _ in model.readers:
        os.close(fd)
    b.down()
    b.up()
    model.check_all()
    print(len(model.log), 'steps')
