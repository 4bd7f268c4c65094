"""Pipelines written in Python: decorators, needs, policies, retries, and what is refused on the spot."""

from __future__ import annotations

import functools
import inspect
import os
from datetime import timedelta
from pathlib import Path

import pytest
import tenacity

from flowd import BadPipeline, Pipeline, Retry
from flowd.core.spec import Call, Run
from flowd.core.spec import Retry as RetrySpec


def refused(what):
    """The problems that a thunk is refused with."""
    with pytest.raises(BadPipeline) as error:
        what()
    return error.value.problems


def test_a_parameter_named_after_a_task_is_a_need():
    """It receives the result; `ctx` is optional; order is needs first, then parameters."""
    p = Pipeline("p")

    @p.task
    def first(): ...

    @p.task
    async def second(ctx): ...

    @p.task
    def third(): ...

    @p.task(needs=third)
    def last(ctx, second, first=None, *, other=3): ...

    tasks = {task.name: task for task in p.spec.tasks}
    assert tasks["last"].needs == ("third", "second", "first")
    assert (tasks["first"].executor, tasks["second"].executor) == ("thread", "async")
    binding = p.bindings["last"]
    assert binding.wants_ctx
    assert binding.result_parameters == ("second", "first")
    assert not p.bindings["first"].wants_ctx


def test_needs_are_task_objects_names_or_lists_of_both():
    """All forms say the same."""
    p = Pipeline("p")

    @p.task(name="one-1")
    def one(): ...

    two = p.shell("two", ["true"], needs="one-1")
    p.shell("three", "true", needs=(one, two))
    p.shell("four", "true", needs=["two", one])
    assert [task.needs for task in p.spec.tasks] == [(), ("one-1",), ("one-1", "two"), ("two", "one-1")]


def test_a_task_is_still_its_function():
    """Called, looked at and documented as before, whatever attributes the function has."""

    def add(a: int, b: int = 2) -> int:
        """A sum."""
        return a + b

    add.name, add.function = "mine", "mine too"
    task = Pipeline("p").task(with_={"a": 1})(add)
    assert task(1) == 3
    assert (task.name, task.function, task.__doc__) == ("add", add, "A sum.")
    assert inspect.signature(task) == inspect.signature(add)
    assert repr(task) == "<Task add>"
    with pytest.raises(TypeError, match="a command is no function"):
        Pipeline("p").shell("s", "x")()


def test_parameters_that_nothing_is_passed_for_are_refused_at_once():
    """All of them, at decoration, with the function's line; and the pipeline is as it was."""
    p = Pipeline("p")

    def report(clean, count): ...

    found = refused(lambda: p.task(report))
    place = ("bad_signature", "tasks.report", report.__code__.co_firstlineno)
    assert [(one.code, one.key, one.line) for one in found] == [place, place]
    assert "nothing is passed for `clean`, which `report` takes" in found[0].message
    assert "with" in found[0].hint
    p.task(with_={"clean": 1, "count": 2})(report)
    assert [task.name for task in p.spec.tasks] == ["report"]


def test_with_gives_parameters_and_takes_them_from_the_needs():
    """A parameter in `with_` is none of the tasks', though one has its name."""
    p = Pipeline("p")
    p.shell("n", "true")

    @p.task(with_={"n": 3})
    def take(n): ...

    assert p.spec.tasks[1].needs == ()
    assert p.spec.tasks[1].with_ == {"n": 3}
    (problem,) = refused(lambda: p.task(with_={"m": 1})(lambda: None))
    assert "no parameter `m`, which `with` gives" in problem.message


def test_a_name_is_taken_once_unless_replaced():
    """`replace` puts the new task in the old one's place."""
    p = Pipeline("p")
    p.task(name="a")(lambda: 1)
    p.shell("b", "x", needs="a")
    (problem,) = refused(lambda: p.shell("a", "x"))
    assert (problem.code, problem.key, problem.hint) == (
        "duplicate_task", "tasks.a", "give it another `name`, or say `replace=True`",
    )  # fmt: skip
    assert p.functions["a"]() == 1
    p.shell("a", "y", replace=True)
    assert [(task.name, task.action) for task in p.spec.tasks] == [("a", Run(text="y")), ("b", Run(text="x"))]
    assert dict(p.functions) == {}


def test_a_task_that_is_refused_leaves_the_old_one_as_it_was():
    """Its `reconcile` too; a task that is replaced takes it along."""
    p = Pipeline("p")
    p.shell("a", "x", idempotent=False, reconcile=print)
    refused(lambda: p.shell("a", "x", reconcile=repr))
    assert list(p.functions.values()) == [print]
    p.shell("a", "x", idempotent=False, reconcile="os:getcwd", replace=True)
    assert list(p.functions.values()) == [os.getcwd]


def test_the_answer_is_kept_until_something_is_added():
    """The specification is made once, and again after a change."""
    p = Pipeline("p")
    p.shell("a", "x")
    assert p.spec is p.spec
    before = p.spec
    p.shell("b", "x")
    assert [task.name for task in p.spec.tasks] == ["a", "b"]
    assert before is not p.spec


def test_mistakes_in_policies_are_said_together_with_the_functions_line():
    """A pipeline in Python is judged as a file is; the place is the function's first line."""
    p = Pipeline("p", colour="red", finally_={"x": {}}, limits={"cpu": 0})

    @p.task(timeout="10", nedes=["x"], uses={"gpu": 1}, needs=["nowhere"])
    def work(): ...

    line = work.function.__code__.co_firstlineno
    found = {problem.key: problem for problem in refused(lambda: p.spec)}
    assert set(found) == {
        "colour", "finally.x", "limits.cpu", "tasks.work.timeout", "tasks.work.nedes", "tasks.work.uses.gpu",
        "tasks.work.needs[0]",
    }  # fmt: skip
    assert found["finally.x"].code == "no_action"
    assert found["tasks.work.nedes"].hint == "did you mean `needs`?"
    assert found["tasks.work.timeout"].hint.startswith("write `10s`")
    assert {one.file for one in found.values()} == {__file__}
    assert {one.line for key, one in found.items() if key.startswith("tasks.")} == {line}


def test_policies_to_come_are_refused_by_name():
    """Never ignored."""
    p = Pipeline("p")
    p.task(name="t", executor="dask")(lambda: None)
    (problem,) = refused(lambda: p.spec)
    assert (problem.code, problem.key) == ("not_yet", "tasks.t.executor")


def test_tasks_are_no_argument():
    """They would be lost, so the caller hears of it."""
    with pytest.raises(TypeError, match="takes no tasks"):
        Pipeline("p", tasks={"a": {"run": "x"}})


def test_names_that_a_function_lacks_are_asked_for():
    """A lambda and a partial have no name that could be a task's."""
    for function in (lambda: None, functools.partial(print)):
        p = Pipeline("p")
        p.task(function)
        (problem,) = refused(lambda p=p: p.spec)
        assert problem.code == "bad_name"


def test_numbers_without_bounds_are_refused():
    """Python's integers are longer than what can be kept."""
    p = Pipeline("p", max_concurrency=10**5000, limits={"cpu": 10**400})
    p.shell("a", "x", priority=10**400)
    assert {one.key for one in refused(lambda: p.spec)} == {"max_concurrency", "limits.cpu", "tasks.a.priority"}


def test_a_retry_is_the_policy_that_a_file_would_say():
    """What is not given has the file's defaults; durations may be timedeltas."""
    p = Pipeline("p")
    p.shell(
        "a", "x", retry=Retry(3, backoff="linear", delay="200ms", on=["OSError", 75], max_elapsed=timedelta(hours=1))
    )
    p.shell(
        "b",
        "x",
        retry={"attempts": 3, "backoff": "linear", "delay": "200ms", "on": ["OSError", 75], "max_elapsed": "1h"},
    )
    first, second = p.spec.tasks
    assert first.retry == second.retry
    assert first.retry == RetrySpec(
        attempts=3,
        backoff="linear",
        delay=timedelta(milliseconds=200),
        on=("OSError", 75),
        max_elapsed=timedelta(hours=1),
    )
    assert p.strategies == {}
    assert repr(Retry(3, delay="1s")) == "Retry(attempts=3, delay='1s')"


def test_tenacitys_objects_decide_for_the_tasks_that_have_them():
    """With a `stop` attempts may be left out (0 in the specification); defaults count too, where they apply."""
    stop, wait = tenacity.stop_after_attempt(2) | tenacity.stop_after_delay(9), tenacity.wait_fixed(1)
    p = Pipeline("p", defaults={"retry": Retry(stop=stop)})
    p.shell("a", "x")
    p.shell("b", "x", retry=Retry(5, wait=wait))
    p.shell("c", "x", retry=Retry(2))
    p.shell("d", "x", retry="none")
    p.shell("e", "x", idempotent=False)
    tasks = {task.name: task.retry for task in p.spec.tasks}
    assert (tasks["a"].attempts, tasks["b"].attempts, tasks["c"].attempts) == (0, 5, 2)
    assert tasks["d"] is None
    assert tasks["e"] is None
    assert p.strategies == {"a": (stop, None, None), "b": (None, wait, None)}


@pytest.mark.parametrize(
    ("retry", "key", "said"),
    [
        (Retry(), "retry", "needs the key `attempts`"),
        (Retry(wait=tenacity.wait_fixed(1)), "retry", "needs the key `attempts`"),
        (Retry(0), "retry.attempts", "at least 1"),
        (Retry(2, delay="soon"), "retry.delay", "`soon` is no duration"),
        (Retry(2, backoff="liner"), "retry.backoff", "`liner`"),
        (Retry(2, on=[OSError]), "retry.on[0]", "an exception name"),
        (Retry(2, stop=3), "retry.stop", "one of tenacity's objects is expected"),
        (3, "retry", "a mapping is expected"),
    ],
)
def test_a_mistaken_retry_is_refused(retry, key, said):
    """With its key, as in a file."""
    p = Pipeline("p")
    p.shell("a", "x", retry=retry)
    (problem,) = refused(lambda: p.spec)
    assert problem.key == f"tasks.a.{key}"
    assert said in problem.message


def test_defaults_are_merged_under_what_a_task_says():
    """env key by key, everything else whole; a pipeline's shell and workdir reach its commands."""
    p = Pipeline("p", defaults={"timeout": "1m", "env": {"A": "1", "B": "1"}}, shell="bash", workdir="d")
    p.shell("a", "x", env={"B": "2"}, timeout="none")
    p.task(name="b")(lambda: None)
    a, b = p.spec.tasks
    assert (a.timeout, a.env, a.shell, a.cwd) == (None, {"A": "1", "B": "2"}, "bash", "d")
    assert (b.timeout, b.shell, b.cwd) == (timedelta(minutes=1), "sh", None)


def test_the_folder_is_the_modules_unless_it_is_given(tmp_path, monkeypatch):
    """Where paths start; the current folder where a pipeline is made in no file."""
    p = Pipeline("p")
    p.shell("a", "x")
    assert p.definition().folder == str(Path(__file__).parent)
    assert p.file == __file__
    monkeypatch.chdir(tmp_path)
    p = Pipeline("p", folder="sub")
    p.shell("a", "x")
    assert p.definition().folder == str(tmp_path / "sub")
    scope = {"Pipeline": Pipeline, "__name__": "nowhere"}
    exec("p = Pipeline('p')\np.shell('a', 'x')", scope)
    assert scope["p"].definition().folder == str(tmp_path)
    assert scope["p"].file == "p"


def test_a_function_that_lives_only_here_cannot_go_to_a_process():
    """The child could not import it; the message says what to do."""
    p = Pipeline("p")

    @p.task(executor="process")
    def inner(): ...

    (problem,) = refused(lambda: p.spec)
    assert problem.code == "bad_executor"
    assert "lives only in this program" in problem.message
    assert problem.hint == "move it into a module"


def test_a_call_is_its_modules_and_qualified_name():
    """So that a child process finds it again."""
    p = Pipeline("p")
    p.task(name="a", with_={"doc": "x"})(inspect.cleandoc)
    assert p.spec.tasks[0].action == Call(module="inspect", function="cleandoc")
