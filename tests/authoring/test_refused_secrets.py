"""What is wrong with the declarations of secrets, and with the places where they are used."""

from __future__ import annotations

import pytest

from bad_files import bad, check_refused, task
from flowd import BadPipeline, Pipeline

OK = "secrets: {T: {env: T}}\n"


def declared(id: str, inner: str, code: str, key: str, message: str, hint: str = "") -> object:
    """A file with the secret `T` declared as `inner`."""
    return bad(id, task("run: x", f"secrets: {{T: {inner}}}\n"), (code, f"secrets.T{key}", message, hint))


def used(id: str, inner: str, code: str, key: str, message: str, hint: str = "") -> object:
    """A file with a secret `T` and the task `a`."""
    return bad(id, task(inner, OK), (code, f"tasks.a.{key}", message, hint))


CASES = [
    bad("a list of secrets", task("run: x", "secrets: ‹[T]\n"), ("wrong_type", "secrets", "a mapping", "{TOKEN: {env:")),
    bad("the value itself", task("run: x", "secrets: {T: ‹hunter2}\n"),
        ("wrong_type", "secrets.T", "where the secret comes from is expected", "{env: VARIABLE}")),
    bad("no name", task("run: x", "secrets: {‹2x: {env: T}}\n"), ("bad_name", "secrets.2x", "is no name", "letters")),
    bad("two that differ in case", task("run: x", "secrets: {T: {env: T}, ‹t: {env: T}}\n"),
        ("name_case", "secrets.t", "differ only in case", "rename")),
    bad("no source", task("run: x", "secrets: {‹T: {}}\n"),
        ("bad_secret", "secrets.T", "comes from nowhere", "`env`, `file`, `command`, `keyring`")),
    bad("two sources", task("run: x", "secrets: {‹T: {env: A, file: b}}\n"),
        ("bad_secret", "secrets.T", "it has `env`, `file`", "write one of")),
    declared("misspelt", "{‹evn: A}", "unknown_key", ".evn", "no key of secret `T`", "did you mean `env`?"),
    declared("a user without a keyring", "{env: A, ‹user: me}", "unfit_key", ".user", "no meaning", "remove it"),
    declared("a command as a text", "{command: ‹pass show x}", "wrong_type", ".command", "[program, argument, …]",
        'write ["sh", "-c", "pass show x"]'),
    declared("a command of nothing", "{command: ‹[]}", "wrong_type", ".command", "[program, argument, …]"),
    declared("a template in a command", "{command: [pass, ‹\"{{ params.x }}\"]}", "bad_placement", ".command[1]",
        "cannot stand in the command", "write the argument"),
    declared("a template for a file", "{file: ‹\"{{ params.x }}\"}", "bad_placement", ".file", "cannot stand in `file`"),
    declared("no variable", "{env: ‹A=B}", "bad_value", ".env", "no name of an environment variable", "write MY_TOKEN"),
    declared("an empty file", "{file: ‹\"\"}", "bad_value", ".file", "no path of a file", "write /run/secrets/token"),
    used("in a text", "run: ‹\"curl {{ secrets.T }}\"", "secret_in_run", "run", "can be read by others", "pass it by env"),
    used("in an argument", "run: [curl, ‹\"-H {{ secrets.T }}\"]", "secret_in_run", "run[1]", "can be read", "by env"),
    used("in an input", "run: x, inputs: [‹\"d/{{ secrets.T }}\"]", "secret_misplaced", "inputs[0]", "in a path", "`env`"),
    used("in an output", "run: x, outputs: [‹\"{{ secrets.T }}\"]", "secret_misplaced", "outputs[0]", "in a path", "`env`"),
    used("computed with", "run: x, env: {E: ‹\"{{ secrets.T[0:3] }}\"}", "secret_computed", "env.E", "computes with a secret",
        "`{{ secrets.NAME }}` alone"),
    used("compared", "run: x, env: {E: ‹\"{{ 1 if secrets.T == 'a' else 2 }}\"}", "secret_computed", "env.E", "computes"),
    used("all of them", "run: x, env: {E: ‹\"{{ secrets }}\"}", "secret_computed", "env.E", "computes with a secret"),
    used("unknown", "run: x, env: {E: ‹\"{{ secrets.TT }}\"}", "unknown_name", "env.E", "`TT` is not known", "mean `T`?"),
    bad("undeclared", task("run: x, env: {E: ‹\"{{ secrets.Q }}\"}"),
        ("unknown_name", "tasks.a.env.E", "`Q` is not known", "declare it: `secrets: {Q: {env: Q}}`")),
    bad("in the log's file", task("run: x", OK + "log: {file: ‹\"{{ secrets.T }}.log\"}\n"),
        ("bad_placement", "log.file", "`{{ secrets.T }}` cannot stand", "`{{ task }}` or `{{ run.id }}`")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_is_refused(case, tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """With its place, and with what to write instead."""
    check_refused(case, tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize("policies", [{"when": "secrets.T"}, {"gate": ["secrets.T"]}, {"allow_failure": "secrets.T"}])
def test_nothing_is_decided_by_one(policies) -> None:
    """A bare expression, such as a condition, has no business with it; it is said once."""
    pipeline = Pipeline("p", secrets={"T": {"env": "T"}})
    pipeline.shell("a", "true", **policies)
    with pytest.raises(BadPipeline) as refused:
        pipeline.definition()
    assert [problem.code for problem in refused.value.problems] == ["secret_misplaced"]


def test_they_stand_in_the_specification() -> None:
    """As they are declared, from Python as from a file; in env, with and defaults."""
    sources = {
        "A": {"env": "X"},
        "B": {"file": "f"},
        "C": {"command": ["pass", "x"]},
        "D": {"keyring": "s", "user": "u"},
    }
    pipeline = Pipeline(
        "p", secrets=sources, env={"P": "{{ secrets.A }}"}, defaults={"env": {"D": "x{{ secrets['D'] }}"}}
    )
    pipeline.shell("a", "true", env={"E": "{{ secrets.B }} {{ secrets.C }}"})

    @pipeline.task(with_={"token": {"deep": ["{{ secrets.A }}"]}})
    def call(token: object) -> None:
        """Takes one."""

    assert pipeline.spec.secrets["C"].command == ("pass", "x")
    assert (pipeline.spec.secrets["D"].keyring, pipeline.spec.secrets["D"].user) == ("s", "u")


def test_python_names_problems_without_places() -> None:
    """The same refusals."""
    pipeline = Pipeline("p", secrets={"A": {"environment": "X"}})
    pipeline.shell("a", "echo {{ secrets.A }}")
    with pytest.raises(BadPipeline) as refused:
        pipeline.definition()
    assert {problem.code for problem in refused.value.problems} == {"unknown_key", "secret_in_run"}
