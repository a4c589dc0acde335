"""What can go wrong, by name.  Every kvfs.Error is an OSError with an errno; a missing key of a mapping is a plain KeyError."""
from __future__ import annotations

import errno
import os
from typing import Any


class Error(OSError):
    """An operation failed, and changed nothing: `errno` and `strerror` say why, `key` (may be None) where."""

    @property
    def key(self) -> Any:
        return self.filename


class NotFound(Error, FileNotFoundError, KeyError):
    """No such store, or no such key for file()."""

    __str__ = OSError.__str__


class Exists(Error, FileExistsError):
    """The key is there already, or a program has reserved its name."""


class IsDirectory(Error, IsADirectoryError):
    """The key is a directory: there are keys below it."""


class NotDirectory(Error, NotADirectoryError):
    """A part of the key's path is a value."""


class Denied(Error, PermissionError):
    """The store's files do not let you."""


class Invalid(Error, ValueError):
    """An illegal key, or a value that the operation cannot work on."""


class Closed(Error, ValueError):
    """The store, transaction, snapshot or file is closed."""


class Forked(Error):
    """It was opened before the fork and belongs to the parent. (A store itself opens anew in the child.)"""


class Conflict(Error):
    """Somebody else changed what the transaction had read; nothing was stored. Begin again, or let atomically() do that."""


class TransactionTooLarge(Error):
    """More changes or bytes than one transaction holds: use several, or batch()."""


class ReadOnly(Error):
    """Opened for reading, or a snapshot."""


class NotAStore(Error):
    """Something else, or a store of another format, page size or byte order."""


class Damaged(Error):
    """A record of the store is damaged; what it says is not returned. `kvfs check` finds out what suffers."""


class Lost(Error):
    """A watch was read too late and missed changes. It goes on with the next one."""


_CLASSES: dict[int, type[Error]] = {
    errno.ENOENT: NotFound,
    errno.EEXIST: Exists,
    errno.EISDIR: IsDirectory,
    errno.ENOTDIR: NotDirectory,
    errno.EACCES: Denied,
    errno.EPERM: Denied,
    errno.EINVAL: Invalid,
    errno.ENAMETOOLONG: Invalid,
    errno.EDOM: Invalid,
    errno.ERANGE: Invalid,
    errno.EBADF: Closed,
    errno.EBADFD: Forked,
    errno.ECANCELED: Conflict,
    errno.E2BIG: TransactionTooLarge,
    errno.EROFS: ReadOnly,
    errno.EMEDIUMTYPE: NotAStore,
    errno.EUCLEAN: Damaged,
    errno.EOVERFLOW: Lost,
}

_TEXTS = {
    errno.ECANCELED: "somebody else changed what the transaction had read; nothing was stored",
    errno.E2BIG: "more than 4,000 changes, or 8 MiB of values, in one transaction; use several, or batch()",
    errno.EISDIR: "it is a directory: there are keys below it",
    errno.ENOTDIR: "a part of its path is a value",
    errno.EROFS: "opened for reading only",
    errno.EDOM: "the value is not an integer",
    errno.EUSERS: "too many snapshots of the store are open; end some",
    errno.ERANGE: "the sum is not an integer of 64 bits",
    errno.EOVERFLOW: "changes were missed, because the watch was read too late",
}


def error(code: int, key: Any, text: str | None) -> Error:
    """The exception for an errno."""
    return _CLASSES.get(code, Error)(code, text or _TEXTS.get(code) or os.strerror(code), key)
