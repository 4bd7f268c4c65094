"""Three small pipelines that write all that flowd ever writes: outputs, results, journals, checkpoints."""

from __future__ import annotations

import json
from typing import Any

_BEGUN = 'echo {name} >> "$FAULT_LEDGER"; '


def _yaml(name: str, tasks: dict[str, dict[str, Any]], **keys: Any) -> str:
    """A pipeline file; JSON is YAML."""
    for task, policies in tasks.items():
        if "run" in policies:
            policies["run"] = _BEGUN.format(name=task) + policies["run"]
    return json.dumps({"name": name, **keys, "tasks": tasks})


def chain() -> dict[str, str]:
    """Shell tasks one after another; some write only what is not there yet."""
    tasks: dict[str, dict[str, Any]] = {}
    for number in range(12):
        name, out = f"t{number}", f"out/{number}.txt"
        text = f"echo {name} of {{{{ run.id }}}} > {out}"
        tasks[name] = {
            "run": f"test -s {out} || {text}" if number % 2 else text,
            "needs": [f"t{number - 1}"] if number else [],
            "outputs": [out, f"out/{number}/more.txt"] if number == 3 else [out],
        }
    tasks["t3"]["run"] += "; echo more > out/3/more.txt"
    return {"pipeline.yaml": _yaml("chain", tasks)}


STEPS = """
import os
from pathlib import Path


def begun(name):
    with open(os.environ["FAULT_LEDGER"], "a") as file:
        file.write(f"{name}\\n")


def rows():
    begun("rows")
    return ["x" * 100] * 900


def pairs():
    begun("pairs")
    return {(1, 2): "pair"}


def flaky(ctx):
    begun("flaky")
    if ctx.attempt < 3:
        raise RuntimeError("not yet")
    Path(ctx.outputs[0]).write_text("flaky\\n")
    return {"attempt": ctx.attempt}


def apart():
    begun("apart")
    return ["y" * 100] * 700


def total(rows, pairs, flaky, apart, ctx):
    begun("total")
    assert flaky["attempt"] >= 3 and pairs == {(1, 2): "pair"}
    Path(ctx.outputs[0]).write_text(f"{len(rows)} {len(apart)}\\n")
    return len(rows)


def charge(ctx):
    begun("charge")
    Path(ctx.outputs[0]).write_text("charged\\n")
    return ["z" * 100] * 500


async def send(charge, ctx):
    begun("send")
    Path(ctx.outputs[0]).write_text(f"{len(charge)} sent\\n")


def part(ctx):
    begun(ctx.task)
    for path in ctx.outputs:
        path.write_text(f"{ctx.task}\\n")
    return [ctx.task * 1000] * 20
"""


def python() -> dict[str, str]:
    """Functions with large results, JSON and pickled, and one that succeeds at its third attempt."""
    tasks: dict[str, dict[str, Any]] = {
        "rows": {"call": "steps:rows"},
        "pairs": {"call": "steps:pairs"},
        "flaky": {
            "call": "steps:flaky",
            "outputs": ["flaky.txt"],
            "retry": {"attempts": 3, "backoff": "constant", "delay": "5ms"},
        },
        "apart": {"call": "steps:apart", "needs": ["rows"]},
        **{f"part{n}": {"call": "steps:part", "outputs": [f"parts/{n}/a", f"parts/{n}/b"]} for n in range(4)},
        "total": {"call": "steps:total", "outputs": ["total/total.txt"], "needs": ["rows", "pairs", "flaky", "apart"]},
    }
    return {"pipeline.yaml": _yaml("python", tasks, max_concurrency=2), "steps.py": STEPS}


ONCE_MORE: dict[str, Any] = {"call": "steps:part", "idempotent": False}


def once() -> dict[str, str]:
    """Tasks that must not run twice by themselves, with outputs."""
    tasks: dict[str, dict[str, Any]] = {
        "before": {"run": "echo before > before.txt", "outputs": ["before.txt"]},
        "charge": {"call": "steps:charge", "needs": ["before"], "outputs": ["charge.txt"], "idempotent": False},
        "post": {"run": "echo post > post/it", "needs": ["before"], "outputs": ["post/it"], "idempotent": False},
        "send": {"call": "steps:send", "needs": ["charge"], "outputs": ["sent.txt"], "idempotent": False},
        **{f"once{n}": {**ONCE_MORE, "outputs": [f"once/{n}"], "needs": ["before"]} for n in range(4)},
        "after": {"run": "cat sent.txt post/it > after.txt", "needs": ["send", "post"], "outputs": ["after.txt"]},
    }
    return {"pipeline.yaml": _yaml("once", tasks), "steps.py": STEPS}


PIPELINES = {"chain": chain, "python": python, "once": once}
ONCE = frozenset({"charge", "post", "send", "once0", "once1", "once2", "once3"})
"""The tasks, of all of them, that are not idempotent."""


def moving(happens: str) -> dict[str, str]:
    """Tasks of which the second does something to the place that the run is kept in."""
    tasks: dict[str, dict[str, Any]] = {
        "first": {"run": "echo first > first.txt", "outputs": ["first.txt"]},
        "moves": {"run": f"test -e moved || {{ touch moved; {happens}; }}", "needs": ["first"]},
        "last": {"run": "echo last > last.txt", "needs": ["moves"], "outputs": ["last.txt"]},
    }
    return {"pipeline.yaml": _yaml("moving", tasks)}


def napping() -> dict[str, str]:
    """Coroutines one after another that write nothing: all that comes to disk is flowd's own."""
    nap = "import asyncio\n\n\nasync def nap():\n    await asyncio.sleep(0.03)\n"
    tasks = {f"t{n}": {"call": "naps:nap", "needs": [f"t{n - 1}"] if n else []} for n in range(30)}
    return {"pipeline.yaml": _yaml("napping", tasks), "naps.py": nap}


def chatty() -> dict[str, str]:
    """Tasks that fill a small disk with nothing but what they print."""
    tasks: dict[str, dict[str, Any]] = {
        f"t{n}": {"run": "yes loud | head -c 40000", "needs": [f"t{n - 1}"] if n else []} for n in range(8)
    }
    return {"pipeline.yaml": _yaml("chatty", tasks)}
