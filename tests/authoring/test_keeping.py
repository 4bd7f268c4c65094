"""A file that was checked is not parsed twice; and nobody can tell, whatever has changed since."""

from __future__ import annotations

import itertools
import os
import sys

import pytest

from flowd.adapters.shelf import MemoryShelf
from flowd.authoring import document, importing
from flowd.authoring.loading import load
from flowd.core.errors import BadPipeline

names = (f"kept_{number}" for number in itertools.count())

TEXT = """\
name: shop
params: {scale: 2, day: {type: date, default: 2026-01-31}}
limits: {gpu: 1}
defaults: {retry: {attempts: 3, delay: 200ms}, timeout: 10s}
tasks:
  raw:
    call: MODULE:raw
    outputs: [raw.csv]
    uses: {gpu: 1}
  fit:
    call: MODULE:fit
    inputs: [raw.csv]
    with: {scale: "{{ params.scale }}", more: [1, 2.5, {deep: null}]}
    idempotent: false
    reconcile: MODULE:ask
  tell:
    run: cat raw.csv | wc -l > {{ outputs[0] }}
    needs: fit
    outputs: [{path: told.txt, optional: true}]
    env: {DAY: "{{ params.day }}"}
"""
CODE = """\
def raw(ctx): ...
def fit(ctx, scale, more, raw): ...
def ask(scale): ...
"""


class Shop:
    """A pipeline's file and module, a shelf, and how often the file was parsed."""

    def __init__(self, folder, monkeypatch) -> None:
        monkeypatch.setattr(sys, "dont_write_bytecode", True)  # else one of the same second would be taken
        self.shelf, self.parsed, self.module = MemoryShelf(), 0, next(names)
        self.file, self.code = folder / "pipeline.yaml", folder / f"{self.module}.py"
        self.file.write_text(TEXT.replace("MODULE", self.module))
        self.code.write_text(CODE)
        plain = document.parse

        def parse(*arguments):
            self.parsed += 1
            return plain(*arguments)

        monkeypatch.setattr(document, "parse", parse)

    def load(self):
        return load(str(self.file), lambda _folder: self.shelf)

    def problems(self, *, kept=True):
        with pytest.raises(BadPipeline) as refused:
            self.load() if kept else load(str(self.file))
        return refused.value.problems

    def anew(self, code: str) -> None:
        """Another module under the same name, as another process would find it."""
        self.code.write_text(code)
        sys.modules.pop(self.module, None)
        importing._folders.clear()


@pytest.fixture
def shop(tmp_path, monkeypatch):
    return Shop(tmp_path, monkeypatch)


def test_an_unchanged_file_is_not_parsed_again(shop):
    """What is kept gives the same definition, functions and bindings, without the parser."""
    first, second = shop.load(), shop.load()
    assert shop.parsed == 1
    assert second.definition() == first.definition()
    assert repr(second.definition()) == repr(first.definition())
    assert second.functions == first.functions
    assert second.bindings == first.bindings
    assert (second.name, second.file, second.strategies) == (first.name, first.file, {})


def test_places_in_a_kept_file_are_known(shop):
    """A message about a kept file points to its lines: it is parsed for that alone."""
    first, second = shop.load(), shop.load()
    for path in (("tasks", "fit", "inputs", 0), ("tasks", "tell"), ("params", "day", "default")):
        assert second.place(path) == first.place(path) is not None


def test_a_kept_pipeline_can_be_added_to(shop):
    """A task that is added to it stands beside those of the file."""
    shop.load()
    pipeline = shop.load()
    pipeline.shell("more", "true", needs="tell")
    assert [task.name for task in pipeline.spec.tasks] == ["raw", "fit", "tell", "more"]


def test_a_file_that_is_refused_is_refused_again(shop):
    """Nothing is kept of it, and the problems are the same each time, and without a shelf."""
    shop.file.write_text(shop.file.read_text().replace("needs: fit", "needs: fti"))
    problems = shop.problems()
    assert [(problem.code, problem.line) for problem in problems] == [("unknown_need", 18)]
    assert shop.problems() == shop.problems(kept=False) == problems


def test_a_change_of_the_file_is_seen(shop):
    """Its bytes count, not its time."""
    shop.load()
    shop.file.write_text(shop.file.read_text().replace("200ms", "300ms"))
    assert shop.load().spec.tasks[0].retry.delay.total_seconds() == 0.3
    assert shop.parsed == 2


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (CODE.replace("more, raw", "raw"), "bad_signature"),
        (CODE.replace("def raw", "def row"), "missing_function"),
        ("import nothing_of_this_name\n", "import_failed"),
        (CODE.replace("def ask(scale)", "def ask(other)"), "bad_signature"),
    ],
)
def test_a_function_that_does_not_fit_any_more_is_told_as_ever(shop, code, said):
    """The functions are looked at each time, and what is wrong stands where it would stand without a shelf."""
    shop.load()
    shop.anew(code)
    problems = shop.problems()
    assert said in {problem.code for problem in problems}
    assert problems == shop.problems(kept=False)


def test_functions_are_looked_at_though_the_file_is_kept(shop):
    """The same file over a module that has changed: a function that became async gives another executor."""
    assert shop.load().spec.tasks[0].executor == "thread"
    shop.anew(f"async {CODE}")
    assert shop.load().spec.tasks[0].executor == "async"
    assert shop.parsed == 2


def test_another_flowd_checks_anew(shop, monkeypatch):
    """What an older or newer flowd has found sound says nothing."""
    from flowd.authoring import keeping

    shop.load()
    monkeypatch.setattr(keeping, "_code", lambda: "another")
    shop.load()
    assert shop.parsed == 2


def test_flowds_own_code_counts_by_its_content(shop, tmp_path, monkeypatch):
    """Images that are built reproducibly give every file one time: an edit of the same size is another flowd."""
    from flowd.authoring import keeping

    for room in keeping._ROOMS:
        (tmp_path / "flowd" / room).mkdir(parents=True)
    file = tmp_path / "flowd" / keeping._ROOMS[0] / "checks.py"
    monkeypatch.setattr(keeping, "_HOME", tmp_path / "flowd")
    for text, parsed in (("MOST = 1", 1), ("MOST = 1", 1), ("MOST = 2", 2)):
        file.write_text(text)
        os.utime(file, (315532800, 315532800))
        shop.load()
        assert shop.parsed == parsed


def test_a_file_in_another_folder_is_checked_anew(shop, tmp_path):
    """Where relative paths start decides what needs what."""
    shop.load()
    other = tmp_path / "other"
    other.mkdir()
    (other / "pipeline.yaml").write_bytes(shop.file.read_bytes())
    (other / shop.code.name).write_bytes(shop.code.read_bytes())
    [(name, data)] = shop.shelf._kept.items()
    shop.file = other / "pipeline.yaml"
    shop.load()
    assert shop.parsed == 2
    assert len(shop.shelf._kept) == 2
    for kept in shop.shelf._kept:  # even where one lies in the other's place
        shop.shelf._kept[kept] = data
    assert shop.load().definition().folder == str(other)
    assert shop.parsed == 3
    assert name in shop.shelf._kept


def test_damage_of_what_is_kept_goes_unnoticed(shop):
    """Cut short or altered at any byte, it counts as not there."""
    definition = shop.load().definition()
    [(name, whole)] = shop.shelf._kept.items()
    for at in range(0, len(whole), 23):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]):
            shop.shelf._kept[name] = damaged
            shop.parsed = 0
            assert shop.load().definition() == definition
            assert shop.parsed == 1
