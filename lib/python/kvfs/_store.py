"""Opening a store: names, flags, and the end of the process."""
from __future__ import annotations

import atexit
import os
import weakref
from typing import Any, NamedTuple

from . import _kvfs

_DURABILITY = {None: 0, "full": 1, "relaxed": 2, "none": 3}


class Options(NamedTuple):
    """What a handle was opened with: it is pickled as this."""

    path: str
    flag: str
    mode: int
    durability: str | None


class Store(_kvfs.Store):
    """An open store, shared by all views of it."""

    def __init__(self, options: Options) -> None:
        if options.flag not in ("r", "w", "c", "n"):
            raise ValueError(f"flag must be 'r', 'w', 'c' or 'n', not {options.flag!r}")
        if options.durability not in _DURABILITY:
            raise ValueError(f"durability must be 'full', 'relaxed' or 'none', not {options.durability!r}")
        self.options = options._replace(flag="w" if options.flag == "n" else options.flag)
        flags = {"r": _kvfs.RDONLY, "w": 0}.get(options.flag, _kvfs.CREATE)
        # A directory needs x where a file needs r.
        mode = options.mode | (options.mode & 0o444) >> 2
        super().__init__(options.path, flags, mode, _DURABILITY[options.durability])
        _open.add(self)


_open: weakref.WeakSet[Store] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """An orderly close lets the next opener find everything on the disk, at every level of durability."""
    for store in list(_open):
        store.close()


def _stores_dir() -> str:
    base = os.environ.get("XDG_DATA_HOME", "")
    if not base.startswith("/"):
        base = os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(base, "kvfs")


def resolve(path: Any, create: bool) -> str:
    """The absolute path of a store; '@name' is one beside the user's default store (which is '@default')."""
    text: str = os.fsdecode(path)
    if text[:1] != "@":
        return os.path.abspath(text)
    name = text[1:]
    if not name or "/" in name or name in (".", ".."):
        raise ValueError(f"{text!r} names no store: after @ comes one name without '/'")
    directory = _stores_dir()
    if create:
        os.makedirs(directory, 0o700, exist_ok=True)
    return os.path.join(directory, name)


def options_of(path: Any, flag: str, mode: int, durability: str | None) -> Options:
    return Options(resolve(path, flag in ("c", "n")), flag, mode, durability)
