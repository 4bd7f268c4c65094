"""Task results on their way to disk and back: what a consumer sees is what was stored.

A consumer always gets a value decoded from what was recorded, in a live run as after a crash;
so no task can reach into another's data, and a resumed run computes with the same values.
"""

from __future__ import annotations

import hashlib
import math
import pickle
from typing import Any

import msgspec

from flowd.core.errors import FlowdError
from flowd.core.events import Stored
from flowd.ports.stores import Results

INLINE_BYTES = 32 * 1024
"""A JSON result up to this size stands in the journal; a larger one is a file of its own."""

ITEM_BYTES = 512
"""As much of an item, of which there may be very many."""

_encoder = msgspec.json.Encoder()
_PLAIN = frozenset({str, int, bool, type(None)})


class BadResult(FlowdError):
    """A value that cannot be kept: it names where in the value the trouble is."""


def is_json(value: Any, path: str = "result") -> bool:
    """Whether `value` is the same after a trip through JSON; BadResult for NaN and infinity."""
    kind = type(value)
    if kind in _PLAIN:
        return kind is not int or -(2**63) <= value < 2**64
    if kind is float:
        if not math.isfinite(value):
            raise BadResult(f"{path} is {value}, which JSON cannot hold; return None or leave it out")
        return True
    if kind is list:
        return all(is_json(item, f"{path}[{number}]") for number, item in enumerate(value))
    if kind is dict:
        return all(type(key) is str and is_json(item, f"{path}.{key}") for key, item in value.items())
    return False


async def store(value: Any, results: Results, inline: int = INLINE_BYTES) -> Stored | None:
    """Keep a result: JSON inline up to so many bytes, JSON in a file, or a pickle where JSON would change it.

    Raises BadResult where it can be kept in no way.
    """
    if value is None:
        return None
    codec = "json" if is_json(value) else "pickle"
    try:
        data = _encoder.encode(value) if codec == "json" else pickle.dumps(value, protocol=5)
    except (TypeError, ValueError, AttributeError, pickle.PicklingError, RecursionError, UnicodeEncodeError) as error:
        raise BadResult(
            f"the result, a {type(value).__name__}, cannot be kept: {error}; return plain data, or write a file"
        ) from error
    if codec == "json":
        return await store_json(data, results, inline)
    return Stored(codec=codec, digest=await results.put(data, codec), size=len(data))


async def store_json(data: bytes, results: Results, inline: int = INLINE_BYTES) -> Stored:
    """Keep a value that is JSON already."""
    if len(data) <= inline:
        return Stored(digest=hashlib.sha256(data).hexdigest(), size=len(data), inline=msgspec.Raw(data))
    return Stored(digest=await results.put(data, "json"), size=len(data))


def is_apart(stored: Stored) -> bool:
    """Whether the value is in a file of its own, not in the journal."""
    return not isinstance(stored.inline, msgspec.Raw)


def inline(stored: Stored | None) -> Any:
    """The value that stands in the journal; None where there is none."""
    return msgspec.json.decode(stored.inline) if stored is not None and isinstance(stored.inline, msgspec.Raw) else None


async def load(stored: Stored | None, results: Results) -> Any:
    """The value that was stored. StateDamaged where its file is gone or altered."""
    if stored is None or not is_apart(stored):
        return inline(stored)
    data = await results.get(stored.digest, stored.codec)
    return msgspec.json.decode(data) if stored.codec == "json" else pickle.loads(data)  # noqa: S301  # signed per state directory
