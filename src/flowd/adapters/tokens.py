"""The tokens of a state directory: a file for its owner alone, of digests; and the first one, in clear, beside it."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from flowd.adapters import disk
from flowd.core.access import ADMIN, NAME, Caller, Token, caller_of, digest, holder_of, written
from flowd.core.errors import BadRequest, StateDamaged

FILE = "tokens.json"
CLEAR = "token"
_OTHERS = 0o077


class FileTokens:
    """The tokens in a file, read anew where it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, ...] | None = None
        self._tokens: tuple[Token, ...] = ()

    def caller(self, text: str, now: datetime) -> Caller | None:
        """Who holds a token; None where nobody does."""
        return caller_of(text, self.all(), now)

    def holder(self, ident: str, now: datetime) -> Caller | None:
        """Who holds the token with this id; None where nobody does, or no more."""
        return holder_of(ident, self.all(), now)

    def all(self) -> Sequence[Token]:
        """All tokens, expired ones too. BadRequest where others may read the file, StateDamaged where it is none."""
        try:
            found = os.stat(self._path)
            stamp = found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
            if stamp != self._stamp:
                _check_private(self._path, found)
                self._tokens = msgspec.json.decode(disk.read_regular(self._path), type=tuple[Token, ...])
                self._stamp = stamp
        except FileNotFoundError:
            self._stamp, self._tokens = None, ()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StateDamaged(f"{self._path}: {error}; move it away, and add tokens anew") from error
        return self._tokens

    def add(self, name: str, role: str, now: datetime, expires_at: datetime | None = None) -> str:
        """Make a token; what it returns is shown to nobody again. BadRequest for a name that is taken, or is none."""
        text, made = _minted(name, role, now, expires_at)
        self._put(made)
        return text

    def begin(self, clear: Path, now: datetime) -> None:
        """Make the first token, an admin's, and keep it in clear, too; nothing where there are tokens.

        The clear text is there before the token holds: whenever this is cut off, nobody is locked out.
        """
        if self.all():
            return
        text, made = _minted(ADMIN, ADMIN, now, None)
        with disk.failing(clear, "be written"):
            disk.write_atomic(clear, f"{text}\n".encode())
        self._put(made)

    def revoke(self, name: str) -> None:
        """Take a token away. BadRequest where there is none."""
        with self._held():
            left = [token for token in self.all() if token.name != name]
            if len(left) == len(self._tokens):
                known = ", ".join(token.name for token in self._tokens) or "none"
                raise BadRequest(f"there is no token {name}; there is: {known}")
            self._write(left)

    def _put(self, made: Token) -> None:
        with self._held():
            if any(token.name == made.name for token in self.all()):
                raise BadRequest(
                    f"there is a token {made.name} already; revoke it first: flowd token revoke {made.name}"
                )
            self._write([*self.all(), made])

    def _write(self, tokens: Sequence[Token]) -> None:
        with disk.failing(self._path, "be written"):
            disk.write_atomic(self._path, msgspec.json.format(msgspec.json.encode(list(tokens)), indent=2))

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep other processes from writing what was read before this one wrote."""
        with disk.failing(self._path, "be written"):
            disk.make_folders(self._path.parent)
            lock = os.open(
                self._path.with_name(f"{self._path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def first_token(state_dir: Path, tokens: FileTokens, now: datetime) -> str | None:
    """The token that stands in clear in the state directory, made where there are none at all.

    None where it stands there no more. BadRequest where others may read it.
    """
    tokens.begin(state_dir / CLEAR, now)
    return read_clear(state_dir)


def _minted(name: str, role: str, now: datetime, expires_at: datetime | None) -> tuple[str, Token]:
    """A new token, as its holder has it and as it is kept. BadRequest for what is no name."""
    if not NAME.fullmatch(name):
        raise BadRequest(f"{name!r} is no name of a token; write letters, digits, `.`, `_` and `-`, a letter first")
    ident, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    kept = Token(id=ident, name=name, role=role, digest=digest(secret), created_at=now, expires_at=expires_at)
    return written(ident, secret), kept


def read_clear(state_dir: Path) -> str | None:
    """The token in clear, of whoever may read it; None where there is none."""
    path = state_dir / CLEAR
    try:
        _check_private(path, os.stat(path))
        return disk.read_regular(path).decode("ascii").strip() or None
    except (FileNotFoundError, PermissionError, UnicodeDecodeError):
        return None


def _check_private(path: Path, found: os.stat_result) -> None:
    if stat.S_IMODE(found.st_mode) & _OTHERS:
        raise BadRequest(f"{path} may be read or written by others: chmod 600 {path}, and make new tokens")
