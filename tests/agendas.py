"""What a daemon's parts are tried with: an agenda in memory, and pipelines by name."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from flowd import Pipeline
from flowd.core.agenda import Agenda, AnyFact
from flowd.core.errors import StorageFailing


class MemoryAgenda:
    """Keeps facts, and can be made to fail."""

    def __init__(self, kept: Sequence[AnyFact] = ()) -> None:
        self.told = list(kept)
        self.agenda = Agenda(kept)
        self.broken = False

    async def record(self, told: Sequence[AnyFact], _now: datetime) -> None:
        if self.broken:
            raise StorageFailing("the disk is full")
        self.told += told
        for fact in told:
            self.agenda.apply(fact)


class Shelf:
    """Pipelines by name."""

    def __init__(self, *pipelines: Pipeline) -> None:
        self.by_name = {pipeline.name: pipeline for pipeline in pipelines}

    def pipelines(self) -> Mapping[str, Pipeline]:
        return self.by_name
