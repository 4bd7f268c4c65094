"""A pipeline's graph as text, Mermaid or DOT: `flowd graph`."""

from __future__ import annotations

import json

import click

from flowd.cli.screen import Style
from flowd.cli.sources import FILE, load
from flowd.cli.streams import say, style_of
from flowd.core.shape import Shape
from flowd.core.spec import PipelineSpec


@click.command()
@FILE
@click.option("--format", "form", type=click.Choice(["text", "mermaid", "dot"]), default="text", help="What to draw.")
@click.option("--json", "as_json", is_flag=True, help="Tasks and their needs as one JSON object.")
def graph(file: str | None, form: str, as_json: bool) -> int:
    """Draw a pipeline's tasks and needs."""
    spec = load(file).spec
    if as_json:
        say(json.dumps({"pipeline": spec.name, "tasks": {task.name: list(task.needs) for task in spec.tasks}}))
        return 0
    draw = {"text": text, "mermaid": mermaid, "dot": dot}[form]
    style = style_of("stdout") if form == "text" else Style(unicode=True, colour=False)
    for line in draw(spec):
        say(style.text(line))
    return 0


def text(spec: PipelineSpec) -> list[str]:
    """Tasks in the order of the work, level by level, each with what it needs."""
    shape = Shape(spec.tasks)
    depth = [0] * len(shape)
    for number in shape.order():
        depth[number] = max((depth[need] + 1 for need in shape.needs[number]), default=0)
    width = max((2 * level + len(task.name) for level, task in zip(depth, spec.tasks, strict=True)), default=0)
    lines = [f"{spec.name}  {len(shape)} tasks"]
    for number in sorted(shape.order(), key=lambda number: depth[number]):
        task = spec.tasks[number]
        label = f"{'  ' * depth[number]}{task.name}"
        lines.append(f"  {label:<{width}}   ← {', '.join(task.needs)}" if task.needs else f"  {label}")
    return lines


def mermaid(spec: PipelineSpec) -> list[str]:
    """A Mermaid flowchart; ids are numbers, since names may hold what Mermaid reads as syntax."""
    number = {task.name: place for place, task in enumerate(spec.tasks)}
    lines = ["flowchart LR"]
    lines += [f'    t{number[task.name]}["{task.name}"]' for task in spec.tasks]
    lines += [f"    t{number[need]} --> t{number[task.name]}" for task in spec.tasks for need in task.needs]
    return lines


def dot(spec: PipelineSpec) -> list[str]:
    """A DOT digraph for Graphviz."""
    lines = [f'digraph "{spec.name}" {{', "    rankdir=LR;", "    node [shape=box];"]
    lines += [f'    "{task.name}";' for task in spec.tasks]
    lines += [f'    "{need}" -> "{task.name}";' for task in spec.tasks for need in task.needs]
    return [*lines, "}"]
