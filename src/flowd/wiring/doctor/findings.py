"""What the doctor says: findings, each with its fix, and one line for each check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from flowd.core.errors import FlowdError, StateDamaged, StateLocked, StorageFailing

Severity = Literal["note", "warning", "error"]
RANK: dict[str, int] = {"note": 0, "warning": 1, "error": 2}

DAMAGED = StateDamaged.exit_code
FAILING = StorageFailing.exit_code

NOT_READABLE = "not_readable"


class Finding(msgspec.Struct, kw_only=True, eq=False):
    """One thing that is worth a word. An `error` has the `exit_code` that the doctor ends with for it.

    `code` is stable; `file` and `offset` say where; `fix` is what to type or to do. `mend` does
    it, where that is safe; it changes nothing where the trouble is gone meanwhile.
    """

    code: str
    severity: Severity
    sentence: str
    file: str | None = None
    offset: int | None = None
    fix: str
    exit_code: int = 0
    mend: Callable[[], object] | None = None
    repaired: bool = False

    def document(self) -> dict[str, Any]:
        """The finding as JSON."""
        return {
            "code": self.code,
            "severity": self.severity,
            "sentence": self.sentence,
            "file": self.file,
            "offset": self.offset,
            "fix": self.fix,
            "repairable": self.mend is not None,
            "repaired": self.repaired,
        }

    def repair(self) -> None:
        """Mend it where that is safe; what keeps it from being mended becomes the fix."""
        if self.mend is None:
            return
        try:
            self.mend()
        except StateLocked as held:
            self.fix = f"left alone: {held}; ask again once it has ended"
        except (FlowdError, OSError) as error:
            self.fix = f"it could not be repaired: {error}"
            self.severity = "error"
            self.exit_code = error.exit_code if isinstance(error, FlowdError) else FAILING
        else:
            self.repaired = True


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """One check that was made: what it looked at in a few words, and what it found."""

    name: str
    detail: str
    findings: Sequence[Finding] = ()

    @property
    def worst(self) -> str | None:
        """The gravest severity of what was found and is not repaired; None where all is well."""
        open_still = [finding.severity for finding in self.findings if not finding.repaired]
        return max(open_still, key=RANK.__getitem__, default=None)

    def document(self) -> dict[str, Any]:
        """The check as JSON."""
        return {
            "name": self.name,
            "worst": self.worst,
            "detail": self.detail,
            "findings": [finding.code for finding in self.findings],
        }


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that was looked at."""

    state_dir: Path
    checks: Sequence[Checked]

    @property
    def findings(self) -> list[Finding]:
        """What was found, in the order of the checks."""
        return [finding for checked in self.checks for finding in checked.findings]

    @property
    def exit_code(self) -> int:
        """5 where the state is damaged, else 4 where its storage fails, else 0."""
        return max((finding.exit_code for finding in self.findings if not finding.repaired), default=0)

    def document(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "state_dir": str(self.state_dir),
            "findings": [finding.document() for finding in self.findings],
            "checks": [checked.document() for checked in self.checks],
        }


def plural(count: int, word: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def damaged(code: str, sentence: str, fix: str, **where: Any) -> Finding:
    """An error: the state is not what was written."""
    return Finding(code=code, severity="error", sentence=sentence, fix=fix, exit_code=DAMAGED, **where)


def failing(code: str, sentence: str, fix: str, **where: Any) -> Finding:
    """An error: nothing can be kept there."""
    return Finding(code=code, severity="error", sentence=sentence, fix=fix, exit_code=FAILING, **where)


def warning(code: str, sentence: str, fix: str, **more: Any) -> Finding:
    """Something that will bite."""
    return Finding(code=code, severity="warning", sentence=sentence, fix=fix, **more)


def note(code: str, sentence: str, fix: str, **more: Any) -> Finding:
    """Something to know."""
    return Finding(code=code, severity="note", sentence=sentence, fix=fix, **more)
