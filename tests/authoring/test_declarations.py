"""Owners, notices, schedules, triggers, groups and retention: read whole, and refused where they could never work."""

from __future__ import annotations

import json
from datetime import timedelta

import msgspec
import pytest

from bad_files import bad, check_refused, task
from flowd import BadPipeline, Pipeline
from flowd.__main__ import main
from flowd.authoring.declarations import inactive
from flowd.authoring.notices import SCHEMES
from flowd.core.declared import Dst, Expect, Group, Notify, Owner, Retention, Schedule, Trigger
from flowd.core.spec import Definition

WHOLE = """
name: retrain
params: {region: eu, day: {type: date, required: true}}
secrets: {HOOK: {env: RETRAIN_HOOK}}
owners: {science: {notify: ["mailto://science@localhost:2525", "{{ secrets.HOOK }}"]}, ops: {notify: ["slack://{{ secrets.HOOK }}/#ops"]}}
notify: [{on: [failed, waiting], to: [owner, ops]}, {on: recovered, to: "jsons://user:word@host/path"}]
schedule:
  - {name: weekly, cron: "0 6 * * mon", timezone: America/New_York, tasks: [fit], params: {day: 2026-01-01, region: us},
     misfire: {all: 3}, overlap: {queue: 2}, dst: {gap: skip, fold: both}}
  - {name: often, every: 90s, params: {day: "2026-01-02"}, misfire: skip, overlap: cancel_old}
trigger: [{file: "inbox/*.csv", settle: 5s}, {webhook: deploy, secret: "{{ secrets.HOOK }}"}, {after: ingest, on: [succeeded, failed]}, {after: other}]
group: {key: "{{ params.region }}", overlap: cancel_old}
expect: {done_by: "6:30", timezone: Europe/Berlin}
retention: {runs: 50, age: 90d, size: 1.5GB}
result: tasks.fit.result
defaults: {owner: ops}
tasks:
  fit: {run: "true", owner: science, outputs: [{path: out, retention: 30d, delete: true}, other]}
  report: {run: "true"}
"""


@pytest.fixture
def whole(tmp_path):
    (tmp_path / "pipeline.yaml").write_text(WHOLE)
    return Pipeline.load(tmp_path / "pipeline.yaml")


def test_everything_stands_in_the_specification(whole):
    """Typed, with defaults; and in the record of a run."""
    spec = whole.spec
    assert spec.owners["science"] == Owner(notify=("mailto://science@localhost:2525", "{{ secrets.HOOK }}"))
    assert spec.notify == (
        Notify(on=("failed", "waiting"), to=("owner", "ops")),
        Notify(on=("recovered",), to=("jsons://user:word@host/path",)),
    )
    weekly, often = spec.schedule
    assert weekly == Schedule(
        name="weekly",
        cron="0 6 * * mon",
        timezone="America/New_York",
        tasks=("fit",),
        params={"day": "2026-01-01", "region": "us"},
        misfire={"all": 3},
        overlap={"queue": 2},
        dst=Dst(gap="skip", fold="both"),
    )
    assert (often.every, often.misfire, often.overlap, often.timezone) == (
        timedelta(seconds=90),
        "skip",
        "cancel_old",
        "UTC",
    )
    assert spec.trigger == (
        Trigger(file="inbox/*.csv", settle=timedelta(seconds=5)),
        Trigger(webhook="deploy", secret="{{ secrets.HOOK }}"),
        Trigger(after="ingest", on=("succeeded", "failed")),
        Trigger(after="other", on=("succeeded",)),
    )
    assert spec.group == Group(key="{{ params.region }}", overlap="cancel_old")
    assert spec.expect == Expect(done_by="06:30", timezone="Europe/Berlin")
    assert spec.retention == Retention(runs=50, age=timedelta(days=90), size=1_500_000_000)
    assert spec.result == "{{ tasks.fit.result }}"
    assert [task.owner for task in spec.tasks] == ["science", "ops"]
    assert spec.tasks[0].outputs[0].retention == timedelta(days=30)
    assert spec.tasks[0].outputs[0].delete
    definition = Definition(spec=spec, folder="/x")
    assert msgspec.json.decode(msgspec.json.encode(definition), type=Definition) == definition


def test_defaults_of_one_schedule():
    """It has the pipeline's name; nicknames are written out."""
    made = Pipeline("p", schedule={"cron": "@weekly"}, group={"key": "x"})
    made.shell("a", "true")
    assert made.spec.schedule == (Schedule(name="p", cron="0 0 * * 0"),)
    assert made.spec.group == Group(key="x", overlap={"queue": 1})


def test_what_nothing_acts_on_is_said(whole, tmp_path, capsys, monkeypatch):
    """By validate: the keys as they are called, once."""
    named = ["group"]
    assert inactive(whole.spec) == named
    monkeypatch.chdir(tmp_path)
    assert main(["validate"]) == 0
    assert f"checked, but nothing acts on it yet: {', '.join(named)}\n" in capsys.readouterr().out
    assert main(["validate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"problems": [], "inactive": {"pipeline.yaml": named}}
    (tmp_path / "pipeline.yaml").write_text(task("run: x"))
    assert main(["validate"]) == 0
    assert capsys.readouterr().out == "pipeline.yaml: ok, 1 task\n"


def test_known_schemes():
    """Those of the contract, and their secure ones."""
    assert {"mailto", "mailtos", "slack", "json", "jsons", "tgram", "msteams"} - SCHEMES <= {"msteams"}
    assert all(name == name.lower() for name in SCHEMES)


def top(id: str, line: str, *said: tuple[str, str, str, str]) -> object:
    """A file with one more key, on its second line."""
    return bad(id, task("run: x", f"{line}\n"), *said)


SCHEDULES = [
    top("no times", "schedule: ‹{}".replace("schedule: ‹", "‹schedule: "), ("bad_schedule", "schedule", "neither `cron` nor `every`", "{every: 1h}")),
    top("both times", "‹schedule: {cron: '@daily', every: 1h}", ("bad_schedule", "schedule", "it has `cron` and `every`", "")),
    top("a text", "schedule: ‹'0 6 * * mon'", ("wrong_type", "schedule", "a mapping is expected", "write {name: …")),
    top("no schedule", "schedule: ‹[]", ("bad_value", "schedule", "there is no schedule", "leave it out")),
    top("misspelt", "schedule: {cron: '@daily', ‹timezon: UTC}", ("unknown_key", "schedule.timezon", "no key of a schedule", "mean `timezone`?")),
    top("too few fields", "schedule: {cron: ‹'0 6 *'}", ("bad_cron", "schedule.cron", "has 3 fields", "weekday, such as `0 6 * * mon`")),
    top("six fields", "schedule: {cron: ‹'0 0 6 * * mon'}", ("bad_cron", "schedule.cron", "has 6 fields", "for seconds, use `every`")),
    top("no weekday", "schedule: {cron: ‹'0 6 * * mno'}", ("bad_cron", "schedule.cron", "Bad day-of-week", "minute, hour")),
    top("no minute", "schedule: {cron: ‹'61 * * * *'}", ("bad_cron", "schedule.cron", "Bad minute", "minute, hour")),
    top("no such day ever", "schedule: {cron: ‹'0 0 30 2 *'}", ("bad_cron", "schedule.cron", "Bad", "minute, hour")),
    top("no nickname", "schedule: {cron: ‹'@dialy'}", ("bad_cron", "schedule.cron", "no name of times", "did you mean `@daily`?")),
    top("too often", "schedule: {every: ‹200ms}", ("bad_duration", "schedule.every", "too often", "at least 1s")),
    top("no unit", "schedule: {every: ‹5}", ("bad_duration", "schedule.every", "`5` is no duration", "write `5s`")),
    top("no zone", "schedule: {cron: '@daily', timezone: ‹America/NewYork}", ("bad_timezone", "schedule.timezone", "no time zone", "mean `America/New_York`?")),
    top("a folder of zones", "schedule: {cron: '@daily', timezone: ‹Europe}", ("bad_timezone", "schedule.timezone", "no time zone", "")),
    top("a path of a zone", "schedule: {cron: '@daily', timezone: ‹../../etc/passwd}", ("bad_timezone", "schedule.timezone", "no time zone", "Europe/Berlin")),
    top("a zone of an interval", "schedule: {every: 1h, ‹timezone: UTC}", ("unfit_key", "schedule.timezone", "counts real time", "remove")),
    top("dst of an interval", "schedule: {every: 1h, ‹dst: {gap: skip}}", ("unfit_key", "schedule.dst", "counts real time", "remove")),
    top("no gap", "schedule: {cron: '@daily', dst: {gap: ‹shfit}}", ("bad_value", "schedule.dst.gap", "none of `shift`, `skip`", "mean `shift`?")),
    top("an unknown task", "schedule: {cron: '@daily', tasks: [‹b]}", ("unknown_task", "schedule.tasks[0]", "no task `b`", "the tasks are `a`")),
    top("misfire", "schedule: {cron: '@daily', misfire: ‹lastest}", ("bad_value", "schedule.misfire", "none of `skip`, `latest` or {all: N}", "mean `latest`?")),
    top("all without a number", "schedule: {cron: '@daily', misfire: ‹all}", ("bad_value", "schedule.misfire", "`all` needs a number", "{all: 10}")),
    top("none at all", "schedule: {cron: '@daily', misfire: {all: ‹0}}", ("bad_value", "schedule.misfire.all", "at least 1", "")),
    top("overlap", "schedule: {cron: '@daily', overlap: ‹[allow]}", ("wrong_type", "schedule.overlap", "or {queue: N} is expected", "")),
    top("overlap misspelt", "schedule: {cron: '@daily', ‹overlap: {‹qeue: 1}}",
        ("missing_key", "schedule.overlap", "needs the key `queue`", ""),
        ("unknown_key", "schedule.overlap.qeue", "no key of `overlap`", "mean `queue`?"), ),
    top("an unknown parameter", "schedule: {cron: '@daily', params: {‹n: 1}}", ("unknown_param", "schedule.params.n", "no parameter `n`", "there are none")),
    top("a parameter of another type", "params: {n: {type: int}}\nschedule: {cron: '@daily', params: {n: ‹x}}",
        ("bad_param", "schedule.params.n", "a whole number", "give 3")),
    top("a template as a parameter", "params: {n: x}\nschedule: {cron: '@daily', params: {n: ‹\"{{ run.time }}\"}}",
        ("bad_placement", "schedule.params.n", "cannot stand", "the value itself")),
    top("a parameter that is required", "params: {n: {required: true}}\n‹schedule: {cron: '@daily'}",
        ("missing_param", "schedule", "`n` is required", "`params: {n: …}`")),
    top("two without names", "schedule: [‹{every: 1h}, ‹{every: 2h}]", ("missing_key", "schedule[0]", "needs a name", "name: nightly"),
        ("missing_key", "schedule[1]", "needs a name", "")),
    top("two of one name", "schedule: [{name: x, every: 1h}, {name: ‹x, every: 2h}]", ("duplicate_name", "schedule[1].name", "two schedules `x`", "")),
    top("two that differ in case", "schedule: [{name: x, every: 1h}, {name: ‹X, every: 2h}]", ("name_case", "schedule[1].name", "only in case", "")),
    top("expect nothing", "‹expect: {}", ("bad_expect", "expect", "says nothing", "{within: 2h}")),
    top("expect both", "‹expect: {within: 2h, done_by: '06:30'}", ("bad_expect", "expect", "`within` and `done_by`", "")),
    top("no time of day", "expect: {done_by: ‹'25:00'}", ("bad_time", "expect.done_by", "no time of day", '"06:30"')),
    top("a time without quotes", "expect: {done_by: ‹6:30}", ("yaml_surprise", "expect.done_by", "", "")),
    top("a zone of a duration", "expect: {within: 2h, ‹timezone: UTC}", ("unfit_key", "expect.timezone", "beside `within`", "remove")),
    top("no duration", "expect: {within: ‹none}", ("bad_duration", "expect.within", "is no duration", "leave the key out")),
]  # fmt: skip

NOTICES = [
    top("owners as a list", "owners: ‹[a]", ("wrong_type", "owners", "a mapping", "notify:")),
    top("an owner of nothing", "owners: {‹ops: {}}", ("missing_key", "owners.ops", "needs the key `notify`", "URLs")),
    top("one URL", "owners: {ops: {notify: ‹'mailto://a@b.c'}}", ("wrong_type", "owners.ops.notify", "a list", "write [mailto://a@b.c]")),
    top("no URL", "owners: {ops: {notify: ‹[]}}", ("bad_value", "owners.ops.notify", "no URL", "mailto://")),
    top("an address", "owners: {ops: {notify: [‹a@b.c]}}", ("bad_url", "owners.ops.notify[0]", "is no URL", "mailto://USER@HOST")),
    top("mailto without slashes", "owners: {ops: {notify: [‹'mailto:a@b.c']}}", ("bad_url", "owners.ops.notify[0]", "is no URL", "mailto://…")),
    top("a web address", "owners: {ops: {notify: [‹'https://hooks.slack.com/x']}}", ("bad_url", "owners.ops.notify[0]", "`https` is no scheme", "jsons://HOST")),
    top("a scheme misspelt", "owners: {ops: {notify: [‹'slakc://x']}}", ("bad_url", "owners.ops.notify[0]", "`slakc` is no scheme", "mean `slack`?")),
    top("the word owner", "owners: {‹owner: {notify: ['json://h']}}", ("bad_name", "owners.owner", "names nobody", "another name")),
    top("owners that differ in case", "owners: {ops: {notify: ['json://h']}, ‹Ops: {notify: ['json://h']}}", ("name_case", "owners.Ops", "only in case", "")),
    top("an unknown secret", "owners: {ops: {notify: [‹'{{ secrets.X }}']}}", ("unknown_name", "owners.ops.notify[0]", "`X` is not known", "declare it")),
    top("a result in a URL", "owners: {ops: {notify: [‹'{{ tasks.a.result }}']}}", ("unknown_name", "owners.ops.notify[0]", "`tasks`", "")),
    top("notices as a mapping", "‹notify: {on: failed, to: owner}", ("wrong_type", "notify", "a list is expected", "[{on:")),
    top("nobody", "notify: [‹{on: failed}]", ("missing_key", "notify[0]", "needs the key `to`", "")),
    top("no happening", "notify: [{on: ‹[], to: 'json://h'}]", ("bad_value", "notify[0].on", "there is none", "use `failed`")),
    top("a happening misspelt", "notify: [{on: [‹faild], to: 'json://h'}]", ("bad_value", "notify[0].on[0]", "`faild` is none of", "mean `failed`?")),
    top("twice", "notify: [{on: [late, ‹late], to: 'json://h'}]", ("bad_value", "notify[0].on[1]", "given twice", "keep one")),
    top("owner of none", "notify: [{on: failed, to: ‹owner}]", ("unknown_owner", "notify[0].to", "there are no owners", "owner: data_team")),
    top("an unknown owner", "owners: {ops: {notify: ['json://h']}}\nnotify: [{on: failed, to: [‹opps]}]",
        ("unknown_owner", "notify[0].to[0]", "no owner `opps`", "mean `ops`?")),
    bad("an owner that is not declared", task("run: x, owner: ‹ops"), ("unknown_owner", "tasks.a.owner", "no owner `ops`", "owners: {ops: {notify:")),
    top("an owner by default", "defaults: {owner: ‹ops}", ("unknown_owner", "defaults.owner", "no owner `ops`", "")),
]  # fmt: skip

TRIGGERS = [
    top("a mapping", "‹trigger: {file: x}", ("wrong_type", "trigger", "a list is expected", "[{file:")),
    top("nothing", "trigger: [‹{}]", ("bad_trigger", "trigger[0]", "it waits for nothing", "[{webhook: deploy}]")),
    top("two of them", "trigger: [‹{file: x, after: y}]", ("bad_trigger", "trigger[0]", "it has `file`, `after`", "")),
    top("settle of a webhook", "trigger: [{webhook: x, ‹settle: 1s}]", ("unfit_key", "trigger[0].settle", "beside `webhook`", "remove")),
    top("on of a file", "trigger: [{file: x, ‹on: [failed]}]", ("unfit_key", "trigger[0].on", "beside `file`", "remove")),
    top("a template as a file", "trigger: [{file: ‹'{{ params.x }}'}]", ("bad_placement", "trigger[0].file", "no run yet", "the path")),
    top("a secret written out", "trigger: [{webhook: x, secret: ‹hunter22}]", ("secret_in_file", "trigger[0].secret", "does not stand in a file", "secrets.NAME")),
    top("a parameter for a secret", "params: {p: x}\ntrigger: [{webhook: x, secret: ‹'{{ params.p }}'}]", ("unknown_name", "trigger[0].secret", "`params`", "")),
    top("two webhooks", "trigger: [{webhook: x}, {webhook: ‹x}]", ("duplicate_name", "trigger[1].webhook", "two webhooks `x`", "")),
    top("after itself", "trigger: [{after: ‹p}]", ("bad_trigger", "trigger[0].after", "again and again", "another pipeline")),
    top("after how", "trigger: [{after: q, on: ‹done}]", ("bad_value", "trigger[0].on", "`done` is none of `succeeded`", "")),
    top("a group without a key", "‹group: {overlap: skip}", ("missing_key", "group", "needs the key `key`", "")),
    top("a group that allows", "group: {key: x, overlap: ‹allow}", ("bad_value", "group.overlap", "none of `skip`, `cancel_old` or {queue: N}", "")),
    top("a secret as a key", "secrets: {T: {env: T}}\ngroup: {key: ‹'{{ secrets.T }}'}", ("secret_misplaced", "group.key", "the key of a group", "")),
    top("a group of an unknown parameter", "group: {key: ‹'{{ params.x }}'}", ("unknown_name", "group.key", "`x` is not known", "")),
    top("a result that is no expression", "result: ‹the model", ("bad_expression", "result", "", "")),
    top("a bare result of an unknown task", "result: ‹tasks.b.result", ("unknown_name", "result", "`b` is not known", "")),
    top("a result of an unknown task", "result: ‹'{{ tasks.b.result }}'", ("unknown_name", "result", "`b` is not known", "")),
    top("retention of nothing", "‹retention: {}", ("bad_value", "retention", "bounds nothing", "{runs: 50}")),
    top("no runs", "retention: {runs: ‹0}", ("bad_value", "retention.runs", "at least 1", "")),
    top("no size", "retention: {size: ‹10 gigabytes}", ("bad_size", "retention.size", "is no size", "10GB")),
    top("no age", "retention: {age: ‹90}", ("bad_duration", "retention.age", "no duration", "`90s`")),
    bad("delete without retention", task("run: x, outputs: [{path: o, ‹delete: true}]"),
        ("unfit_key", "tasks.a.outputs[0].delete", "does not say when", "retention: 30d")),
    bad("retention of an output", task("run: x, outputs: [{path: o, ‹retention: {runs: 3}}]"),
        ("wrong_type", "tasks.a.outputs[0].retention", "a duration is expected", "30s")),
]  # fmt: skip


@pytest.mark.parametrize("case", [*SCHEDULES, *NOTICES, *TRIGGERS])
def test_each_is_refused(case, tmp_path, capsys, monkeypatch):
    """With its place, and with what to write instead."""
    check_refused(case, tmp_path, capsys, monkeypatch)


def test_python_is_refused_likewise():
    """The same problems, at the keys' paths."""
    made = Pipeline("p", schedule=[{"every": timedelta(0)}], notify=[{"on": "failed", "to": "nobody"}])
    made.shell("a", "true", owner="ops")
    with pytest.raises(BadPipeline) as refused:
        made.definition()
    assert {problem.key for problem in refused.value.problems} == {"schedule[0].every", "notify[0].to", "tasks.a.owner"}
