"""What kvfs.open() and kvfs.Dict have in common: a mapping below a directory of a store, by itself or in a transaction."""
from __future__ import annotations

import heapq
import io
import random
import time
from collections.abc import Callable, ItemsView, Iterator, KeysView, MutableMapping, ValuesView
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from . import _file, _kvfs
from ._errors import Conflict
from ._store import Store
from ._watch import Watch

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
Self = TypeVar("Self", bound="View[Any, Any]")

KEYS, ITEMS, NAMES = range(3)


class _Absent:
    """Says that a key is not there, where None could be a value."""

    def __repr__(self) -> str:
        return "kvfs.ABSENT"

    def __reduce__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()


def order(name: bytes) -> list[bytes]:
    """Sorts names as a store lists them."""
    return name.split(b"/")


class View(_kvfs.View, MutableMapping[K, V]):
    """A mapping of a store's keys. Safe in threads; in a forked child it opens the store anew; pickled as path and options."""

    _typed: bool
    _store: Store
    _owner = False  # its end ends the store, transaction or snapshot

    # The codec: what makes what is stored of a value, and a value of that; None: they are the same bytes.
    _dumps: Callable[[Any], Any] | None = None
    _loads: Callable[[bytes], Any] | None = None

    if TYPE_CHECKING:  # in C

        def __getitem__(self, key: K, /) -> V: ...

    def _key(self, name: bytes) -> K:
        """The key that has this name in the view's directory; LookupError: none."""
        raise NotImplementedError

    def _name(self, key: str) -> bytes:
        """The directory that sub(key) is."""
        raise NotImplementedError

    def _setup(self, store: Store, txn: _kvfs.Txn | None = None, directory: bytes = b"") -> None:
        _kvfs.View.__init__(self, store, txn, directory, self._typed, self._dumps, self._loads)

    def _like(self: Self, txn: _kvfs.Txn | None, directory: bytes) -> Self:
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        new._setup(self._store, txn, directory)
        new._owner = False
        return new

    def __repr__(self) -> str:
        inside = f" {self._directory.decode('utf-8', 'replace')}" if self._directory else ""
        state = "" if not self._txn else " snapshot" if self._txn.changed is None else " transaction"
        return f"<kvfs.{type(self).__name__} {self._store.options.path!r}{inside}{state}>"

    # ---- life

    @property
    def path(self) -> str:
        """The store's directory."""
        return self._store.options.path

    def close(self) -> None:
        """Closes the store (a transaction: aborts it). What is open of it goes on until it ends; what sub() returned has no end of its own."""
        if self._owner and self._txn:
            self._txn.abort()
        elif self._owner:
            self._store.close()

    def sync(self) -> None:
        """Makes everything that was published before durable, at whatever level."""
        self._settle()
        self._store.sync()

    def _settle(self) -> None:
        """Commits what this thread has in a batch."""
        if self._store.batch:
            self._store.batch.commit()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None) -> None:
        if self._owner and self._txn and self._txn.changed is not None and kind is None:
            self._txn.commit()
        else:
            self.close()

    def sub(self: Self, key: str) -> Self:
        """The same kind of mapping, of the keys below a directory."""
        return self._like(self._txn, self._directory + self._name(key) + b"/")

    # ---- transactions

    def _begin(self: Self, write: bool) -> Self:
        if self._txn:
            raise ValueError("a transaction or snapshot contains no other")
        self._settle()
        new = self._like(_kvfs.Txn(self._store, write), self._directory)
        new._owner = True
        return new

    def transaction(self: Self) -> Self:
        """The mapping as it is now, for a `with` block: what is done to it happens at the block's end, all of it, or, if the block raises,
        nothing. Conflict: somebody else changed what the block had read; nothing was stored. Nobody waits while the block runs."""
        return self._begin(True)

    def commit(self) -> None:
        """Ends a transaction: everything happens, or this raises and nothing does."""
        if not self._txn:
            raise ValueError("this is no transaction")
        self._txn.commit()

    def abort(self) -> None:
        """Ends a transaction without a change."""
        if not self._txn:
            raise ValueError("this is no transaction")
        self._txn.abort()

    def snapshot(self: Self) -> Self:
        """The mapping as it is now, read only, until it is closed. While it is open, no space that others free is used again."""
        return self._begin(False)

    def atomically(self: Self, change: Callable[[Self], T], tries: int = 1000) -> T:
        """Calls `change` with a transaction and commits it; on Conflict again, with a new one."""
        if self._txn:
            return change(self)
        for turn in range(tries):
            try:
                with self.transaction() as t:
                    return change(t)
            except Conflict:
                if turn + 1 >= tries:
                    raise
            time.sleep(random.random() * min(turn, 20) * 0.0005)
        raise ValueError("tries must be at least 1")

    @contextmanager
    def batch(self: Self) -> Iterator[Self]:
        """Within the block, what this thread assigns is committed in slices, which is much faster than each by itself. Others see a
        slice whole; this thread sees its own at once. Whatever else it does commits what there is first. At the end, also of a block
        that raised, everything is committed."""
        store = self._store
        if self._txn or store.batch:
            yield self
            return
        slices = _kvfs.Txn(store, True, True)
        store.set_batch(slices)
        try:
            yield self
        finally:
            store.set_batch(None)
            slices.commit()

    @contextmanager
    def edit(self, key: K, default: Any = ABSENT) -> Iterator[Any]:
        """The value, to be changed in place; written back at the block's end if it did not raise. Conflict: somebody was faster."""
        t = self if self._txn else self.transaction()
        try:
            value = self._editable(t[key] if default is ABSENT else t.get(key, default))
            yield value
            t[key] = value
        except BaseException:
            if t is not self:
                t.abort()
            raise
        if t is not self:
            t.commit()

    def _editable(self, value: Any) -> Any:
        return value

    def compare_and_set(self, key: K, expected: Any, value: Any) -> bool:
        """Stores `value` (ABSENT: deletes the key) if the key's value is equal to `expected` (ABSENT: if it has none)."""

        def change(t: View[K, V]) -> bool:
            if t.get(key, ABSENT) != expected:
                return False
            if value is not ABSENT:
                t[key] = value
            elif expected is not ABSENT:
                del t[key]
            return True

        return self.atomically(change)

    # ---- what a dict can, by one transaction each

    def setdefault(self, key: K, default: Any = None) -> Any:
        while True:
            value = self.get(key, ABSENT)
            if value is not ABSENT:
                return value
            if self.add(key, default):
                return self[key]

    def pop(self, key: K, default: Any = ABSENT) -> Any:
        def change(t: View[K, V]) -> Any:
            value = t.get(key, ABSENT)
            if value is not ABSENT:
                del t[key]
            return value

        value = self.atomically(change)
        if value is not ABSENT:
            return value
        if default is ABSENT:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[K, V]:
        """Removes the first key and returns it with its value."""
        for key in self:
            value = self.pop(key, ABSENT)
            if value is not ABSENT:
                return key, value
        raise KeyError("it is empty")

    def update(self, other: Any = (), /, **more: Any) -> None:
        """As of a dict; committed in slices, as in batch()."""
        with self.batch():
            super().update(other, **more)

    # ---- listing

    def _list(self, what: int, prefix: Any = None, start: Any = None, stop: Any = None, reverse: bool = False) -> Iterator[Any]:
        if not (self._txn and self._txn.changed):
            return self._cursor(what, prefix, start or None, stop, reverse)
        return self._list_changed(what, prefix, start or None, stop, reverse)

    def _list_changed(self, what: int, prefix: Any, start: Any, stop: Any, reverse: bool) -> Iterator[Any]:
        """A transaction's own changes, merged into what its snapshot lists."""
        low, high, begin = (None if x is None else x if isinstance(x, bytes) else x.encode("utf-8", "surrogateescape")
                            for x in (start, stop, prefix))
        assert self._txn and self._txn.changed
        changed = {k[len(self._directory):]: there for k, there in self._txn.changed.items() if k.startswith(self._directory)}
        if self._typed:
            changed = {k: there for k, there in changed.items() if b"/" not in k}
        made = sorted((k for k, there in changed.items() if there and (begin is None or k.startswith(begin))
                       and (low is None or order(k) >= order(low)) and (high is None or order(k) < order(high))),
                      key=order, reverse=reverse)
        there = (k for k in self._cursor(NAMES, prefix, start, stop, reverse) if k not in changed)
        for name in heapq.merge(there, made, key=order, reverse=reverse):
            try:
                key = self._key(name)
            except LookupError:  # not a key of ours
                continue
            value = self.get(key, ABSENT) if what == ITEMS else None
            if value is not ABSENT:
                yield (key, value) if what == ITEMS else key

    def __iter__(self) -> Iterator[K]:
        return self._list(KEYS)

    def __reversed__(self) -> Iterator[K]:
        return self._list(KEYS, reverse=True)

    def _count(self) -> int:
        return sum(1 for _ in self._list(KEYS))

    def __bool__(self) -> bool:
        return any(True for _ in self._list(KEYS))

    # ---- files, changes

    @overload
    def file(self, key: K, mode: Literal["rb"] = "rb", buffering: int = -1) -> io.BufferedReader: ...

    @overload
    def file(self, key: K, mode: Literal["wb", "xb", "ab"], buffering: int = -1) -> _file.Writer: ...

    @overload
    def file(self, key: K, mode: Literal["r+b", "w+b", "x+b"], buffering: int = -1) -> _file.ReaderWriter: ...

    def file(self, key: K, mode: str = "rb", buffering: int = -1) -> Any:
        """A binary file object of a value of any size, by the mode "rb", "r+b", "wb", "w+b", "xb" or "ab".

        A reader keeps the value that it opened. A writer's bytes are private until close(), which publishes them in one transaction; they
        are dropped if its `with` block raises, or by drop(). "ab" appends what it has buffered at each flush, in one transaction."""
        return _file.open_file(self, key, mode, buffering)

    def watch(self, prefix: str = "", *, since: int = 0, timeout: float | None = None) -> Watch:
        """An iterator of the changes to keys that begin with `prefix`, made by anybody from now on (or after the commit `since`), as they
        happen. It waits for the next one; after `timeout` seconds without any, it ends (and can be asked again)."""
        return Watch(self, prefix, since, timeout)


class Keys(KeysView[K]):
    """keys(): of all, or of a range of them."""

    def __init__(self, view: View[K, Any], **bounds: Any) -> None:
        super().__init__(view)
        self._view, self._bounds = view, bounds

    def __iter__(self) -> Iterator[K]:
        return self._view._list(KEYS, **self._bounds)

    def __reversed__(self) -> Iterator[K]:
        return self._view._list(KEYS, **{**self._bounds, "reverse": not self._bounds.get("reverse")})

    def __len__(self) -> int:
        if any(value is not None and name != "reverse" for name, value in self._bounds.items()):
            return sum(1 for _ in self)
        return len(self._view)

    def __contains__(self, key: object) -> bool:
        if key not in self._view:
            return False
        bounds = self._bounds
        if not any(bounds.get(name) is not None for name in ("prefix", "start", "stop")):
            return True
        assert isinstance(key, str)
        name = order(key.encode("utf-8", "surrogateescape"))
        low, high = (None if bounds.get(x) is None else order(bounds[x].encode("utf-8", "surrogateescape")) for x in ("start", "stop"))
        return key.startswith(bounds.get("prefix") or "") and (low is None or name >= low) and (high is None or name < high)


class Items(ItemsView[K, V]):
    """items(): what is there as it goes along, or of one state of the store."""

    def __init__(self, view: View[K, V], snapshot: bool = False) -> None:
        super().__init__(view)
        self._view, self._snapshot = view, snapshot

    def _iterate(self, reverse: bool) -> Iterator[tuple[K, V]]:
        if not self._snapshot or self._view._txn:
            return self._view._list(ITEMS, reverse=reverse)
        return self._frozen(reverse)

    def _frozen(self, reverse: bool) -> Iterator[tuple[K, V]]:
        with self._view.snapshot() as s:
            yield from s._list(ITEMS, reverse=reverse)

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._iterate(False)

    def __reversed__(self) -> Iterator[tuple[K, V]]:
        return self._iterate(True)


class Values(ValuesView[V]):
    """values(), in the order of the keys."""

    def __init__(self, items: Items[Any, V]) -> None:
        super().__init__(items._view)
        self._items = items

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in self._items)

    def __reversed__(self) -> Iterator[V]:
        return (value for _, value in reversed(self._items))

    def __contains__(self, value: object) -> bool:
        return any(value is v or value == v for v in self)
