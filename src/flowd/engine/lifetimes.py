"""How long a service serves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from flowd.core.durations import parse_duration
from flowd.core.expressions import ExpressionError, render_value
from flowd.core.spec import Service


def lifetime_of(service: Service, scope: Mapping[str, Any]) -> timedelta | None:
    """How long a service serves; None: without a bound. ExpressionError where what it says is no duration."""
    if service.lifetime_of is None:
        return service.lifetime
    said = str(render_value(service.lifetime_of, scope))
    try:
        return None if said == "none" else parse_duration(said)
    except ValueError:
        hint = "give a number and a unit: 30s, 10m, 6h, 7d; or none"
        raise ExpressionError("bad_duration", f"its `lifetime` is {said!r}, which is no duration", hint) from None
