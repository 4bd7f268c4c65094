"""Step 2: drop what cannot be used, keep one price a quarter, and compute inflation.

python steps/clean.py --input prices_raw.json --output prices_clean.json
"""

from __future__ import annotations

import argparse
import calendar
import math
import re
import sys
from collections import Counter
from datetime import date

from step import BadInput, Done, arguments, main, read_json, write_json

_QUARTER = re.compile(r"(\d{4})(?:\.0)?[\s-]*[Qq]\s*([1-4])(?:\.0)?")
_DAY = re.compile(r"(\d{4})[-/](\d{1,2})(?:[-/](\d{1,2}))?(?:[T ].*)?")


def day_of(text: str) -> date | None:
    """The day that a date stands for: of a quarter or a month its last; None where it is no date."""
    if quarter := _QUARTER.fullmatch(text):
        return last_day(int(quarter[1]), int(quarter[2]) * 3)
    if parts := _DAY.fullmatch(text):
        try:
            year, month = int(parts[1]), int(parts[2])
            return date(year, month, int(parts[3])) if parts[3] else last_day(year, month)
        except (ValueError, calendar.IllegalMonthError):
            return None
    return None


def last_day(year: int, month: int) -> date:
    """The last day of a month."""
    return date(year, month, calendar.monthrange(year, month)[1])


def price_of(text: str) -> float | None:
    """A price, or None where the cell holds no finite number."""
    try:
        price = float(text.replace(",", ""))
    except ValueError:
        return None
    return price if math.isfinite(price) else None


def usable(rows: list[list[str]], dropped: Counter[str]) -> dict[date, float]:
    """Prices by day; each row that cannot be used is counted in `dropped` by its reason."""
    prices: dict[date, float] = {}
    for written, cell in rows:
        day, price = day_of(written.strip()), price_of(cell)
        if day is None:
            dropped["unreadable date"] += 1
        elif price is None:
            dropped["missing price"] += 1
        elif price <= 0:
            dropped["price not above zero"] += 1
        elif day in prices:
            dropped["duplicate date"] += 1  # the first one stands
        else:
            prices[day] = price
    return prices


def quarters_of(prices: dict[date, float], dropped: Counter[str]) -> dict[int, float]:
    """The last price of each quarter; quarters are counted from year 0, so neighbours differ by one."""
    quarters: dict[int, float] = {}
    for day in sorted(prices):
        number = day.year * 4 + (day.month - 1) // 3
        if number in quarters:
            dropped["earlier in its quarter"] += 1
        quarters[number] = prices[day]
    return quarters


def clean(options: argparse.Namespace) -> Done:
    """Rows with the quarter, its last day, the price and the annualised inflation in percent (null after a gap)."""
    raw = read_json(options.input, "source", "column", "rows")
    dropped: Counter[str] = Counter()
    quarters = quarters_of(usable(raw["rows"], dropped), dropped)
    if not quarters:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "there are none"
        raise BadInput(f"{options.input}: no usable row ({reasons})")
    rows = []
    for number, price in quarters.items():
        year, quarter = divmod(number, 4)
        before = quarters.get(number - 1)
        inflation = None if before is None else round(400 * math.log(price / before), 4)
        day = last_day(year, quarter * 3 + 3).isoformat()
        rows.append({"quarter": f"{year}Q{quarter + 1}", "date": day, "price": price, "inflation": inflation})
    write_json(
        options.output,
        {"source": raw["source"], "column": raw["column"], "dropped": dict(sorted(dropped.items())), "rows": rows},
    )
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
    total = dropped.total()
    return Done(
        f"{len(raw['rows'])} rows in, {len(rows)} out, {total} dropped" + (f": {reasons}" if reasons else ""),
        {"rows_in": len(raw["rows"]), "rows_out": len(rows), "dropped": total},
        {"dropped": dict(dropped)},
    )


if __name__ == "__main__":
    sys.exit(
        main(arguments("Clean prices and compute inflation.", "what ingest wrote", "where the clean rows go"), clean)
    )
