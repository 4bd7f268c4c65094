"""Export the US consumer price index that the `prices` pipeline ships, from statsmodels' `macrodata`.

Run once, with a Python that has statsmodels: python scripts/export_macrodata.py > configs/prices/data/raw.csv
"""

from __future__ import annotations

import statsmodels
from statsmodels.datasets import macrodata


def main() -> None:
    """Write `date,cpi` with a header of comments that says where the numbers come from."""
    table = macrodata.load_pandas().data
    print(
        "# US consumer price index, all urban consumers, all items, 1982-84 = 100, seasonally adjusted, end of quarter"
    )
    print("# FRED, Federal Reserve Bank of St. Louis, accessed 2009-12-15; a US government series, public domain")
    print(f"# exported by scripts/export_macrodata.py from statsmodels {statsmodels.__version__}, datasets.macrodata")
    print("date,cpi")
    for year, quarter, cpi in zip(table["year"], table["quarter"], table["cpi"], strict=True):
        print(f"{int(year)}Q{int(quarter)},{cpi}")


if __name__ == "__main__":
    main()
