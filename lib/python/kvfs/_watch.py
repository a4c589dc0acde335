"""Following changes."""
from __future__ import annotations

import stat
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _kvfs

if TYPE_CHECKING:
    from ._view import View

_KINDS = {1: "put", 2: "delete", 3: "rename", 4: "put", 5: "mkdir", 6: "make", 7: "attr", 8: "append"}


class Event(NamedTuple):
    """One change. A rename into what is watched is a "put", one out of it a "delete"."""

    kind: str  #: "put", "delete", "rename", "append", "attr", "mkdir", "make" (a link or special file)
    key: Any
    target: Any  #: of a rename: the new key; else None
    sequence: int  #: of its commit; `since` for a watch that goes on after it
    time: float  #: of its commit


class Watch(Iterator[Event]):
    """What watch() returns. Lost: too many changes to be told; the next next() goes on. close() ends it, from another thread too."""

    def __init__(self, view: View[Any, Any], prefix: str, since: int, timeout: float | None) -> None:
        self._view = view
        self._prefix = view._directory + prefix.encode("utf-8", "surrogateescape")
        self._timeout = -1.0 if timeout is None else timeout
        self._watch = _kvfs.Watch(view._store, since)

    def _key(self, name: bytes, kind: int) -> Any:
        """The view's key, or None: not one that is watched."""
        if not name.startswith(self._prefix):
            return None
        name = name[len(self._view._directory):]
        if self._view._typed and (b"/" in name or not stat.S_ISREG(kind)):
            return None
        try:
            return self._view._key(name)
        except LookupError:
            return None

    def __next__(self) -> Event:
        while True:
            told = self._watch.next(self._timeout)
            if told is None:
                raise StopIteration
            kind, name, new_name, sequence, file_type, time = told
            key, target = self._key(name, file_type), self._key(new_name, file_type) if new_name else None
            if key is not None and target is None and new_name:
                return Event("delete", key, None, sequence, time)
            if key is not None:
                return Event(_KINDS[kind], key, target, sequence, time)
            if target is not None:
                return Event("put", target, None, sequence, time)

    def fileno(self) -> int:
        """A descriptor that is readable when there may be an event, for select."""
        return self._watch.fileno()

    def close(self) -> None:
        self._watch.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None) -> None:
        self.close()
