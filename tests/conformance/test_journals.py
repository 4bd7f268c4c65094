"""Both journals keep the promises of the port."""

from pathlib import Path

import pytest

from flowd.adapters.journal.file import FileJournal
from flowd.adapters.journal.memory import MemoryJournal
from flowd.testing.conformance import JournalConformance


class TestFileJournal(JournalConformance):
    """The journal on disk."""

    @pytest.fixture
    def journal(self, tmp_path: Path) -> FileJournal:
        """A state directory of its own."""
        return FileJournal(tmp_path / ".flowd")


class TestMemoryJournal(JournalConformance):
    """The journal without a disk."""

    @pytest.fixture
    def journal(self) -> MemoryJournal:
        """An empty one."""
        return MemoryJournal()
