"""Make the data of the `market` pipeline: an index and its volatility by a seeded generator, and real macro series.

Run once, with a Python that has statsmodels: python scripts/export_market.py
"""

from __future__ import annotations

import math
import random
from datetime import date, timedelta
from pathlib import Path

import statsmodels
from statsmodels.datasets import macrodata

DATA = Path(__file__).resolve().parent.parent / "configs" / "market" / "data"
SEED = 1987
FIRST, LAST = date(2000, 1, 3), date(2009, 9, 30)
REGIMES = ((0.0004, 0.008, 0.995), (-0.0012, 0.022, 0.97))
"""Calm and stormy: the mean and spread of a day's return, and how likely the next day is of the same kind."""
SYNTHETIC = ("SYNTHETIC: no real market", f"made by scripts/export_market.py from seed {SEED}")
MACRO = (
    "US economy by quarter: consumer prices (1982-84 = 100), unemployment, three-month rate and inflation in percent",
    "FRED, Federal Reserve Bank of St. Louis, accessed 2009-12-15; a US government series, public domain",
    f"exported by scripts/export_market.py from statsmodels {statsmodels.__version__}, datasets.macrodata",
)


def days() -> list[date]:
    """Every weekday of the period."""
    every = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
    return [day for day in every if day.weekday() < 5]


def walked(chance: random.Random) -> tuple[list[float], list[float]]:
    """Closing prices in two regimes, and a volatility that rises as prices fall."""
    closes, volatilities = [1400.0], [20.0]
    regime = 0
    for _ in days()[1:]:
        mean, spread, stays = REGIMES[regime]
        change = chance.gauss(mean, spread)
        closes.append(closes[-1] * math.exp(change))
        level = 16.0 if regime == 0 else 34.0
        pulled = 0.05 * (level - volatilities[-1]) - 85.0 * change * (volatilities[-1] / 20.0) + chance.gauss(0, 0.55)
        volatilities.append(max(9.0, volatilities[-1] + pulled))
        regime = regime if chance.random() < stays else 1 - regime
    return closes, volatilities


def with_defects(rows: list[tuple[str, float]], chance: random.Random) -> list[str]:
    """The rows as text, with what real files hold: gaps, repeated days, a negative and a missing price, stale ones."""
    kept = [row for row in rows if chance.random() > 0.004]
    for place in chance.sample(range(20, len(kept)), 6):
        kept[place] = (kept[place][0], kept[place - 1][1])  # stale: the price of the day before
    text = [f"{day},{price:.2f}" for day, price in kept]
    for place in sorted(chance.sample(range(len(text)), 5), reverse=True):
        text.insert(place, text[place])
    for place, price in zip(chance.sample(range(50, len(text)), 3), ("-1.00", "", "n/a"), strict=True):
        text[place] = f"{text[place].partition(',')[0]},{price}"
    return text


def write(name: str, comments: tuple[str, ...], lines: list[str]) -> None:
    """A file of the pipeline's data, below comments that say where it comes from."""
    text = "\n".join([*(f"# {comment}" for comment in comments), *lines]) + "\n"
    (DATA / name).write_text(text, encoding="utf-8")


def main() -> None:
    """Write the three files."""
    chance = random.Random(SEED)
    closes, volatilities = walked(chance)
    named = [day.isoformat() for day in days()]
    write("index.csv", SYNTHETIC, ["date,close", *with_defects(list(zip(named, closes, strict=True)), chance)])
    write(
        "volatility.csv", SYNTHETIC, ["date,close", *with_defects(list(zip(named, volatilities, strict=True)), chance)]
    )
    lines = ["date,cpi,unemp,tbilrate,infl"]
    for _, row in macrodata.load_pandas().data.iterrows():
        if row["year"] >= FIRST.year - 1:
            told = date(int(row["year"]) + (row["quarter"] == 4), int(row["quarter"] % 4) * 3 + 1, 1)
            lines.append(
                ",".join([told.isoformat(), *(str(row[name]) for name in ("cpi", "unemp", "tbilrate", "infl"))])
            )
    write("macro.csv", (*MACRO, "date: the first day after the quarter"), lines)


if __name__ == "__main__":
    main()
