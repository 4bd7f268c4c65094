"""Random files and random data: refused or read, never anything else; and places are where things were written."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowd import BadPipeline, Pipeline
from flowd.authoring.document import Document, parse
from flowd.authoring.findings import Findings
from flowd.authoring.format import LIMIT, LOG, OUTPUT, PARAM, PIPELINE, RETRY, TASK

SCRATCH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

KEYS = sorted({*PIPELINE, *TASK, *RETRY, *OUTPUT, *PARAM, *LIMIT, *LOG})
WORDS = ["a", "b", "c", "steps:f", "no", "on", "014", "1:30", "1e3", "none", "null", "~", "10m", "3", "0.5", "-1", "true", ".nan", "{{", "}}", "{{params.a}}", "{{tasks.a.result}}", "../x", "/x", "o.txt", "*a", "&a", "!!str", "!x", "<<", "<<:", "{}", "[]", "''", '"', "'", "|", ">", "-", "?", ":", ",", "#", "%YAML", "---", "...", "async", "bash", "dask", "int", "json", "\x00", "é", "‹", "\ufeff", "\x85", "\ud7ff"]  # fmt: skip
PIECES = st.sampled_from(
    [*KEYS, *WORDS, *(f"{key}:" for key in KEYS), "{", "}", "[", "]", "\n", "\n  ", "\n    ", "\t", " ", ", ", ": "]
)
TEXTS = st.lists(PIECES, max_size=40).map("".join)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(WORDS)
    | st.binary(max_size=3)
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)
TASKS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "A", "a-b"]) | st.text(max_size=3),
    st.dictionaries(st.sampled_from(sorted(TASK)), NESTED, max_size=5) | NESTED,
    max_size=4,
)
PIPELINES = st.builds(
    lambda more, tasks: {**more, "name": "p", "tasks": tasks},
    st.dictionaries(st.sampled_from([key for key in PIPELINE if key != "tasks"]), NESTED, max_size=4),
    TASKS,
)


def read_or_refused(pipeline: object) -> None:
    """Take what `pipeline` gives: a specification, or a refusal whose problems are whole lines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's own, of odd literals in expressions
        problems = ()
        try:
            assert pipeline().tasks
        except BadPipeline as bad:
            problems = bad.problems or pytest.fail("a refusal without a reason")
    for problem in problems:
        assert problem.code
        assert problem.message.isprintable()
        assert problem.hint.isprintable()
        assert "\n" not in str(problem)


@SCRATCH
@given(TEXTS)
@example("a: &a [*a]")
@example("? ? ? a")
@example("{{{{")
@example("tasks: {a: {<<: {<<: {run: x}}}}\nname: p")
def test_a_text_of_pieces_is_read_or_refused(tmp_path, text):
    """YAML-ish text: BadPipeline and nothing else."""
    file = tmp_path / "p.yaml"
    file.write_text(text, encoding="utf-8")
    read_or_refused(lambda: Pipeline.load(file).spec)


@SCRATCH
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_bytes_are_read_or_refused(tmp_path, content):
    """Any bytes."""
    file = tmp_path / "p.yaml"
    file.write_bytes(content)
    read_or_refused(lambda: Pipeline.load(file).spec)


def of_data(raw: dict[str, object]) -> Pipeline:
    """A pipeline that was written as this data, in no file."""
    from flowd.authoring.findings import NoText

    return Pipeline.of_document(raw, NoText("data"), Path("/nowhere"), "data")


@SCRATCH
@given(PIPELINES)
def test_data_is_read_or_refused(raw):
    """Nested data of every kind under the format's keys, as Python may give it."""
    read_or_refused(lambda: of_data(raw).spec)


@SCRATCH
@given(st.dictionaries(st.text(max_size=5) | st.integers(), NESTED, max_size=4) | PIPELINES)
def test_a_pipeline_of_any_keys_is_read_or_refused(raw):
    """Names and tasks of the wrong kind, or none."""
    read_or_refused(lambda: of_data(dict(raw)).spec)


@SCRATCH
@given(st.sampled_from(sorted(TASK)), NESTED)
def test_policies_in_python_are_read_or_refused(key, value):
    """A default of any kind, over a sound task."""
    p = Pipeline("p", defaults={key: value})
    p.task(name="a")(lambda ctx: None)
    read_or_refused(lambda: p.spec)


# --- places ------------------------------------------------------------------------------------------

NAMES = st.text(alphabet="abcXYZ_é🙂", min_size=1, max_size=4)
LEAVES = st.sampled_from(["x", "'a b'", '"q\\n"', "3", "2026-01-02"])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=12,
)


class Writing:
    """Writes data as YAML, now in block style and now in flow style, and remembers where each thing went."""

    def __init__(self, choose):
        self.text = ""
        self.keys, self.values = {}, {}
        self._choose = choose

    def here(self):
        """Line and column, from 1, of what is written next."""
        return self.text.count("\n") + 1, len(self.text) - (self.text.rfind("\n") + 1) + 1

    def value(self, path, value, indent):
        """One value; in block style its container begins on a line of its own."""
        if isinstance(value, str):
            self.text += " " * self._choose(3)
            self.values[path] = self.here()
            self.text += value
        elif indent is None or self._choose(2):
            self._flow(path, value)
        else:
            self._block(path, value, indent)

    def _flow(self, path, value):
        self.values[path] = self.here()
        self.text += "{ " if isinstance(value, dict) else "["
        for number, (part, item) in enumerate(pairs(value)):
            self.text += ", " if number else ""
            if isinstance(part, str):
                self.keys[(*path, part)] = self.here()
                self.text += f"{part}: "
            self.value((*path, part), item, None)
        self.text += " }" if isinstance(value, dict) else "]"

    def _block(self, path, value, indent):
        for number, (part, item) in enumerate(pairs(value)):
            if self._choose(4) == 0:
                self.text += "\n# a comment: {x"
            self.text += "\n" + " " * indent
            if number == 0:
                self.values[path] = self.here()
            if isinstance(part, str):
                self.keys[(*path, part)] = self.here()
            self.text += f"{part}: " if isinstance(part, str) else "- "
            self.value((*path, part), item, indent + 1 + self._choose(3))


def pairs(value):
    """Keys or positions, with what stands there."""
    return list(value.items() if isinstance(value, dict) else enumerate(value))


@SCRATCH
@given(st.dictionaries(NAMES, TREES, min_size=1, max_size=4), st.data())
def test_a_place_is_where_the_thing_was_written(tmp_path, tree, data):
    """Line and column of every key and every value, in characters, in any mixture of styles."""
    writing = Writing(lambda most: data.draw(st.integers(0, most - 1)))
    writing._block((), tree, 0)
    file = tmp_path / "p.yaml"
    file.write_text(writing.text + "\n", encoding="utf-8")
    document = Document("p.yaml")
    findings = Findings(document)
    assert parse(file.read_bytes(), findings, document), (findings.problems, writing.text)
    for path, place in writing.keys.items():
        assert document.place(path, key=True) == place
        assert document.place((*path, "nowhere", 3), key=False) in {writing.keys[path], writing.values[path]}
    for path, place in writing.values.items():
        if not path:
            assert document.place((), key=False) == place
            continue
        at = tree
        for part in path:
            at = at[part]
        expected = writing.keys.get(path, place) if isinstance(at, dict) else place
        assert document.place(path, key=False) == expected


@pytest.mark.parametrize("tabs", ["", "# \t comment\n"])
def test_places_behind_wide_characters_count_characters(tmp_path, tabs):
    """As an editor's status line does, not bytes and not cells."""
    file = tmp_path / "p.yaml"
    file.write_text(
        f'name: p\n{tabs}description: "é🙂\t"\ntasks: {{a: {{description: "🙂", rnu: x}}}}\n', encoding="utf-8"
    )
    with pytest.raises(BadPipeline) as refused:
        Pipeline.load(file)
    found = refused.value.problems[-1]
    assert (found.line, found.column) == (3 + bool(tabs), 31)
