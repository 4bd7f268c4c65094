"""Plain pages: what there is, when it is due, how it went, what is asked. No script, nothing from elsewhere."""

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
"""What a browser may load for a page: its own style, and nothing else."""
FORM_POLICY = POLICY.replace("form-action 'none'", "form-action 'self'")
"""The same, for a page with a button."""


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
                (_Run(one["run"]), one.get("pipeline"), one["state"], one.get("started"), one.get("duration_s"))
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
    return _html("flowd", *parts)


def run_page(run: Mapping[str, Any]) -> str:
    """A run, from its document: its state, and that of each task with the reason."""
    facts = [(name, run[name]) for name in ("pipeline", "state", "started", "ended", "duration_s")]
    tasks = [
        (
            name,
            task["state"],
            task["attempts"],
            (task["reason"] or {}).get("sentence"),
            (task["error"] or {}).get("message"),
        )
        for name, task in run["tasks"].items()
    ]
    return _html(
        run["run"],
        f"<h1>{_cell(run['run'])}</h1>",
        _table(("", ""), facts, ""),
        "<h2>Tasks</h2>",
        _table(("task", "state", "attempts", "reason", "error"), tasks, "it has none"),
        "<p><a href='/'>All runs</a></p>",
    )


def question(asked: Mapping[str, Any]) -> str:
    """What a link would do, with the button that does it."""
    facts = [("run", asked["run"]), ("task", asked["task"]), ("good until", asked["expires"]), ("as", asked["by"])]
    facts += [("to look at", path) for path in asked["show"]]
    facts += [(f"{name} will be", field["default"]) for name, field in asked["form"].items()]
    return _html(
        f"{asked['answer']} {asked['task']}?",
        f"<h1>{_cell(asked['answer'].capitalize())} {_cell(asked['task'])} of {_cell(asked['pipeline'])}?</h1>",
        f"<p>{_cell(asked['message'])}</p>",
        _table(("", ""), facts, ""),
        f"<form method=post><p><button>{_cell(asked['answer'])}</button></p></form>",
    )


def answered(run: str, task: str, answer: str) -> str:
    """What has been done by a link."""
    said = "approved" if answer == "approve" else "rejected"
    return _html(f"{task}: {said}", f"<h1>{_cell(task)} is {said}</h1>", f"<p>Run {_cell(run)} knows.</p>")


def refused(why: str) -> str:
    """Why a link does nothing."""
    return _html("this link does nothing", "<h1>This link does nothing</h1>", f"<p>{_cell(why)}.</p>")


def _html(title: str, *parts: str) -> str:
    head = f"<meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>"


class _Run(str):
    """A run's id, which leads to its page."""

    __slots__ = ()


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], otherwise: str) -> str:
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return f"<p>{escape(otherwise)}.</p>"
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    top = f"<thead><tr>{names}</tr></thead>" if any(head) else ""
    return f"<table>{top}<tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    text = "" if value is None else escape(str(value))
    return f"<a href='/runs/{text}'>{text}</a>" if isinstance(value, _Run) else text
