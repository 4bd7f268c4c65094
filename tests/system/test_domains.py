"""Pipelines of other trades, from well-known shapes: each is valid, runs as it should, and is short."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from flowd_process import place, states

DOMAINS = Path(__file__).parent.parent / "domains"
NAMES = sorted(path.parent.name for path in DOMAINS.glob("*/pipeline.yaml"))


@pytest.fixture
def domain(request, tmp_path):
    """A copy of the domain that the test names, and flowd run there."""
    shutil.copytree(DOMAINS / request.param, tmp_path, dirs_exist_ok=True)
    with place(tmp_path) as opened:
        yield opened


def of(name):
    """The test is about this domain."""
    return pytest.mark.parametrize("domain", [name], indirect=True)


def run(domain, *words, code=0):
    """The document of a run that ends with `code`."""
    return domain.json("run", "pipeline.yaml", "--no-input", *words, code=code)


@pytest.mark.parametrize("domain", NAMES, indirect=True)
def test_it_is_valid(domain):
    """And `plan` tells what it would do."""
    domain.ok("validate", "pipeline.yaml")
    domain.ok("plan", "pipeline.yaml")


@of("variants")
def test_variants_are_called_for_each_sample(domain):
    """The samples are known at run time only; a new one is aligned alone, and what follows it anew."""
    first = run(domain)
    assert set(states(first).values()) == {"succeeded"}
    assert first["tasks"]["align"]["items"].keys() == {"s1", "s2", "s3"}
    assert len(domain.lines("annotated/gnomad.vcf")) == 9
    assert set(states(run(domain)).values()) == {"fresh"}
    domain.write("samples.csv", "s1\ns4\ns2\ns3\n")
    domain.write("reads/s4.fq", "CGT\n")
    third = run(domain)
    items = {key: item["state"] for key, item in third["tasks"]["align"]["items"].items()}
    assert items == {"s1": "fresh", "s4": "succeeded", "s2": "fresh", "s3": "fresh"}
    assert len(domain.lines("annotated/clinvar.vcf")) == 10


@of("orders")
def test_an_order_that_cannot_be_shipped_is_undone(domain):
    """What was charged is paid back, the run has failed all the same, and `finally` has told it once."""
    found = states(run(domain, code=1))
    assert found["ship"] == "failed"
    assert found["thank"] == "upstream_failed"
    assert found["refund"] == found["restock"] == "succeeded"
    assert sorted(domain.lines("ledger")) == [
        "charged A-1",
        "refunded R-A-1",
        "reserved A-1",
        "restocked",
        "told failed",
    ]


@of("orders")
def test_an_order_that_is_shipped_is_not_undone(domain):
    """The compensation is skipped."""
    found = states(run(domain, "-p", "stock=1"))
    assert found["refund"] == found["restock"] == "skipped"
    assert domain.lines("ledger")[-1] == "told succeeded"


@of("builds")
def test_one_build_may_fail(domain):
    """It is allowed, and shown; the others are published."""
    found = run(domain)
    assert len(found["tasks"]["build"]["items"]) == 6
    assert found["warnings"]
    assert sorted(domain.lines("index.txt")) == ["3.11 linux", "3.11 mac", "3.11 windows", "3.12 linux", "3.12 mac"]


@of("marts")
def test_a_broken_family_does_not_stop_the_other(domain):
    """And a target is one of them alone."""
    found = states(run(domain, code=1))
    assert found["sales_monthly"] == "succeeded"
    assert found["stage_people"] == "failed"
    assert found["headcount"] == "upstream_failed"
    assert states(run(domain, "--target", "sales")) == dict.fromkeys(
        ["stage_sales", "sales_daily", "sales_monthly"], "fresh"
    )


@of("databases")
def test_a_database_bears_one_job_at_a_time(domain):
    """Each job fails where it meets another on its database: none does."""
    assert set(states(run(domain)).values()) == {"succeeded"}


@of("polling")
def test_a_job_is_asked_for_until_it_is_done(domain):
    """By retries; what follows waits a while, and no process does."""
    found = run(domain)
    assert set(states(found).values()) == {"succeeded"}
    assert found["tasks"]["poll"]["attempts"] == 3
    assert found["tasks"]["poll"]["result"] == {"done": True}
    assert domain.lines("answer.txt") == ["3"]


@of("kyc")
@pytest.mark.parametrize(("risk", "decision"), [(10, "accept"), (95, "refuse")])
def test_a_customer_is_judged_by_rule(domain, risk, decision):
    """One branch is taken; the account is opened only after a good one."""
    found = run(domain, "-p", f"risk={risk}")
    taken = {name for name in ("accept", "review", "refuse") if found["tasks"][name]["state"] == "succeeded"}
    assert taken == {decision}
    assert found["tasks"]["review"]["reason"]["code"] == "when_false"
    assert bool(domain.lines("account.txt")) == (decision == "accept")


@of("kyc")
def test_a_customer_is_judged_by_a_person(domain):
    """The run waits without a process; what is answered is the task's result."""
    waiting = run(domain, "-p", "risk=50", "--run-id", "k", code=3)
    assert waiting["tasks"]["review"]["state"] == "waiting"
    domain.ok("approve", "k", "review", "--set", "limit=500", "--comment", "known since 1999")
    shown = domain.json("show", "k")
    assert shown["state"] == "succeeded"
    assert shown["tasks"]["review"]["result"]["limit"] == 500
    assert shown["tasks"]["review"]["approval"]["comment"] == "known since 1999"
    assert domain.lines("account.txt") == ["42"]


@of("partitions")
def test_a_month_may_miss_a_few_days(domain):
    """Eight of ten are enough: partial, and what is there is added up."""
    found = run(domain, code=1)
    assert found["state"] == "partial"
    assert found["tasks"]["load"]["state"] == "partial"
    assert {key for key, item in found["tasks"]["load"]["items"].items() if item["state"] == "failed"} == {
        "2026-11-06",
        "2026-11-09",
    }
    assert domain.lines("total.txt") == ["8"]


@of("sweep")
def test_the_best_model_is_registered_where_it_is_good_enough(domain):
    """The gate says by how much it is not."""
    found = run(domain)
    assert domain.lines("registered.txt") == ["1.0"]
    assert any("too good" in warning for warning in found["warnings"])
    failed = run(domain, "-p", "wanted=1.5", code=1)
    assert states(failed)["register"] == "upstream_failed"
    assert failed["tasks"]["best"]["reason"]["code"] == "gate_failed"
    assert "1.5" in failed["tasks"]["best"]["reason"]["sentence"]


@of("crawl")
def test_pages_that_were_away_are_fetched_again_alone(domain):
    """`--failed-items` runs the one that failed, and the index after it."""
    found = run(domain, "--run-id", "c", code=1)
    assert found["tasks"]["fetch"]["result"] == ["aaa", "bbb", None, "ddd", "eee"]
    domain.write("mended", "")
    domain.ok("retry", "c", "--failed-items", "--downstream")
    shown = domain.json("show", "c")
    assert shown["state"] == "succeeded"
    assert shown["tasks"]["index"]["result"] == ["aaa", "bbb", "ccc", "ddd", "eee"]
    assert sorted(domain.lines("fetched")) == ["a", "b", "c", "c", "d", "e"]


@of("release")
def test_a_release_waits_for_its_version(domain):
    """What was shown is what is approved; a bad version is refused and nothing is lost."""
    assert states(run(domain, "--target", "check")) == {"build": "succeeded"}
    assert run(domain, "--run-id", "r", code=3)["state"] == "waiting"
    refused = domain.run("approve", "r", "sign_off", "--set", "version=two")
    assert refused.code == 2
    assert "version" in refused.err
    domain.ok("approve", "r", "sign_off", "--set", "version=2.0")
    assert domain.lines("published.txt") == ["2.0"]


@of("backup")
def test_a_backup_ends_with_its_disk_unmounted(domain):
    """A difference is allowed; a pipe that breaks is not, and the end comes all the same."""
    found = run(domain, code=1)
    assert found["tasks"]["verify"]["state"] == "failed"
    assert found["tasks"]["verify"]["allowed"] is True
    assert found["tasks"]["prune"]["state"] == "failed"
    assert not (domain.folder / "mounted").exists()
    assert domain.lines("failed.txt")


@of("ledger")
def test_a_payment_is_booked_once(domain):
    """The process dies in the midst of it; the bank knows that it is booked."""
    domain.write("die", "")
    assert domain.run("run", "--run-id", "l").code == -signal.SIGKILL
    domain.ok("resume", "l")
    assert domain.json("show", "l")["tasks"]["balance"]["result"] == 1


@of("sensors")
def test_a_suspicious_sensor_warns(domain):
    """The report is made all the same, and the warning says what was too little."""
    found = run(domain)
    assert set(states(found).values()) == {"succeeded"}
    assert any("enough readings" in warning for warning in found["warnings"])
    assert set(states(run(domain)).values()) <= {"fresh", "succeeded"}


@of("media")
def test_every_clip_has_a_pipeline_of_its_own(domain):
    """Their results are the list that the playlist is made of."""
    found = run(domain)
    assert found["tasks"]["playlist"]["result"] == "harbour.mp4, market.mp4"
    assert sorted(domain.lines("probed")) == ["probed harbour", "probed market"]
