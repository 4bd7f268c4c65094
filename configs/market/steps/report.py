"""Write a report of the market and the model as a PDF: figures, and plots.

python steps/report.py --input cleaned_data.csv --model trained_model.pkl --output analysis_report.pdf
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean, pstdev

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.backends.backend_pdf import PdfPages
from model import load
from step import Done, arguments, main
from table import FEATURES, read_numbers

A4 = (8.27, 11.69)
NO_DATES = {"CreationDate": None}  # the same report is the same file


def report(options: argparse.Namespace) -> Done:
    """A page of figures, and one for each plot."""
    found = load(options.model)
    days, features, returns = read_numbers(options.input)
    foreseen = [float(value) for value in found["model"].predict(features)]
    statistics = {
        "days": len(days),
        "mean_return": round(mean(returns), 4),
        "spread": round(pstdev(returns), 4),
        "worst": round(min(returns), 4),
        "best": round(max(returns), 4),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    partial = options.output.with_name(f".{options.output.name}.partial")
    with PdfPages(partial, metadata=NO_DATES) as pdf:
        page = plt.figure(figsize=A4)
        page.text(0.1, 0.92, "What moves the index", size=20)
        page.text(0.1, 0.89, f"{days[0]} to {days[-1]}; the default index is synthetic", size=10)
        figures = {**statistics, **found["metrics"], **found["hyperparameters"]}
        for line, (name, value) in enumerate(figures.items()):
            shown = ", ".join(value) if isinstance(value, list) else value
            page.text(0.1, 0.84 - 0.025 * line, f"{name}: {shown}", size=10)
        pdf.savefig(page)
        plots = plotted(days, features, returns, foreseen)
        for plot in plots:
            pdf.savefig(plot)
    plt.close("all")
    partial.replace(options.output)
    return Done(
        f"{options.output}: {len(plots)} plots",
        {"plots": len(plots)},
        {"artifact_paths": [options.output.name], "summary_statistics": statistics},
    )


def plotted(
    days: list[str], features: list[list[float]], returns: list[float], foreseen: list[float]
) -> list[plt.Figure]:
    """Returns over time, returns against the change of volatility, and what the model makes of them."""
    over, (above, below) = plt.subplots(2, 1, figsize=A4)
    above.plot(returns, linewidth=0.5)
    above.set_title(f"Daily return in percent, {days[0]} to {days[-1]}")
    below.plot([row[FEATURES.index("volatility")] for row in features], linewidth=0.5)
    below.set_title("Volatility")
    against, axes = plt.subplots(figsize=A4)
    axes.scatter([row[FEATURES.index("volatility_change")] for row in features], returns, s=3)
    axes.set(title="Return against the change of volatility", xlabel="change of volatility", ylabel="return (percent)")
    fit, axes = plt.subplots(figsize=A4)
    axes.scatter(foreseen, returns, s=3)
    axes.set(title="Returns, and what the model makes of them", xlabel="model", ylabel="return (percent)")
    return [over, against, fit]


if __name__ == "__main__":
    parser = arguments("Write the report.", "what clean wrote", "where the PDF goes")
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="what save wrote")
    sys.exit(main(parser, report))
