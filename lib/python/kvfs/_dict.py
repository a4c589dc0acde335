"""kvfs.Dict: a persistent dict."""
from __future__ import annotations

import errno
import json
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from . import _kvfs
from ._errors import Invalid
from ._store import Options, Store, options_of
from ._view import Items, Keys, Values, View

K = TypeVar("K", str, bytes, int, float, "str | bytes | int | float")
V = TypeVar("V")

_ascii = json.JSONEncoder().encode
_utf8 = json.JSONEncoder(ensure_ascii=False).encode
_decoder = json.JSONDecoder()


def _dumps_json(value: Any) -> bytes:
    try:
        return _utf8(value).encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return _ascii(value).encode()


def _loads_json(data: bytes) -> Any:
    text = data.decode()
    try:
        value, end = _decoder.raw_decode(text)
        if end == len(text):
            return value
    except ValueError:
        pass
    return _decoder.decode(text)  # there is white space around it, or something wrong


def _dumps_bytes(value: Any) -> Any:
    if isinstance(value, str):
        raise TypeError("with codec=bytes, a value is bytes, not str")
    return value


def _dumps_str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"with codec=str, a value is a str, not {type(value).__name__}")
    return value


def _loads_str(data: bytes) -> str:
    return data.decode()


Codec = tuple[Callable[[Any], Any], Callable[[bytes], Any] | None]

JSON: Codec = (_dumps_json, _loads_json)
#: Any object that pickle knows. Whoever can write to the store can have code run by those who read it.
UNSAFE_PICKLE: Codec = (pickle.dumps, pickle.loads)
_NAMED: dict[Any, Codec] = {bytes: (_dumps_bytes, None), str: (_dumps_str, _loads_str)}


class Dict(View[K, V]):
    """`d = kvfs.Dict(path); d[key] = value`, for more than memory holds, shared by all who open it.

    Keys are any str, bytes, int or float, of any length; each comes back as the type it was. `1`, `1.0`, `"1"` and `b"1"` are four keys;
    True is refused, because it would come back as 1; nan is one key; -0.0 and 0.0 are two. In a mount, the key is the file's name, as
    readable as can be: `hello`, `int:183`, `float:1.5`, `bytes:%FF`. Iteration is in the order of these names.

    Values are JSON: what json.loads(json.dumps(value)) gives back (tuples become lists). `codec` chooses otherwise: `bytes`, `str`,
    `kvfs.UNSAFE_PICKLE`, or a pair of functions that make bytes of a value and a value of bytes. The store does not remember which.

    Files of the store that no key's name could be are left alone: they are no keys, but len() counts them."""

    _typed = True

    if TYPE_CHECKING:  # in C

        def __setitem__(self, key: K, value: V, /) -> None: ...

    def __init__(self, path: Any, flag: str = "c", mode: int = 0o600, durability: str | None = None, *, codec: Any = JSON) -> None:
        self._open(options_of(path, flag, mode, durability), codec)
        if flag == "n":
            self._del_tree()

    def _open(self, options: Options, codec: Any, directory: bytes = b"") -> None:
        self._codec = codec
        self._dumps, self._loads = _NAMED.get(codec, codec)
        self._setup(Store(options), None, directory)
        self._owner = True

    def __reduce__(self) -> tuple[Any, ...]:
        if self._txn:
            raise TypeError("a transaction or snapshot cannot be pickled")
        return _reopen, (type(self), self._store.options, self._codec, self._directory)

    def _key(self, name: bytes) -> Any:
        line = None
        if b"%%" in name:  # too long for a name: it is the first line of the value
            data = _kvfs.View(self._store, self._txn, self._directory, False).get(name, b"")
            line = data[: data.find(b"\n") + 1]
        return _kvfs.decode_name(name, line)

    def _name(self, key: str) -> bytes:
        name, line = _kvfs.encode_key(key)
        if line or len(name) > 254:
            raise Invalid(errno.ENAMETOOLONG, "too long for the name of a directory", key)
        return name + b"%"  # which no key's name ends with

    # ---- numbers

    def incr(self, key: K, delta: Any = 1) -> Any:
        """Adds to a number (0 if absent) and returns the sum, however many do so at once."""
        if type(delta) is int and self._codec in (JSON, str):
            try:
                return super().incr(key, delta)
            except (Invalid, OverflowError):  # another kind of number
                pass

        def change(t: Dict[K, Any]) -> Any:
            t[key] = value = t.get(key, 0) + delta
            return value

        return self.atomically(change)

    # ---- all of them

    def flush(self) -> None:
        """Makes everything durable, as sync(). (At durability "full" it is already.)"""
        self.sync()

    def __len__(self) -> int:
        if self._txn and self._txn.changed is not None:
            return self._count()
        found = self._stat("")
        size, nlink = (found[0], found[5]) if found else (0, 2)
        return int(size - (nlink - 2))  # a directory's entries, less those that are directories

    def keys(self) -> Keys[K]:
        return Keys(self)

    def items(self, *, snapshot: bool = False) -> Items[K, V]:
        """Keys and values, in batches as others go on writing; or, with `snapshot`, of one state, which keeps space from reuse meanwhile."""
        return Items(self, snapshot)

    def values(self, *, snapshot: bool = False) -> Values[V]:
        return Values(Items(self, snapshot))

    def clear(self) -> None:
        """Deletes every key, in slices of 1,000; what sub() returned stays."""

        def some(t: Dict[K, V]) -> int:
            keys = [key for key, _ in zip(t, range(1000))]
            for key in keys:
                del t[key]
            return len(keys)

        while self.atomically(some) and not self._txn:
            pass


def _reopen(kind: type[Dict[Any, Any]], options: Options, codec: Any, directory: bytes) -> Dict[Any, Any]:
    new = kind.__new__(kind)
    new._open(options, codec, directory)
    return new
