"""From what a person names to the pipeline: files of YAML and Python, modules, and finding them."""

from __future__ import annotations

import os

import pytest

from bad_files import problems_of
from flowd import BadPipeline, Pipeline
from flowd.authoring.loading import discover
from flowd.authoring.resolve import CallError, bind, is_async, resolve_call

MODULE = """from flowd import Pipeline
{names} = Pipeline("p")
@{first}.task
def work(): ...
"""


def module(folder, name, *names):
    """A Python file with a pipeline under each name."""
    text = "".join(MODULE.format(names=name_, first=name_.split(" ")[0]) for name_ in names)
    (folder / name).write_text(text)
    return folder / name


def test_a_python_file_with_one_pipeline_needs_no_name(tmp_path):
    """Two names of one object are one; what loads it again is absolute."""
    file = module(tmp_path, "one.py", "alias = other")
    assert Pipeline.load(file).definition().source == str(file)
    assert Pipeline.load(f"{file}:other").definition().source == f"{file}:other"
    assert Pipeline.load(file).definition().folder == str(tmp_path)


def test_of_several_pipelines_one_is_named_or_is_called_pipeline(tmp_path):
    """Else they are listed, with the line to write."""
    file = module(tmp_path, "two.py", "first", "second")
    (problem,) = problems_of(file)
    assert problem.code == "many_pipelines"
    assert problem.message == "it has `first`, `second`"
    assert problem.hint == f"name one: {file}:first"
    assert Pipeline.load(f"{file}:second").name == "p"
    (problem,) = problems_of(f"{file}:secnod")
    assert (problem.code, problem.hint) == ("no_pipeline", "did you mean `second`?")
    file = module(tmp_path, "main_one.py", "first", "pipeline")
    assert Pipeline.load(file) is Pipeline.load(f"{file}:pipeline")


def test_a_module_is_named_from_here(tmp_path, monkeypatch):
    """`module:name`, in a package too."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    module(tmp_path / "pack", "flows.py", "daily")
    monkeypatch.chdir(tmp_path)
    assert Pipeline.load("pack.flows:daily").definition().source == "pack.flows:daily"
    (problem,) = problems_of("pack.flows:dayli")
    assert problem.hint == "did you mean `daily`?"


@pytest.mark.parametrize(
    ("name", "source", "code", "said"),
    [
        ("empty.py", "", "no_pipeline", "there is no pipeline in it"),
        ("broken.py", "def f(:\n", "import_failed", "SyntaxError"),
        ("ends.py", "import sys; sys.exit(3)\n", "import_failed", "SystemExit(3)"),
        ("a-b.py", "", "bad_module_name", "`a-b` is no name of a module"),
        ("a.b.py", "", "bad_module_name", "`a.b` is no name of a module"),
        ("1st.py", "", "bad_module_name", "`1st` is no name of a module"),
        ("flowd.py", "", "bad_module_name", "`flowd` is a module of Python's or of flowd's"),
        ("sys.py", "", "bad_module_name", "`sys` is a module of Python's or of flowd's"),
    ],
)
def test_a_python_file_that_gives_no_pipeline_is_refused(name, source, code, said, tmp_path):
    """One problem that says why."""
    (tmp_path / name).write_text(source)
    (problem,) = problems_of(tmp_path / name)
    assert (problem.code, problem.file) == (code, str(tmp_path / name))
    assert said in problem.message


def test_what_a_decorator_refuses_is_the_answer_of_the_load(tmp_path):
    """Its own problems, not "import failed"."""
    file = tmp_path / "flows.py"
    file.write_text("from flowd import Pipeline\np = Pipeline('p')\n\n@p.task\ndef work(x): ...\n")
    (problem,) = problems_of(file)
    assert (problem.code, problem.file, problem.line) == ("bad_signature", str(file), 4)


def test_a_python_file_named_as_a_module_of_pythons_is_read_all_the_same(tmp_path):
    """`json.py` beside nothing else: the file is meant, and the library's stays what it was."""
    import json

    file = module(tmp_path, "json.py", "p")
    assert [task.name for task in Pipeline.load(file).spec.tasks] == ["work"]
    import json as again

    assert again is json


def test_discover_finds_what_looks_like_a_pipeline_and_loads_none(tmp_path):
    """Hidden and installed folders are passed over; what cannot be read is nothing to offer."""
    for folder in ("a/b", ".git", "node_modules", ".venv"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "p.yml").write_text("name: p\ntasks: {}\n")
    (tmp_path / "p.yaml").write_text("# x\ntasks:\n  a: {run: x}\nname : p\n")
    (tmp_path / "nested.yaml").write_text("x:\n  name: p\n  tasks: {}\n")
    (tmp_path / "flows.py").write_text("import flowd\nraise SystemExit\np: flowd.Pipeline = flowd.Pipeline('p')\n")
    (tmp_path / "other.py").write_text("import flowd\nprint('Pipeline(')\n")
    (tmp_path / "blank.py").write_text("flowd = a:" + " " * 60_000)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\x00")
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [str(path) for path in discover(tmp_path)] == ["a/b/p.yml", "flows.py", "p.yaml"]
    assert discover(tmp_path / "nowhere") == []


def test_a_call_error_is_a_sentence():
    """What is wrong; what to do."""
    error = CallError("code", "it is wrong", "mend it")
    assert str(error) == "it is wrong; mend it"
    assert str(CallError("code", "it is wrong")) == "it is wrong"


def test_a_function_is_found_behind_its_task_object(tmp_path):
    """`call: flows:work`, where the module decorates it."""
    module(tmp_path, "flows.py", "p")
    function = resolve_call(tmp_path, "flows", "work")
    assert function.__name__ == "work"
    assert type(function).__name__ == "function"
    with pytest.raises(CallError, match="did you mean `work`"):
        resolve_call(tmp_path, "flows", "wrok")
    with pytest.raises(CallError, match="nothing is passed for `x`"):
        bind(lambda x: x, (), ())


def test_what_is_awaited_is_told_from_what_is_not():
    """Async functions, partials of them, objects with an async `__call__`; not a class."""
    from functools import partial

    async def coroutine(): ...

    class Callable:
        async def __call__(self): ...

    assert is_async(coroutine)
    assert is_async(partial(partial(coroutine)))
    assert is_async(Callable())
    assert not is_async(Callable)
    assert not is_async(print)


def test_problems_of_a_loaded_file_know_its_places(tmp_path):
    """A refusal's problems come in line order, and a good pipeline tells where a key stands."""
    file = tmp_path / "p.yaml"
    file.write_text("name: p\nparams: {n: 1}\ntasks:\n  a:\n    run: x\n    outputs: [o, p]\n")
    pipeline = Pipeline.load(file)
    assert pipeline.place(("tasks", "a", "outputs", 1)) == (6, 18)
    assert pipeline.place(("tasks", "a", "nowhere")) == (4, 3)
    assert pipeline.file == str(file)
    with pytest.raises(BadPipeline) as refused:
        Pipeline.load(tmp_path / "no.yaml")
    assert str(refused.value) == f"{tmp_path / 'no.yaml'}  there is no such file"
