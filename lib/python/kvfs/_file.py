"""File objects over values, of any size, in bounded memory."""
from __future__ import annotations

import errno
import io
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _kvfs
from ._errors import Error, Invalid

if TYPE_CHECKING:
    from ._view import View

_WRITE = _kvfs.STREAM_WRITE | _kvfs.STREAM_CREATE
_MODES = {
    "rb": _kvfs.STREAM_READ,
    "r+b": _kvfs.STREAM_READ | _kvfs.STREAM_WRITE,
    "wb": _WRITE | _kvfs.STREAM_TRUNCATE,
    "w+b": _WRITE | _kvfs.STREAM_TRUNCATE | _kvfs.STREAM_READ,
    "xb": _WRITE | _kvfs.STREAM_EXCL,
    "x+b": _WRITE | _kvfs.STREAM_EXCL | _kvfs.STREAM_READ,
}
_READ_BUFFER = 64 << 10
_WRITE_BUFFER = 512 << 10
_APPEND_MAX = 4 << 20  # what one append takes


class Raw(io.RawIOBase):
    """An open value without a buffer."""

    def __init__(self, stream: _kvfs.Stream, key: Any, mode: str) -> None:
        self.name, self.mode = key, mode
        self.dropped = False
        self._stream, self._at = stream, 0

    def readable(self) -> bool:
        return "r" in self.mode or "+" in self.mode

    def writable(self) -> bool:
        return self.mode != "rb"

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self.readable():
            raise io.UnsupportedOperation("not readable")
        n = self._stream.readinto(buffer, self._at)
        self._at += n
        return n

    def write(self, data: Any, /) -> int:
        if not self.writable():
            raise io.UnsupportedOperation("not writable")
        n = len(data) if self.dropped else self._stream.write(data, self._at)
        self._at += n
        return n

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        at = offset + (0 if whence == io.SEEK_SET else self._at if whence == io.SEEK_CUR else self._stream.size())
        if at < 0:
            raise Invalid(errno.EINVAL, "before the beginning", self.name)
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None, /) -> int:
        if not self.writable():
            raise io.UnsupportedOperation("not writable")
        size = self._at if size is None else size
        self._stream.truncate(size)
        return size

    def publish(self) -> None:
        self._stream.publish()

    def close(self) -> None:
        if not self.closed:
            super().close()
            if self.dropped:
                self._stream.abort()
            else:
                self._stream.close()


class Appender(io.RawIOBase):
    """Each write is one append."""

    def __init__(self, view: View[Any, Any], key: Any) -> None:
        self.name, self.mode = key, "ab"
        self.dropped = False
        self._view = view
        view.append(key, b"")

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        part = memoryview(data)[:_APPEND_MAX]
        if not self.dropped:
            self._view.append(self.name, part)
        return len(part)

    def publish(self) -> None:
        pass


class _Session:
    """What a file object that writes can do besides."""

    raw: Any

    def drop(self) -> None:
        """Closes without publishing what was not published yet."""
        self.raw.dropped = True
        self.close()  # type: ignore[attr-defined]

    def sync(self) -> None:
        """Publishes what was written so far, durable by the store's level, and goes on."""
        self.flush()  # type: ignore[attr-defined]
        self.raw.publish()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None) -> None:
        if kind is None:
            self.close()  # type: ignore[attr-defined]
        else:
            self.drop()


class Writer(_Session, io.BufferedWriter):  # type: ignore[misc]
    pass


class ReaderWriter(_Session, io.BufferedRandom):  # type: ignore[misc]
    pass


def open_file(view: View[Any, Any], key: Any, mode: str, buffering: int) -> Any:
    if len(mode) == 3 and mode.endswith("+"):
        mode = mode[0] + "+b"
    if mode == "ab":
        return Writer(Appender(view, key), buffering if buffering > 0 else _WRITE_BUFFER)
    if mode not in _MODES:
        raise ValueError(f"mode must be 'ab' or one of {sorted(_MODES)}, not {mode!r}")
    try:
        raw = Raw(view._stream(key, _MODES[mode], 0o644), key, mode)
    except Error as e:
        if e.errno != errno.EBUSY or mode != "rb":
            raise
        return io.BytesIO(_kvfs.View.__getitem__(view, key))  # written in this very transaction
    if buffering == 0:
        return raw
    if mode == "rb":
        return io.BufferedReader(raw, buffering if buffering > 0 else _READ_BUFFER)
    return (ReaderWriter if "+" in mode else Writer)(raw, buffering if buffering > 0 else _WRITE_BUFFER)
