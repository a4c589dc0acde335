"""kvfs.open(): a store's keys as they are, paths, and their bytes."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ._store import Options, Store, options_of
from ._view import Items, Keys, Values, View


class Stat(NamedTuple):
    """What is known of a key, as os.stat() knows it of its file."""

    size: int
    allocated: int  #: bytes stored: less than size of a sparse value
    version: int  #: changes whenever the value does, and never repeats
    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    atime: float
    mtime: float
    ctime: float


class Tree(View[str, bytes]):
    """A store as a mapping of keys to bytes.

    Keys are paths: `db["a/b"]` is the file `a/b` of a mount. They are str; bytes that are not UTF-8 are in them as os.fsdecode() has it.
    (Where a key is asked for, its bytes do as well.) Values are bytes; a str is stored as UTF-8. A key is a value or a directory, not both.
    Iteration is in the order of `kvfs ls -R`: component by component, by bytes; nothing is loaded whole, and others may write meanwhile:
    keys that are there all the time come exactly once. Symbolic links and special files, which only a mount makes, are no keys here.
    len() looks nothing up: it takes symbolic links and special files for having one name each."""

    _typed = False

    if TYPE_CHECKING:

        def __setitem__(self, key: str, value: bytes | bytearray | memoryview | str, /) -> None: ...

    def __init__(self, options: Options, directory: bytes = b"") -> None:
        self._setup(Store(options), None, directory)
        self._owner = True
        if options.flag == "n":
            self._del_tree()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._txn:
            raise TypeError("a transaction or snapshot cannot be pickled")
        return type(self), (self._store.options, self._directory)

    def _key(self, name: bytes) -> str:
        return name.decode("utf-8", "surrogateescape")

    def _name(self, key: str) -> bytes:
        name = key.strip("/").encode("utf-8", "surrogateescape")
        if not name:
            raise ValueError("sub() needs the name of a directory")
        return name

    def _editable(self, value: bytes) -> bytearray:
        return bytearray(value)

    def __len__(self) -> int:
        self._settle()
        return self._count() if self._txn or self._directory else self._store.count()

    def __bool__(self) -> bool:
        return super().__bool__() if self._txn or self._directory else len(self) > 0

    def keys(self, *, prefix: str | None = None, start: str | None = None, stop: str | None = None,
             reverse: bool = False) -> Keys[str]:
        """The keys, or those that begin with `prefix`, from `start` on, before `stop` (in the order of iteration, `reverse` or not)."""
        return Keys(self, prefix=prefix, start=start, stop=stop, reverse=reverse)

    def items(self, *, snapshot: bool = False) -> Items[str, bytes]:
        """Keys and values, in batches as others go on writing; or, with `snapshot`, of one state, which keeps space from reuse meanwhile."""
        return Items(self, snapshot)

    def values(self, *, snapshot: bool = False) -> Values[bytes]:
        return Values(Items(self, snapshot))

    def clear(self) -> None:
        """Deletes everything, directories and links included. Many keys are several transactions."""
        if self._txn:
            for key in list(self):
                del self[key]
        else:
            self._del_tree()

    def stat(self, key: str) -> Stat:
        """Size, version, times ... of a key, a directory or a link; "" is the view's own directory. KeyError."""
        found = self._stat(key)
        if found is None:
            raise KeyError(key)
        return Stat(*found)


def open(path: Any, flag: str = "r", mode: int = 0o600, durability: str | None = None) -> Tree:
    """Opens the store at a path; '@name' is one beside the default store, '@default'.

    `flag` is as of dbm.open(): "r" to read, "w" to write, "c" to make it if needed, "n" to begin with an empty one. `mode` is for the files
    of a new store. `durability` is "full" (a change is on the disk when the call returns), "relaxed" (within about a second) or
    "none"; without it, what the environment variable KVFS_DURABILITY says, else "full". A process has one level for each store: the first."""
    return Tree(options_of(path, flag, mode, durability))
