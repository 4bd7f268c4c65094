"""Secrets of runs: where they are read, when, what is refused without them, and what is kept of results."""

from __future__ import annotations

import base64
import sys
import types
from pathlib import Path

import pytest

from flowd import BadPipeline, Engine, Pipeline
from flowd.adapters.secrets import SecretReader
from flowd.core.spec import Secret
from flowd.ports.secrets import SecretMissing
from flowd.testing import MemoryEngine
from flowd_process import until

VALUE = "s3cr3t-va1ue"


@pytest.fixture
async def engine():
    async with MemoryEngine() as engine:
        yield engine


def taking(source: dict, *, folder=None, value: object = None) -> tuple[Pipeline, list]:
    """A pipeline of one task that is given the secret `T`, and what it was given."""
    pipeline, seen = Pipeline("p", secrets={"T": source}, folder=folder), []

    @pipeline.task(with_={"token": "{{ secrets.T }}", "in_text": "Bearer {{ secrets.T }}"})
    async def use(ctx, token, in_text):
        seen.append((token, in_text))
        return value

    return pipeline, seen


async def test_each_source_gives_its_value(engine, tmp_path, monkeypatch):
    """The environment, a file and a command beside the pipeline; line ends at the end are none of it."""
    monkeypatch.setenv("TOKEN_OF_A_TEST", VALUE)
    (tmp_path / "token").write_text(f"{VALUE}\r\n")
    for source in (
        {"env": "TOKEN_OF_A_TEST"},
        {"file": "token"},
        {"file": str(tmp_path / "token")},
        {"command": ["cat", "token"]},
    ):
        pipeline, seen = taking(source, folder=tmp_path)
        assert (await engine.run(pipeline)).ok, source
        assert seen == [(VALUE, f"Bearer {VALUE}")], source


async def test_a_keyring_is_asked_for_service_and_user(engine, monkeypatch):
    """Its library is imported where a secret needs it; the user is the secret's name, where none is given."""
    asked = []
    library = types.ModuleType("keyring")
    library.get_password = lambda *words: asked.append(words) or VALUE
    monkeypatch.setitem(sys.modules, "keyring", library)
    for source, words in (
        ({"keyring": "svc"}, ("svc", "T")),
        ({"keyring": "svc", "user": "me"}, ("svc", "me")),
    ):
        pipeline, seen = taking(source)
        assert (await engine.run(pipeline)).ok
        assert seen[0][0] == VALUE
        assert asked.pop() == words


async def test_what_the_keyring_lacks_is_said(monkeypatch):
    """The library, a service that can be asked, or the entry."""
    secret, reader = Secret(keyring="svc"), SecretReader()
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(SecretMissing, match=r"secret T: the keyring.*pip install 'flowd\[keyring\]'"):
        await reader.read("T", secret, ".")
    library = types.ModuleType("keyring")
    monkeypatch.setitem(sys.modules, "keyring", library)
    library.get_password = lambda *_: None
    with pytest.raises(SecretMissing, match="keyring set svc T"):
        await reader.read("T", secret, ".")

    def broken(*_):
        raise RuntimeError(VALUE)

    library.get_password = broken
    with pytest.raises(SecretMissing, match="cannot be asked: RuntimeError") as refused:
        await reader.read("T", secret, ".")
    assert VALUE not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            {"env": "NOT_SET_ANYWHERE"},
            "secret T: the environment variable NOT_SET_ANYWHERE is not set; task use uses it",
        ),
        ({"file": "gone"}, "gone cannot be read: No such file or directory"),
        ({"file": "."}, "is no regular file"),
        ({"file": "short"}, "has fewer than 4 characters"),
        ({"file": "empty"}, "is empty"),
        ({"file": "latin"}, "gives no text in UTF-8"),
        ({"file": "nul"}, "holds a NUL character"),
        ({"file": "huge"}, "gives more than 65536 bytes"),
    ],
)
async def test_a_missing_one_is_found_before_anything_starts(engine, tmp_path, source, said):
    """Where looking is cheap: the run is refused, and there is none."""
    files = {"short": b"abc\n", "empty": b"\n", "latin": b"caf\xe9 caf\xe9", "nul": b"a\0bcdef", "huge": b"x" * 70_000}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    pipeline, seen = taking(source, folder=tmp_path)
    with pytest.raises(BadPipeline, match=r"secrets\.T") as refused:
        await engine.run(pipeline)
    [problem] = refused.value.problems
    assert problem.code == "secret_missing"
    assert said in str(problem)
    assert not seen
    assert engine.journal.runs() == []


async def test_one_that_no_asked_task_uses_may_be_missing(engine):
    """A run of other tasks needs none of it."""
    pipeline, seen = taking({"env": "NOT_SET_ANYWHERE"})

    @pipeline.task
    async def other():
        return 1

    assert (await engine.run(pipeline, "other")).ok
    assert not seen


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["no-such-program-here"], "its command no-such-program-here cannot be run: No such file"),
        (["sh", "-c", "echo why; echo why >&2; exit 3"], "its command sh ended with exit code 3; run it by hand"),
        (["true"], "its command true is empty"),
        (["yes"], "gives more than 65536 bytes"),
    ],
)
async def test_a_command_in_vain_fails_its_task(engine, command, said):
    """Nothing of what it said is repeated."""
    pipeline, seen = taking({"command": command})
    result = await engine.run(pipeline)
    assert result.state == "failed"
    error = result.tasks["use"].error
    assert error.type == "SecretMissing"
    assert said in error.message
    assert "why" not in error.message.replace("to see why", "")
    assert not seen


async def test_a_command_that_hangs_is_ended(tmp_path):
    """It has its time, and is not left behind."""
    reader = SecretReader(patience=0.3)
    command = ("sh", "-c", "echo $$ > pid; exec sleep 100")
    with pytest.raises(SecretMissing, match=r"secret T: its command gave nothing within 0.3s"):
        await reader.read("T", Secret(command=command), tmp_path)
    pid = (tmp_path / "pid").read_text().strip()
    until(lambda: not Path(f"/proc/{pid}").exists())


async def test_a_result_is_kept_without_it(engine, monkeypatch):
    """What follows receives what was kept, and a warning says so; what is no JSON is refused."""
    monkeypatch.setenv("TOKEN_OF_A_TEST", VALUE)
    pipeline, _ = taking({"env": "TOKEN_OF_A_TEST"}, value={"a": [VALUE, base64.b64encode(VALUE.encode()).decode()]})

    @pipeline.task
    async def after(use):
        return use

    result = await engine.run(pipeline)
    assert result.tasks["use"].result["a"][0] == "***"
    assert VALUE not in str(result.document)
    assert result.tasks["after"].result == result.tasks["use"].result
    assert [warning for warning in result.warnings if "use: secret_redacted" in warning]
    refused, _ = taking({"env": "TOKEN_OF_A_TEST"}, value=("a tuple", VALUE))
    result = await engine.run(refused)
    assert "the result, a tuple, holds a secret" in result.tasks["use"].error.message
    assert VALUE not in str(result.document)
    unkeepable, _ = taking({"env": "TOKEN_OF_A_TEST"}, value={VALUE: float("nan")})
    result = await engine.run(unkeepable)
    assert "result.*** is nan" in result.tasks["use"].error.message


async def test_an_output_that_is_named_after_it_fails(tmp_path, monkeypatch):
    """Names of files are on record."""
    monkeypatch.setenv("TOKEN_OF_A_TEST", VALUE)
    pipeline = Pipeline("p", folder=tmp_path, secrets={"T": {"env": "TOKEN_OF_A_TEST"}})
    pipeline.shell("use", 'touch "$E.txt"', env={"E": "{{ secrets.T }}"}, outputs=["*.txt"])
    async with Engine(tmp_path / "state") as engine:
        result = await engine.run(pipeline)
    assert result.tasks["use"].error.message == "the name of its output ***.txt holds a secret; name the file otherwise"


async def test_a_metric_that_is_one_is_not_kept(engine, monkeypatch):
    """Neither its name nor its number."""
    monkeypatch.setenv("TOKEN_OF_A_TEST", "48151623")
    pipeline = Pipeline("p", secrets={"T": {"env": "TOKEN_OF_A_TEST"}})

    @pipeline.task(with_={"token": "{{ secrets.T }}"})
    async def use(ctx, token):
        ctx.metric("pin", float(token))
        ctx.metric(f"n_{token}", 1)

    assert (await engine.run(pipeline)).tasks["use"].metrics == {"n_***": 1.0}


async def test_freshness_knows_names_and_not_values(tmp_path, monkeypatch):
    """A secret that is renewed makes nothing stale; another one in its place does. Nothing is read to find out."""

    def pipeline(name: str) -> Pipeline:
        made = Pipeline(
            "p", folder=tmp_path, secrets={"A": {"env": "TOKEN_OF_A_TEST"}, "B": {"env": "TOKEN_OF_A_TEST"}}
        )
        made.shell("use", "echo x > out", outputs=["out"], env={"E": f"{{{{ secrets.{name} }}}}"})
        return made

    async with Engine(tmp_path / "state") as engine:
        for number, (name, state) in enumerate([("A", "succeeded"), ("A", "fresh"), ("B", "succeeded")]):
            monkeypatch.setenv("TOKEN_OF_A_TEST", f"{VALUE}-{number}")
            assert (await engine.run(pipeline(name))).tasks["use"].state == state
        monkeypatch.delenv("TOKEN_OF_A_TEST")
        assert (await engine.plan(pipeline("B")))["use"].action == "fresh"


async def test_a_renewed_one_is_read_by_the_next_attempt(engine, tmp_path):
    """Each attempt is given the value as it is then."""
    (tmp_path / "token").write_text("first-token")
    pipeline = Pipeline("p", folder=tmp_path, secrets={"T": {"file": "token"}})
    seen = []

    @pipeline.task(with_={"token": "{{ secrets.T }}"}, retry={"attempts": 2, "delay": "0s"})
    async def use(token):
        seen.append(token)
        if len(seen) == 1:
            (tmp_path / "token").write_text("second-token")
            raise ValueError(token)

    result = await engine.run(pipeline)
    assert result.ok
    assert seen == ["first-token", "second-token"]
    assert "first-token" not in str(result.document)
