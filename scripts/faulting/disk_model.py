"""A disk that forgets: what a machine finds of a folder after its power was cut.

Only bytes and names that were synced are sure to be there. What is not sure may be gone, may be
zeros, or may be there in part: the ways of `WAYS`.
"""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

WAYS = ("cut", "names", "zeroed", "torn")
"""Nothing unsynced survives; names do; names do not and bytes are zeros; names do and bytes in part."""


@dataclass
class Tree:
    """Folders and files below one folder, by the numbers of their inodes."""

    root: int
    folders: dict[int, dict[str, int]] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)


def look(root: Path) -> Tree:
    """Everything that is there now."""
    tree = Tree(root.stat().st_ino)
    for parent, _, names in os.walk(root):
        with os.scandir(parent) as entries:
            tree.folders[os.stat(parent).st_ino] = {entry.name: entry.inode() for entry in entries}
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                tree.files[path.stat().st_ino] = path.read_bytes()
    return tree


class Disk:
    """What is durable of a folder: all that was there at first, and what syncs brought since."""

    def __init__(self, root: Path, log: Path) -> None:
        self.root = root
        self._log = log
        log.unlink(missing_ok=True)
        self._durable = look(root)
        self._held: list[int] = []
        self.hold()

    def hold(self) -> None:
        """Keep what is there open, so that no later file gets the number of one that is removed."""
        self._held += [
            os.open(Path(parent, name), os.O_RDONLY | os.O_CLOEXEC)
            for parent, _, names in os.walk(self.root)
            for name in [".", *names]
        ]

    def close(self) -> None:
        """Let the numbers go."""
        for descriptor in self._held:
            os.close(descriptor)
        self._held = []

    def cut_power(self, way: str, chance: Random) -> None:
        """Put in the folder's place what is found of it once the machine is up again."""
        now = look(self.root)
        durable = self._durable
        for kind, inode, content in syncs(self._log):
            if kind == "folder":
                durable.folders[inode] = content
            else:
                durable.files[inode] = content
        names = now.folders if way in {"names", "torn"} else durable.folders
        found = self.root.with_name(f"{self.root.name}.found")

        def build(inode: int, target: Path) -> None:
            target.mkdir(mode=0o700)
            for name, below in names.get(inode, {}).items():
                if below in now.folders or below in durable.folders:
                    build(below, target / name)
                else:
                    data = _found(durable.files.get(below), now.files.get(below), way, chance)
                    (target / name).write_bytes(data)

        build(durable.root, found)
        self.close()
        shutil.rmtree(self.root)
        found.rename(self.root)
        self._log.unlink(missing_ok=True)
        self._durable = look(self.root)  # the machine is up again: what it found is on disk
        self.hold()


def syncs(log: Path) -> list[tuple[str, int, Any]]:
    """What each sync made durable, in order; one that the process died in may be cut short."""
    found = []
    try:
        with log.open("rb") as file:
            while True:
                found.append(pickle.load(file))
    except (FileNotFoundError, EOFError, pickle.UnpicklingError):
        return found


def _found(synced: bytes | None, now: bytes | None, way: str, chance: Random) -> bytes:
    kept = synced or b""
    if now is None or way in {"cut", "names"}:
        return kept
    if not now.startswith(kept):  # rewritten in place since
        return chance.choice((kept, now)) if way == "torn" else kept
    if way == "zeroed":
        return kept.ljust(len(now), b"\0")
    return now[: chance.randint(len(kept), len(now))]
