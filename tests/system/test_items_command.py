"""Lists and matrices from the command line: killed in the middle, retried in part, looked at item by item."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from flowd_process import Place, end_of, until

ITEMS = [f"i{number}" for number in range(12)]


def work(here: Place, **more: object) -> None:
    """A task that leaves a line for each item, and one that counts them."""
    here.pipeline(
        {
            "each": {
                "foreach": {"over": "params.of", "max_concurrency": 2},
                "run": 'echo $FLOWD_TASK >> effects; sleep 0.03; echo \\"{{ item }}\\" > $FLOWD_RESULT',
                **more,
            },
            "count": {"needs": ["each"], "run": "echo {{ len(tasks.each.result) }} > $FLOWD_RESULT"},
        },
        params={"of": {"type": "list", "default": ITEMS}},
    )


@pytest.mark.parametrize("after", [1, 4, 9])
def test_killed_in_the_middle_of_a_list(here: Place, after: int) -> None:
    """The list is on record; what had durably finished does not run again; the end is that of a whole run."""
    work(here)
    process = here.begin("run", "--run-id", "r")
    until(lambda: len(here.lines("effects")) >= after)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    items = here.json("show", "r")["tasks"]["each"]["items"]
    assert list(items) == ITEMS
    done = [key for key, item in items.items() if item["state"] == "succeeded"]
    begun = {*here.lines("effects")} - {f"each[{key}]" for key in done}
    document = here.json("resume", "r")
    assert document["tasks"]["each"]["result"] == ITEMS
    assert document["tasks"]["count"]["result"] == len(ITEMS)
    effects = here.lines("effects")
    assert set(effects) == {f"each[{key}]" for key in ITEMS}
    assert all(effects.count(f"each[{key}]") == 1 for key in done)
    assert len(effects) <= len(ITEMS) + len(begun) + 2  # two may have been about to say so when they were ended


def test_killed_where_items_must_not_begin_twice(here: Place) -> None:
    """Each of those that ran is uncertain; the exact command resolves one; nothing begins twice."""
    work(here, idempotent=False)
    process = here.begin("run", "--run-id", "r")
    until(lambda: len(here.lines("effects")) >= 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    ended = here.run("resume", "r")
    assert ended.code == 3, ended.said
    commands = [line for line in ended.err.splitlines() + ended.out.splitlines() if "flowd resolve" in line]
    items = here.json("show", "r")["tasks"]["each"]["items"]
    uncertain = [key for key, item in items.items() if item["state"] == "uncertain"]
    assert 1 <= len(uncertain) <= 2
    assert [f"flowd resolve r 'each[{key}]' --as VERDICT" in "\n".join(commands) for key in uncertain]
    for key in uncertain[:-1]:
        here.ok("resolve", "r", f"each[{key}]", "--as", "succeeded", "--no-run")
    ended = here.run("resolve", "r", f"each[{uncertain[-1]}]", "--as", "succeeded")
    assert ended.code == 0, ended.said
    effects = here.lines("effects")
    assert sorted(effects) == sorted({*effects})
    never = {f"each[{key}]" for key in ITEMS} - {*effects}  # its start was on disk, and the kill came before its body
    assert never <= {f"each[{key}]" for key in uncertain}


def test_interrupted_and_gone_on_with(here: Place) -> None:
    """A stop signal ends the items that run; resume goes on with them and the rest."""
    work(here)
    process = here.begin("run", "--run-id", "r")
    until(lambda: len(here.lines("effects")) >= 4)
    process.send_signal(signal.SIGINT)
    assert end_of(process).code == 130
    document = here.json("resume", "r")
    assert document["tasks"]["each"]["result"] == ITEMS


def test_a_partial_run_and_its_failed_items(here: Place) -> None:
    """Exit 1, the failed item by name, failed.jsonl; then --failed-items runs that one alone."""
    here.pipeline(
        {
            "each": {
                "foreach": {"over": ["a", "b/c", "d"], "min_success": 0.5},
                "run": "echo said {{ item }}; echo {{ item }} >> effects; test {{ item }} != b/c || test -e mended",
            },
            "after": {"needs": ["each"], "run": "true"},
        }
    )
    ended = here.run("run", "--run-id", "r")
    assert ended.code == 1, ended.said
    assert "each is partial: 1 of 3 items failed: b/c" in ended.out
    assert "next: flowd retry r --failed-items" in ended.out
    assert [line for line in ended.out.splitlines() if "each[" in line] == [
        line for line in ended.out.splitlines() if "✗ each[b/c]" in line
    ]
    document = here.json("show", "r")
    assert (document["state"], document["tasks"]["after"]["state"]) == ("partial", "succeeded")
    assert document["tasks"]["each"]["items"]["b/c"]["error"]["type"] == "CommandFailed"
    [listed] = [output["path"] for output in document["tasks"]["each"]["outputs"]]
    assert json.loads(Path(listed).read_text())["key"] == "b/c"
    assert Path(document["tasks"]["each"]["items"]["b/c"]["log"]).read_text() == "said b/c\n"
    assert here.ok("logs", "r", "each[b/c]").out == "said b/c\n"
    why = here.json("why", "r", "each[b/c]")
    assert (why["code"], why["details"]["state"]) == ("failed", "failed")
    assert "1 failed" in here.ok("show", "r").out
    assert here.run("why", "r", "each[nobody]").code == 2
    here.write("mended", "")
    document = here.json("retry", "r", "--failed-items")
    assert document["state"] == "succeeded"
    assert sorted(here.lines("effects")) == ["a", "b/c", "b/c", "d"]
    refused = here.run("retry", "r", "--failed-items")
    assert refused.code == 2
    assert "no items of its tasks have failed" in refused.err


def test_a_matrix_from_a_file(here: Place) -> None:
    """Its cells are tasks of their own, with logs and checkpoints of their own."""
    here.pipeline(
        {
            "build": {
                "matrix": {"os": ["linux", "mac"], "py": [11, 12], "exclude": [{"os": "mac", "py": 11}]},
                "run": "echo {{ matrix.os }}{{ matrix.py }} > {{ outputs[0] }}",
                "inputs": ["{{ matrix.os }}.in"],
                "outputs": ["{{ matrix.os }}{{ matrix.py }}.txt"],
            }
        }
    )
    here.write("linux.in", "")
    here.write("mac.in", "")
    document = here.json("run")
    assert list(document["tasks"]["build"]["items"]) == ["linux,11", "linux,12", "mac,12"]
    assert here.lines("mac12.txt") == ["mac12"]
    os.truncate(here.folder / "mac.in", 5)
    items = here.json("run")["tasks"]["build"]["items"]
    assert [item["state"] for item in items.values()] == ["fresh", "fresh", "succeeded"]
    document = here.json("run")
    assert (document["tasks"]["build"]["state"], document["counts"]) == ("fresh", {"fresh": 1})


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"foreach": "tasks.other.result"}, "there is no task `other`|`other` is not known"),
        ({"foreach": {"over": "params.x", "min_success": 2}}, "from 0 to 1"),
        ({"foreach": {"over": "params.x", "mni_success": 1}}, "did you mean `min_success`"),
        ({"foreach": {"key": "item"}}, "needs the key `over`"),
        ({"foreach": 7}, "a list, or an expression"),
        ({"foreach": "1 +"}, "is no expression"),
        ({"foreach": [1], "matrix": {"a": [1]}}, "not both"),
        ({"matrix": {"os": "linux"}}, "a list of values"),
        ({"matrix": {"os": []}}, "has no value"),
        ({"matrix": {"os": [1], "exclude": [{"os": 1}]}}, "no cell"),
        ({"matrix": {"os": [1], "exclude": [{"so": 1}]}}, "is no axis"),
        ({"matrix": {name: list(range(10)) for name in "abcdef"}}, "1000000 cells"),
        ({"matrix": {"os": [1]}, "env": {"A": "{{ matrix.so }}"}}, "`so` is not known"),
        ({"matrix": {"os": [1]}, "env": {"A": "{{ item }}"}}, "`item` is not known"),
        ({"foreach": [1], "env": {"A": "{{ matrix.os }}"}}, "`matrix` is not known"),
        ({"matrix": {"os": [1, 2]}, "outputs": ["out.txt"]}, "both write `out.txt`"),
    ],
)
def test_what_is_refused(here: Place, keys: dict[str, object], said: str) -> None:
    """Before anything runs, with what to write instead."""
    here.pipeline({"each": {"run": "true", **keys}}, params={"x": {"type": "list", "default": []}})
    ended = here.run("validate", "pipeline.yaml")
    assert ended.code == 2, ended.said
    assert any(one in ended.out + ended.err for one in said.split("|")), ended.said
