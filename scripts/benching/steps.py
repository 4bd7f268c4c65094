"""Four small steps over one JSON document: what W8's tasks do, on every side."""

from __future__ import annotations

import json
from typing import Any

ORDER = json.dumps(
    {
        "order": 4711,
        "customer": "a customer",
        "lines": [{"sku": f"sku-{n}", "n": n, "price": 1.5 * n} for n in range(8)],
    }
)


async def parse() -> dict[str, Any]:
    """Read the order."""
    order: dict[str, Any] = json.loads(ORDER)
    return order


async def check(parsed: dict[str, Any]) -> dict[str, Any]:
    """Drop the lines that order nothing."""
    return {**parsed, "lines": [line for line in parsed["lines"] if line["n"] > 0]}


async def price(checked: dict[str, Any]) -> dict[str, Any]:
    """Add what each line costs."""
    return {**checked, "lines": [{**line, "cost": line["n"] * line["price"]} for line in checked["lines"]]}


async def total(priced: dict[str, Any]) -> str:
    """The order with its sum, as JSON."""
    return json.dumps({**priced, "total": sum(line["cost"] for line in priced["lines"])})


EXPECTED = 210.0
"""The sum of the order."""
