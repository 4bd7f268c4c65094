"""Instants as a person types them."""

from __future__ import annotations

from datetime import MAXYEAR, MINYEAR, UTC, datetime
from zoneinfo import ZoneInfo

from flowd.core.errors import BadRequest


def instant(text: str, zone: str, option: str) -> datetime:
    """The instant (UTC) that `option` names: a day is its midnight, and what has no offset is the time in `zone`.

    BadRequest where it is neither, or in the first or the last year that dates know.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(
            f"{option} {text} is no time; write 2026-11-01T06:00:00Z, or 2026-11-01 for its midnight in {zone}"
        ) from None
    if not MINYEAR < found.year < MAXYEAR:
        raise BadRequest(f"{option} {text} is out of reach; write a year that is not the first or the last")
    return (found if found.tzinfo is not None else found.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)
