"""The model and the market on a page.

streamlit run steps/dashboard.py -- --model trained_model.pkl --input cleaned_data.csv

Every change of a slider is told as a user interaction.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import streamlit as st
from model import load
from table import FEATURES, TARGET, read_numbers


def told(name: str) -> None:
    """Count something where flowd reads it."""
    count = st.session_state[name] = st.session_state.get(name, 0) + 1
    if path := os.environ.get("FLOWD_METRICS"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{name}={count}\n")


parser = argparse.ArgumentParser(description="Show the model.")
parser.add_argument("--model", type=Path, required=True)
parser.add_argument("--input", type=Path, required=True)
options = parser.parse_args()
found = load(options.model)
days, features, returns = read_numbers(options.input)

st.set_page_config(page_title="market", layout="wide")
st.title("What moves the index")
st.caption("The default index and its volatility are synthetic; the macro series are those of the US.")
for column, (name, value) in zip(st.columns(len(found["metrics"])), found["metrics"].items(), strict=True):
    column.metric(name.replace("_", " "), value)
shown = st.slider("Days shown", 50, len(days), min(500, len(days)), on_change=told, args=("user_interactions",))
st.line_chart({"return (percent)": returns[-shown:]})
st.scatter_chart(
    {
        "change of volatility": [row[FEATURES.index("volatility_change")] for row in features[-shown:]],
        TARGET: returns[-shown:],
    },
    x="change of volatility",
    y=TARGET,
)
change = st.slider("If volatility changed by", -10.0, 10.0, 0.0, on_change=told, args=("user_interactions",))
asked = [change if name == "volatility_change" else cell for name, cell in zip(FEATURES, features[-1], strict=True)]
st.write(f"the index would change by **{float(found['model'].predict([asked])[0]):.2f}** percent")
