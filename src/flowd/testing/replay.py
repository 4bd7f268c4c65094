"""One run's folder, read back: the document that `flowd show --json` prints, from the journal alone."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from flowd.adapters.journal.file import FileJournal
from flowd.core.run import fold
from flowd.core.views import run_document
from flowd.ports.executor import log_path


def replay(path: str | Path) -> dict[str, Any]:
    """The document of the run in the folder `path` (`…/runs/<run id>`); nothing is written.

    Raises NoSuchRun where there is none, StateDamaged with file and offset where a record is not
    what flowd wrote.
    """
    folder = Path(path).absolute()
    state_dir, run = folder.parents[1], folder.name
    with closing(FileJournal(state_dir)) as journal:
        owned = journal.is_owned(run) is not None
        state = fold(run, journal.defined(run).spec, journal.records(run))

    def log_of(task: str, attempt: int) -> str:
        return str(log_path(folder, task, attempt))

    return run_document(state, owned=owned, state_dir=str(state_dir), log_of=log_of)
