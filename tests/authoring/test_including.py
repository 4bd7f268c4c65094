"""Keys that several pipelines share stand in a file of their own; named groups of tasks are run by name."""

from __future__ import annotations

import pytest

from bad_files import problems_of
from flowd import Pipeline
from flowd.adapters.shelf import MemoryShelf
from flowd.authoring.loading import load

OWN = """\
name: p
include: [shared.yaml, more/team.yaml]
params: {day: monday}
env: {LANG: C}
tasks:
  a: {run: "true", owner: team}
  b: {run: "true", needs: [a]}
targets: {first: [a], all: [b, a], one: b}
"""
SHARED = """\
params: {day: sunday, region: eu}
env: {LANG: de, TZ: UTC}
defaults: {timeout: 1m}
"""
TEAM = """\
defaults: {timeout: 2m, grace: 3s}
owners: {team: {notify: ["mailto://team@localhost"]}}
"""


@pytest.fixture
def file(tmp_path):
    """A pipeline's file, with the two that it includes."""
    (tmp_path / "more").mkdir()
    for name, text in {"pipeline.yaml": OWN, "shared.yaml": SHARED, "more/team.yaml": TEAM}.items():
        (tmp_path / name).write_text(text)
    return tmp_path / "pipeline.yaml"


def test_what_stands_in_the_file_wins_then_what_is_included_last(file):
    """Mappings are joined name by name."""
    spec = Pipeline.load(file).spec
    assert {name: param.default for name, param in spec.params.items()} == {"day": "monday", "region": "eu"}
    assert spec.env == {"LANG": "C", "TZ": "UTC"}
    assert spec.owners["team"].notify == ("mailto://team@localhost",)
    assert (spec.tasks[0].timeout.total_seconds(), spec.tasks[0].grace.total_seconds()) == (120, 3)


def test_a_mistake_is_told_where_it_stands(file):
    """In the included file, with its line there."""
    (file.parent / "shared.yaml").write_text("env: {LANG: de}\nlimits:\n  gpu: none\n")
    (problem,) = problems_of(file)
    assert (problem.file, problem.line, problem.key) == (str(file.parent / "shared.yaml"), 3, "limits.gpu")


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("name: q\n", "unfit_key", "`name` cannot be shared"),
        ("tasks: {c: {run: x}}\n", "unfit_key", "`tasks` cannot be shared"),
        ("include: [pipeline.yaml]\n", "unfit_key", "`include` cannot be shared"),
        ("[1, 2]\n", "not_a_mapping", "not a mapping"),
        ("env: {A: 1\n", "bad_yaml", ""),
    ],
)
def test_what_cannot_be_shared_is_refused(file, text, code, said):
    """What makes a pipeline this one stays in its own file: so nothing includes itself, either."""
    (file.parent / "more/team.yaml").write_text(text)
    problem = next(one for one in problems_of(file) if one.file == str(file.parent / "more/team.yaml"))
    assert problem.code == code
    assert said in problem.message
    assert problem.line == 1 or code == "bad_yaml"


def test_a_file_that_is_not_there_is_named(file):
    """At the place where it is included."""
    (file.parent / "shared.yaml").unlink()
    problem = next(one for one in problems_of(file) if one.code == "bad_include")
    assert (problem.key, problem.line) == ("include[0]", 2)
    assert problem.message == "shared.yaml: there is no such file"


@pytest.mark.parametrize("value", ["shared.yaml", "[1]", "{a: b}"])
def test_include_is_a_list_of_files(file, value):
    """Anything else is refused with what to write."""
    file.write_text(OWN.replace("[shared.yaml, more/team.yaml]", value))
    assert any(problem.key.startswith("include") for problem in problems_of(file))


def test_a_kept_file_is_read_again_when_what_it_includes_has_changed(file):
    """Also where a mistake in it has to be placed."""
    shelf = MemoryShelf()
    assert load(str(file), lambda _folder: shelf).spec.env["TZ"] == "UTC"
    assert load(str(file), lambda _folder: shelf).place(("env", "TZ")) == (2, 21)
    (file.parent / "shared.yaml").write_text(SHARED.replace("UTC", "CET"))
    assert load(str(file), lambda _folder: shelf).spec.env["TZ"] == "CET"
    (file.parent / "shared.yaml").unlink()
    assert problems_of(file)


def test_python_shares_as_python_does():
    """It includes no file."""
    with pytest.raises(TypeError, match="includes no files"):
        Pipeline("p", include=["shared.yaml"])


def test_targets_are_groups_of_tasks(file):
    """In the order in which they are named; one name is a list of one."""
    assert Pipeline.load(file).spec.targets == {"first": ("a",), "all": ("b", "a"), "one": ("b",)}


@pytest.mark.parametrize(
    ("written", "key", "said"),
    [
        ("{first: [aa]}", "targets.first[0]", "there is no task `aa`"),
        ("{first: []}", "targets.first", "one task at least is expected"),
        ("{'1st': [a]}", "targets.1st", "name"),
        ("[a]", "targets", "is expected"),
    ],
)
def test_a_bad_target_is_refused(file, written, key, said):
    """With its place."""
    file.write_text(OWN.replace("{first: [a], all: [b, a], one: b}", written))
    (problem,) = problems_of(file)
    assert problem.key == key
    assert said in problem.message
