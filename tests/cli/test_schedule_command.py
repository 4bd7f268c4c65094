"""`flowd schedule` and `flowd token`, as they are typed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flowd.__main__ import main
from flowd.cli.commands import flowd
from flowd.core.errors import FlowdError

FILE = """
name: nightly
schedule:
  - {name: daily, cron: "30 2 * * *", timezone: America/New_York, dst: {fold: both}}
  - {name: often, every: 90m}
tasks: {a: {run: "true"}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one pipeline."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "pipeline.yaml").write_text(FILE)
    return tmp_path


def typed(*words: str) -> Result:
    result = CliRunner().invoke(flowd, list(words), standalone_mode=False)
    if result.exception is not None and not isinstance(result.exception, FlowdError):
        raise result.exception
    return result


@pytest.mark.usefixtures("folder")
def test_a_preview_marks_the_changes_of_the_clock() -> None:
    """In local time and in UTC; both of the two where both are asked for."""
    lines = typed(
        "schedule", "preview", "--schedule", "daily", "--from", "2026-10-31", "--next", "4"
    ).output.splitlines()
    assert lines[0] == "daily  At 02:30 every day (America/New_York)"
    assert [line.split()[-1] for line in lines[1:]] == [
        "2026-10-31T06:30:00Z",
        "2026-11-01T07:30:00Z",
        "2026-11-02T07:30:00Z",
        "2026-11-03T07:30:00Z",
    ]
    spring = typed("schedule", "preview", "--schedule", "daily", "--from", "2026-03-08", "--next", "1").output
    assert spring.splitlines()[1].endswith("2026-03-08T07:00:00Z   the clock leaps over its own time")


def test_a_preview_for_programs_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instants in UTC, from the very moment that is named on."""
    monkeypatch.chdir(tmp_path)
    words = ("--cron", "30 1 * * *", "--timezone", "America/New_York", "--from", "2026-11-01T05:30:00Z", "--next", "2")
    document = json.loads(typed("schedule", "preview", *words, "--json").output)
    assert document["fires"] == ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]
    both = json.loads(typed("schedule", "preview", *words, "--fold", "both", "--json").output)
    assert both["fires"] == ["2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"]


def test_a_day_is_one_of_the_zone_of_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its midnight is not that of UTC."""
    monkeypatch.chdir(tmp_path)
    words = ("schedule", "preview", "--cron", "0 * * * *", "--timezone", "Asia/Tokyo", "--next", "1", "--json")
    for since, first in (
        ("2026-11-01", "2026-10-31T15:00:00Z"),
        ("2026-11-01T09:30", "2026-11-01T01:00:00Z"),
        ("2026-11-01T09:30Z", "2026-11-01T10:00:00Z"),
        ("2026-11-01T09:30-05:00", "2026-11-01T15:00:00Z"),
    ):
        assert json.loads(typed(*words, "--from", since).output)["fires"] == [first]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cron", "30 2 * *"), "has 4 fields, and cron has five"),
        (("--cron", "61 2 * * *"), "--cron  cron"),
        (("--cron", "0 2 * * *", "--timezone", "Mars/X"), "`Mars/X` is no time zone"),
        (("--cron", "0 2 * * *", "--every", "1h"), "it has `cron` and `every`"),
        (("--every", "soon"), "`soon`"),
        (("--cron", "0 2 * * *", "--from", "tomorrow"), "--from tomorrow is no time; write 2026-11-01T06:00:00Z"),
        (("--cron", "0 2 * * *", "--from", "0001-01-01"), "--from 0001-01-01 is out of reach"),
        (("--cron", "0 2 * * *", "--from", "9999-12-31T23:59:59-23:00"), "is out of reach"),
        (("--schedule", "weekly"), "no schedule weekly: its schedules are daily, often"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_mistake_is_refused_in_words(words: tuple[str, ...], said: str) -> None:
    """With what to write instead."""
    result = typed("schedule", "preview", *words)
    assert isinstance(result.exception, FlowdError)
    assert result.exception.exit_code == 2
    assert said in str(result.exception)


@pytest.mark.usefixtures("folder")
def test_a_schedule_is_paused_and_resumed_where_no_daemon_runs() -> None:
    """The next daemon knows of it."""
    assert "nightly.daily   At 02:30 every day (America/New_York)   next 20" in typed("schedule", "list").output
    assert typed("schedule", "pause", "nightly.daily").return_value == 0
    rows = {row["name"]: row for row in json.loads(typed("schedule", "list", "--json").output)["schedules"]}
    assert rows["nightly.daily"]["paused"]
    assert rows["nightly.daily"]["next"] is None
    assert rows["nightly.often"]["paused"] is None
    assert "fires again, next 20" in typed("schedule", "resume", "nightly.daily").output
    wrong = typed("schedule", "pause", "daily")
    assert str(wrong.exception) == "there is no schedule daily; there are: nightly.daily, nightly.often"


def test_tokens_are_made_listed_and_revoked(folder: Path) -> None:
    """Shown once, on stdout alone."""
    made = typed("token", "add", "bob", "--role", "viewer", "--expires", "3d")
    secret = made.stdout.strip()
    assert secret.startswith("flowd_")
    assert "a token of bob, who may act as viewer until 20" in made.stderr
    listed = json.loads(typed("token", "list", "--json").output)["tokens"]
    assert [(row["name"], row["role"]) for row in listed] == [("bob", "viewer")]
    assert secret not in (folder / ".flowd" / "daemon" / "tokens.json").read_text()
    assert "already" in str(typed("token", "add", "bob", "--role", "admin").exception)
    assert "is no duration" in str(typed("token", "add", "eve", "--role", "admin", "--expires", "3x").exception)
    assert typed("token", "revoke", "bob").return_value == 0
    assert "there is no token" in typed("token", "list").output
    audit = (folder / ".flowd" / "daemon" / "audit.jsonl").read_text()
    entries = [json.loads(line) for line in audit.splitlines()]
    assert [(one["from"], one["path"]) for one in entries] == [
        ("command", "token add bob --role viewer"),
        ("command", "token revoke bob"),
    ]
    assert secret[19:] not in audit


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["", "a b", "1a", "../a", "a\nb", "a" * 101, "\x1b[31m"])
def test_a_token_has_a_name_that_can_be_shown(name: str) -> None:
    """It stands in lists, in the audit and in runs."""
    assert "is no name of a token" in str(typed("token", "add", "--role", "viewer", "--", name).exception)


def test_no_daemon_is_no_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`status` and `stop` say so and exit with 0."""
    assert main(["daemon", "status"]) == 0
    assert main(["daemon", "stop"]) == 0
    assert f"no daemon serves {folder / '.flowd'}; start one with: flowd serve" in capsys.readouterr().out
    assert main(["daemon", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"state_dir": str(folder / ".flowd"), "running": False}
