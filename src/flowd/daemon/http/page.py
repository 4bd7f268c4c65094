"""One plain page: what there is, when it is due, and how it went. No script, nothing from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Any

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .75rem .25rem 0;"
    "border-bottom:1px solid #8884;vertical-align:top}code{font-size:.9em}"
)

POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a browser may load for the page: its own style, and nothing else."""


def page(
    pipelines: Sequence[Mapping[str, Any]], schedules: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]
) -> str:
    """The page as HTML."""
    parts = [
        "<h1>flowd</h1>",
        "<h2>Schedules</h2>",
        _table(
            ("schedule", "when", "next", "last run"),
            [
                (
                    one["name"],
                    one["when"],
                    f"paused by {one['paused']}" if one["paused"] else one["next"],
                    one["last_run"],
                )
                for one in schedules
            ],
            "no pipeline has a schedule",
        ),
        "<h2>Runs</h2>",
        _table(
            ("run", "pipeline", "state", "started", "seconds"),
            [
                (one["run"], one.get("pipeline"), one["state"], one.get("started"), one.get("duration_s"))
                for one in runs
            ],
            "nothing has run yet",
        ),
        "<h2>Pipelines</h2>",
        _table(
            ("pipeline", "file", "problems"),
            [
                (one["name"], one["file"], "; ".join(problem["message"] for problem in one["problems"]) or "none")
                for one in pipelines
            ],
            "there are none",
        ),
        "<p>The API is below <code>/api/v1</code>; <a href='/openapi.json'>openapi.json</a> describes it.</p>",
    ]
    head = f"<meta charset=utf-8><title>flowd</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], otherwise: str) -> str:
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return f"<p>{escape(otherwise)}.</p>"
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    return "" if value is None else escape(str(value))
