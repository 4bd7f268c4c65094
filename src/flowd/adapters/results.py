"""Large results by content: `artifacts/ab/cd…`, a header line and the bytes; and the same in memory.

Nothing leaves here that was not checked: every result against its digest, and a pickle also
against a signature with this state directory's own key, since loading a pickle runs code.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterator
from pathlib import Path

from flowd.adapters import disk
from flowd.core.errors import StateDamaged

_MAGIC = b"flowd-result 1"
_SIGNED = "pickle"
_HEADER_BYTES = 256
_REST = re.compile(r"[0-9a-f]{62}")


class FileResults:
    """The results below `state_dir`. The key is made with the first pickle, readable to its owner alone."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir.absolute() / "artifacts"
        self._key_path = state_dir.absolute() / "key"
        self._key_is_sure = False
        self._folders = disk.Folders(state_dir.absolute())
        self._threads = disk.FileThreads(2, "flowd-results")

    async def put(self, data: bytes, codec: str) -> str:
        """Keep `data`, synced, and return its sha256 in hex; the same content is kept once."""
        return await self._threads.run(self._put, data, codec)

    async def get(self, digest: str, codec: str) -> bytes:
        """The bytes, checked. StateDamaged where they differ, are gone, or are not signed as they must be."""
        return await self._threads.run(self._get, digest, codec)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.close()

    def path(self, digest: str) -> Path:
        """Where a result is kept."""
        return self._folder / digest[:2] / digest[2:]

    # --- for whoever only looks; these block --------------------------------------------------------

    def check(self, digest: str, codec: str) -> None:
        """As `get`, a piece at a time, with nothing of it kept."""
        path = self.path(digest)
        with disk.failing(path, "read a result"):
            try:
                descriptor = disk.open_regular(path)
            except FileNotFoundError:
                raise StateDamaged(f"{path}: the result is gone") from None
            with open(descriptor, "rb") as file:
                header = file.readline(_HEADER_BYTES)
                self._believe(path, header, hashlib.file_digest(file, "sha256").hexdigest(), digest, codec)

    def check_key(self) -> None:
        """StateDamaged where the key that pickles are signed with is gone or is none."""
        self._key(make=False)

    @property
    def key_path(self) -> Path:
        """Where that key stands."""
        return self._key_path

    def kept(self) -> Iterator[tuple[str, os.stat_result]]:
        """Everything that is kept, by its digest."""
        for folder in sorted(self._folder.glob("[0-9a-f][0-9a-f]")):
            for entry in os.scandir(folder):
                if _REST.fullmatch(entry.name):
                    yield folder.name + entry.name, entry.stat(follow_symlinks=False)

    def _put(self, data: bytes, codec: str) -> str:
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        with disk.failing(path, "keep a result"):
            if self._is_whole(digest, codec):
                disk.sync_folder(path.parent)  # whoever wrote it may not have come so far
                self._folders.make(path.parent)
            else:
                header = self._header(digest, codec, make_key=True)
                self._folders.make(path.parent)
                disk.write_atomic(path, header + data)
        return digest

    def _get(self, digest: str, codec: str) -> bytes:
        path = self.path(digest)
        with disk.failing(path, "read a result"):
            try:
                stored = disk.read_regular(path)
            except FileNotFoundError:
                raise StateDamaged(f"{path}: the result is gone") from None
        newline = stored.find(b"\n", 0, _HEADER_BYTES)
        data = stored[newline + 1 :]
        self._believe(path, stored[: newline + 1], hashlib.sha256(data).hexdigest(), digest, codec)
        return data

    def _believe(self, path: Path, header: bytes, found: str, digest: str, codec: str) -> None:
        """StateDamaged unless a file with this first line, and this digest of the rest, is the result of `digest`."""
        if not header.endswith(b"\n") or found != digest:
            offset = len(header) if header.endswith(b"\n") else 0
            raise StateDamaged(f"{path}: damaged at offset {offset}: the result is not what was kept")
        if not hmac.compare_digest(header, self._header(digest, codec, make_key=False)):
            raise StateDamaged(f"{path}: damaged at offset 0: the {codec} was not written by this state directory")

    def _is_whole(self, digest: str, codec: str) -> bool:
        try:
            self._get(digest, codec)
        except StateDamaged:
            return False
        return True

    def _header(self, digest: str, codec: str, *, make_key: bool) -> bytes:
        """The first line of a stored result; the digest binds the signature to the bytes."""
        signature = b"-"
        if codec == _SIGNED:
            key = self._key(make=make_key)
            signature = hmac.new(key, f"{codec}:{digest}".encode(), "sha256").hexdigest().encode()
        return b"%b %b %b\n" % (_MAGIC, codec.encode(), signature)

    def _key(self, *, make: bool) -> bytes:
        try:
            key = _checked_key(self._key_path)
        except FileNotFoundError:
            if not make:
                raise StateDamaged(f"{self._key_path}: the key that results were signed with is gone") from None
        else:
            if make and not self._key_is_sure:
                disk.sync_folder(self._key_path.parent)  # whoever made it may not have come so far
                self._key_is_sure = True
            return key
        disk.make_folders(self._key_path.parent)
        fresh = self._key_path.with_name(f"key.{os.getpid()}-{os.urandom(4).hex()}.tmp")
        disk.write_atomic(fresh, os.urandom(32).hex().encode() + b"\n")
        try:
            os.link(fresh, self._key_path)  # the first of several wins, and all use its key
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        disk.sync_folder(self._key_path.parent)
        return _checked_key(self._key_path)


class MemoryResults:
    """Results without a disk. Nobody else can write them, so nothing needs a signature."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], bytes] = {}

    async def put(self, data: bytes, codec: str) -> str:
        """Keep `data` and return its sha256 in hex."""
        digest = hashlib.sha256(data).hexdigest()
        self._kept[digest, codec] = data
        return digest

    async def get(self, digest: str, codec: str) -> bytes:
        """The bytes. StateDamaged where they are gone."""
        try:
            return self._kept[digest, codec]
        except KeyError:
            raise StateDamaged(f"the {codec} result {digest} is gone") from None


def _checked_key(path: Path) -> bytes:
    key = disk.read_regular(path).strip()
    if len(key) != 64:
        raise StateDamaged(f"{path}: damaged at offset 0: no key of 64 hex digits")
    return key
