"""What a pipeline declares of a limit: by its name, or for each key (`db-*`) that a name begins with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

EACH = "*"
"""Ends the name of what holds for each key."""


def declared(found: Mapping[str, T], name: str) -> T | None:
    """What is said of the limit `name`: the exact name first, then the longest beginning that has a `*`."""
    exact = found.get(name)
    if exact is not None or not found:
        return exact
    begun = [given for given in found if given.endswith(EACH) and name.startswith(given[:-1])]
    return found[max(begun, key=len)] if begun else None
