"""Whole histories in virtual time: what is promised holds whoever is killed when, and each seed is one history."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flowd.core.events import Envelope
from flowd.engine.stream import Stream
from flowd.testing.simulation import Broken, History, simulate


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_promises_hold_in_every_history(first: int) -> None:
    """Fifty seeds: killed at any step, resumed, answered, cancelled, retried, to the end."""
    deaths = sum(simulate(seed).deaths for seed in range(first, first + 50))
    assert deaths > 20  # it would be no test if nobody died


def records(history: History) -> list[Envelope]:
    """What is on record but for lists of failed items: real files, in a folder of a name that chance has given."""
    found = history.world.envelopes("run")
    lists = {one.seq: replace(one.event, outputs=()) for one in found if getattr(one.event, "outputs", ())}
    return [replace(one, event=lists.get(one.seq, one.event)) for one in found]


@pytest.mark.parametrize("seed", [3, 98, 440])
def test_a_seed_is_one_history(seed: int) -> None:
    """The same seed gives the same records at the same moments, so that what it found can be found again."""
    first, second = simulate(seed), simulate(seed)
    assert records(first) == records(second)
    assert first.world.ledger == second.world.ledger


def test_a_broken_promise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that does not wait for the disk before a guarded start, or an answer, is found out, with the seed."""

    async def at_once(_stream: Stream) -> None:
        return

    def lead() -> None:
        for seed in range(200):
            simulate(seed)

    monkeypatch.setattr(Stream, "durable", at_once)
    with pytest.raises(
        Broken,
        match=r"seed \d+: .*(began before its start was durable|on disk from before|was confirmed, and is there 0)",
    ):
        lead()
