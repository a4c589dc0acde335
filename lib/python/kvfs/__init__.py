"""kvfs: a local, daemon-free, shared key-value store that is also a file system.

    d = kvfs.Dict("/tmp/words")           # a dict that stays: any str, bytes, int or float -> JSON
    d["hello"] = 17
    d[183] = [12, 14, 24]

    with kvfs.open("@notes", "c") as db:  # the same kind of store as a tree of files: path -> bytes
        db["2024/may/1"] = "buy milk"

Any number of programs, threads and mounts use a store at the same time. Both kinds of mapping have transaction(), batch(), edit(), snapshot(),
compare_and_set(), add(), incr(), file(), watch() and sub(); help(kvfs.Dict) and help(kvfs.Tree) tell of them.
"""
from ._dict import JSON, UNSAFE_PICKLE, Dict
from ._errors import (Closed, Conflict, Damaged, Denied, Error, Exists, Forked, Invalid, IsDirectory, Lost, NotAStore, NotDirectory,
                      NotFound, ReadOnly, TransactionTooLarge)
from ._kvfs import version as __version__
from ._tree import Stat, Tree, open
from ._view import ABSENT
from ._watch import Event, Watch

__all__ = [
    "ABSENT", "Closed", "Conflict", "Damaged", "Denied", "Dict", "Error", "Event", "Exists", "Forked", "Invalid", "IsDirectory", "JSON",
    "Lost", "NotAStore", "NotDirectory", "NotFound", "ReadOnly", "Stat", "TransactionTooLarge", "Tree", "UNSAFE_PICKLE", "Watch",
    "__version__", "open",
]
