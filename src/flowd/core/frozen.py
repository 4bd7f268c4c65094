"""The base of all that a specification is made of."""

from __future__ import annotations

import msgspec


class Spec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The base of all parts of a specification: frozen, compared by value."""
