"""One model: the same graph in YAML and in Python is one specification, and one plan."""

from __future__ import annotations

import json
import sys

import msgspec
import pytest

from flowd import Pipeline
from flowd.__main__ import main
from flowd.core.spec import Definition

STEPS = """
async def ingest(ctx, source): ...
def clean(ingest): ...
def train(ctx, clean, rows=3): ...
def report(train, clean): ...
"""

SMALL = (
    "name: small\ntasks: {one: {run: echo 1}}\n",
    "p = Pipeline('small')\np.shell('one', 'echo 1')\n",
)

PRICES = (
    """
name: prices
description: "The README's"
params: {source: {type: uri, default: data/source.csv}, min_r2: {type: float, default: 0.2, min: 0, max: 1}}
max_concurrency: 4
limits: {cpu: 2, gpu: {capacity: 0.5}}
defaults: {timeout: 10m, retry: {attempts: 3, backoff: linear, delay: 200ms}, env: {A: "1"}}
tasks:
  ingest:
    call: steps:ingest
    with: {source: "{{ params.source }}"}
    outputs: [raw.json]
    fresh_for: 1d
  clean: {call: "steps:clean", needs: [ingest], inputs: [raw.json], outputs: [{path: clean.json, checkpoint: true}, log.txt]}
  train:
    call: steps:train
    needs: clean
    executor: process
    idempotent: false
    uses: {cpu: 2}
    priority: 3
    logs: [rows, r2]
  report: {call: "steps:report", needs: [train, clean], cache: false, code: ["*.tmpl"], description: At the end}
""",
    """
import steps
p = Pipeline("prices", description="The README's", max_concurrency=4, limits={"cpu": 2, "gpu": {"capacity": 0.5}},
    params={"source": {"type": "uri", "default": "data/source.csv"},
            "min_r2": {"type": "float", "default": 0.2, "min": 0, "max": 1}},
    defaults={"timeout": timedelta(minutes=10), "retry": Retry(attempts=3, backoff="linear", delay="200ms"), "env": {"A": "1"}})
ingest = p.task(with_={"source": "{{ params.source }}"}, outputs=["raw.json"], fresh_for="1d")(steps.ingest)
p.task(inputs=[Path("raw.json")], outputs=({"path": "clean.json", "checkpoint": True}, "log.txt"))(steps.clean)
p.task(executor="process", idempotent=False, uses={"cpu": 2}, priority=3, logs=["rows", "r2"])(steps.train)
p.task(cache=False, code=["*.tmpl"], description="At the end")(steps.report)
""",
)

COMMANDS = (
    """
name: commands
deadline: 2h
env: {B: "{{ params.n }}", C: 3}
shell: bash
workdir: work
log: {file: "logs/{{ task }}.log", console: stdout, format: json, level: debug}
params: {n: 3, day: {type: date, required: true}, kinds: [a, b], wait: {type: duration, default: 90s, description: How long}}
tasks:
  make: {run: "seq {{ params.n }} > o.txt", outputs: [o.txt], grace: 1s, timeout: none}
  read:
    run: [wc, -l, "{{ inputs[0] }}"]
    inputs: [o.txt]
    cwd: /
    env: {D: "x"}
    retry: {attempts: 5, backoff: exponential, delay: 1s, max_delay: 1m, jitter: 100ms, on: [75, timeout], never_on: [2], max_elapsed: 1h}
  b-1: {run: 'true', needs: [make, read], shell: sh, idempotent: false}
  last: {run: 'echo {{ tasks["b-1"].result }}', needs: b-1, executor: shell}
""",
    """
p = Pipeline("commands", deadline="2h", env={"B": "{{ params.n }}", "C": 3}, shell="bash", workdir="work",
    log={"file": "logs/{{ task }}.log", "console": "stdout", "format": "json", "level": "debug"},
    params={"n": 3, "day": {"type": "date", "required": True}, "kinds": ["a", "b"],
            "wait": {"type": "duration", "default": timedelta(seconds=90), "description": "How long"}})
make = p.shell("make", "seq {{ params.n }} > o.txt", outputs=["o.txt"], grace=timedelta(seconds=1), timeout="none")
read = p.shell("read", ["wc", "-l", "{{ inputs[0] }}"], inputs=["o.txt"], cwd="/", env={"D": "x"},
    retry=Retry(5, backoff="exponential", delay="1s", max_delay="1m", jitter="100ms", on=[75, "timeout"], never_on=[2],
                max_elapsed="1h"))
b = p.shell("b-1", "true", needs=[make, read], shell="sh", idempotent=False)
p.shell("last", 'echo {{ tasks["b-1"].result }}', needs=b, executor="shell")
""",
)

MANY = (
    "name: many\ntasks:\n"
    + "".join(
        f"  t{n}: {{run: x, needs: [{', '.join(f't{m}' for m in range(n) if n % (m + 1) == 0)}]}}\n" for n in range(40)
    ),
    "p = Pipeline('many')\nfor n in range(40): p.shell(f't{n}', 'x', needs=[f't{m}' for m in range(n) if n % (m + 1) == 0])\n",
)

HEAD = "from datetime import timedelta\nfrom pathlib import Path\nfrom flowd import Pipeline, Retry\n"


def plan(folder, file, capsys, *more):
    """What `plan --json` says, the state directory aside."""
    assert main(["plan", str(folder / file), "--json", *more]) == 0
    document = json.loads(capsys.readouterr().out)
    del document["state_dir"]
    return document


@pytest.mark.parametrize(
    ("written", "more"),
    [(SMALL, ()), (PRICES, ()), (COMMANDS, ("-p", "day=2026-11-22")), (MANY, ())],
    ids=["small", "prices", "commands", "many"],
)
def test_yaml_and_python_are_one_specification_and_one_plan(written, more, tmp_path, capsys, monkeypatch):
    """Equal values, equal bytes as recorded, and an identical `plan --json`."""
    monkeypatch.delitem(sys.modules, "steps", raising=False)  # that of another test
    (tmp_path / "steps.py").write_text(STEPS)
    (tmp_path / "p.yaml").write_text(written[0])
    (tmp_path / "flows.py").write_text(HEAD + written[1])
    (tmp_path / "raw.json").write_text("{}")
    of_yaml = Pipeline.load(tmp_path / "p.yaml")
    of_python = Pipeline.load(f"{tmp_path / 'flows.py'}:p")
    assert of_yaml.spec == of_python.spec
    assert of_yaml.definition().folder == of_python.definition().folder
    assert of_yaml.bindings == of_python.bindings
    assert {name: function.__qualname__ for name, function in of_yaml.functions.items()} == {
        name: function.__qualname__ for name, function in of_python.functions.items()
    }
    recorded = msgspec.json.encode(of_yaml.spec)
    assert recorded == msgspec.json.encode(of_python.spec)
    definition = of_yaml.definition()
    assert msgspec.json.decode(msgspec.json.encode(definition), type=Definition) == definition
    first, second = plan(tmp_path, "p.yaml", capsys, *more), plan(tmp_path, "flows.py:p", capsys, *more)
    assert first == second
    assert set(first["tasks"]) == {task.name for task in of_yaml.spec.tasks}
