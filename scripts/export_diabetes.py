"""Export the patients that the `retrain` pipeline ships, from scikit-learn's `load_diabetes`.

Run once, with a Python that has scikit-learn: python scripts/export_diabetes.py > configs/retrain/data/source.csv
"""

from __future__ import annotations

from sklearn.datasets import load_diabetes


def main() -> None:
    """Write a line of column names and one row for each patient, values unchanged."""
    found = load_diabetes(scaled=False)
    print(",".join([*found.feature_names, "progression"]))
    for row, target in zip(found.data, found.target, strict=True):
        print(",".join(f"{value:g}" for value in [*row, target]))


if __name__ == "__main__":
    main()
