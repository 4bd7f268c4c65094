"""Export the US series that the `prices` and `scoring` pipelines ship, from statsmodels' `macrodata`.

Run once, with a Python that has statsmodels: python scripts/export_macrodata.py
"""

from __future__ import annotations

from pathlib import Path

import statsmodels
from statsmodels.datasets import macrodata

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SOURCES = (
    "FRED, Federal Reserve Bank of St. Louis, accessed 2009-12-15; a US government series, public domain",
    f"exported by scripts/export_macrodata.py from statsmodels {statsmodels.__version__}, datasets.macrodata",
)
EXPORTS = {
    "prices": (
        "US consumer price index, all urban consumers, all items, 1982-84 = 100, seasonally adjusted, end of quarter",
        ["cpi"],
    ),
    "scoring": (
        "US economy by quarter: real GDP, consumption, investment (billions of 2005 dollars), rates in percent",
        ["realgdp", "realcons", "realinv", "unemp", "tbilrate", "infl"],
    ),
}


def main() -> None:
    """Write `date` and the columns of each, below comments that say where the numbers come from."""
    table = macrodata.load_pandas().data
    for name, (about, columns) in EXPORTS.items():
        lines = [f"# {line}" for line in (about, *SOURCES)] + [",".join(["date", *columns])]
        for _, row in table.iterrows():
            quarter = f"{row['year']:.0f}Q{row['quarter']:.0f}"
            lines.append(",".join([quarter, *(str(row[column]) for column in columns)]))
        (CONFIGS / name / "data" / "raw.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
