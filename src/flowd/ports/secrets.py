"""The port to where secrets come from."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from flowd.core.errors import FlowdError
from flowd.core.spec import Secret


class SecretMissing(FlowdError):
    """A secret is not where it is said to be, or is none: names it and where it was looked for, never its value.

    `unusable`: something is there, and no secret can be like that.
    """

    def __init__(self, message: str, *, unusable: bool = False) -> None:
        self.unusable = unusable
        super().__init__(message)


class Secrets(Protocol):
    """Reads secrets of a pipeline whose folder is `folder`. Both raise SecretMissing."""

    def glance(self, name: str, secret: Secret, folder: Path) -> str | None:
        """The value, if the environment or a file holds it; None where finding out takes longer. Blocks a little."""
        ...

    async def read(self, name: str, secret: Secret, folder: Path) -> str:
        """The value, as it is now."""
        ...
