"""What the daemon's pipelines ask for besides their runs: who is told, and when they are due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flowd.core.declared import Notify
from flowd.core.notices import also_told
from flowd.core.occurrences import between
from flowd.core.spec import Definition
from flowd.daemon.catalogue import Catalogue


class Declared:
    """The pipelines of a catalogue, each told to whom `everywhere` names, too."""

    def __init__(self, catalogue: Catalogue, everywhere: Sequence[Notify]) -> None:
        self._catalogue = catalogue
        self._everywhere = everywhere

    def definitions(self) -> Sequence[Definition]:
        """Each as it is written now."""
        return [also_told(pipeline.definition(), self._everywhere) for pipeline in self._catalogue.pipelines().values()]

    def due(self, pipeline: str, after: datetime, until: datetime) -> Sequence[datetime]:
        """The instants at which its schedules were due, later than `after`, up to `until`, in order."""
        found = self._catalogue.pipelines().get(pipeline)
        schedules = () if found is None else found.definition().spec.schedule
        return sorted({one.at for schedule in schedules for one in between(schedule, after, until)})
