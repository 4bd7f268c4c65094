"""Secrets from the environment, from files, from commands and from the system's keyring.

A value leaves here to whoever asked, and is in no message: of what a command says in vain
nothing is told, since it may be the secret itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from flowd.adapters import disk
from flowd.core.errors import StateDamaged
from flowd.core.secrecy import SHORTEST
from flowd.core.spec import Secret
from flowd.ports.secrets import SecretMissing

PATIENCE = 30.0
"""Seconds that a command or a keyring has."""

_MOST = 64 << 10


class SecretReader:
    """Reads each secret anew, each time it is asked for; `mark` is put on the processes that it begins."""

    def __init__(self, mark: tuple[str, str] | None = None, *, patience: float = PATIENCE) -> None:
        self._mark = dict([mark]) if mark is not None else {}
        self._patience = patience
        self._threads: anyio.CapacityLimiter | None = None

    def glance(self, name: str, secret: Secret, folder: Path) -> str | None:
        """The value of what is in the environment or in a file; None for a command and a keyring."""
        if secret.env is not None:
            return _from_env(name, secret.env)
        if secret.file is not None:
            return _from_file(name, folder / os.path.expanduser(secret.file))
        return None

    async def read(self, name: str, secret: Secret, folder: Path) -> str:
        """The value, as it is now. What blocks does so in a thread, for `patience` at most."""
        if secret.env is not None:
            return _from_env(name, secret.env)
        if secret.command is not None:
            call = _Command(name, secret.command, folder, self._mark)
            return await self._in_thread(name, "its command", call, call.stop)
        if secret.keyring is not None:
            service, user = secret.keyring, secret.user or name
            return await self._in_thread(name, "the keyring", lambda: _from_keyring(name, service, user))
        return await self._in_thread(name, "its file", lambda: self.glance(name, secret, folder) or "")

    async def _in_thread(
        self, name: str, what: str, call: Callable[[], str], stop: Callable[[], object] = lambda: None
    ) -> str:
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(4)
        try:
            with anyio.fail_after(self._patience):
                return await anyio.to_thread.run_sync(call, limiter=self._threads, abandon_on_cancel=True)
        except TimeoutError:
            raise SecretMissing(f"secret {name}: {what} gave nothing within {self._patience:g}s") from None
        finally:
            stop()


def _from_env(name: str, variable: str) -> str:
    value = os.environ.get(variable)
    if value is None:
        raise SecretMissing(f"secret {name}: the environment variable {variable} is not set")
    return _checked(name, value, f"the environment variable {variable}")


def _from_file(name: str, path: Path) -> str:
    try:
        with open(disk.open_regular(path), "rb") as file:
            data = file.read(_MOST + 1)
    except StateDamaged:
        raise SecretMissing(f"secret {name}: {path} is no regular file") from None
    except OSError as error:
        raise SecretMissing(f"secret {name}: {path} cannot be read: {error.strerror or error}") from None
    return _decoded(name, data, str(path))


def _from_keyring(name: str, service: str, user: str) -> str:
    where = f"the keyring, under service {service} for user {user}"
    try:
        import keyring
    except ImportError:
        raise SecretMissing(
            f"secret {name}: {where}, takes the library keyring, which is not installed; pip install 'flowd[keyring]'"
        ) from None
    try:
        value: Any = keyring.get_password(service, user)
    except Exception as error:  # noqa: BLE001  # each system's keyring raises what it likes
        raise SecretMissing(f"secret {name}: {where}, cannot be asked: {type(error).__name__}") from None
    if not isinstance(value, str):
        raise SecretMissing(f"secret {name}: {where}, has none; put it there: keyring set {service} {user}")
    return _checked(name, value, where)


class _Command:
    """A program whose output is the secret; in a session of its own, of which `stop` leaves nothing."""

    def __init__(self, name: str, argv: Sequence[str], folder: Path, mark: dict[str, str]) -> None:
        self._name = name
        self._argv = argv
        self._folder = folder
        self._mark = mark
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def __call__(self) -> str:
        where = f"its command {self._argv[0]}"
        try:
            process = self._process = subprocess.Popen(
                self._argv,
                cwd=self._folder,
                env={**os.environ, **self._mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise SecretMissing(f"secret {self._name}: {where} cannot be run: {error.strerror or error}") from None
        if self._stopped:
            self.stop()
        with process:
            assert process.stdout is not None
            data = process.stdout.read(_MOST + 1)
            if len(data) > _MOST:
                self.stop()
        if process.returncode and len(data) <= _MOST:
            how = f"exit code {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
            raise SecretMissing(f"secret {self._name}: {where} ended with {how}; run it by hand to see why")
        return _decoded(self._name, data, where)

    def stop(self) -> None:
        """End it, if it goes on."""
        self._stopped = True
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _decoded(name: str, data: bytes, where: str) -> str:
    if len(data) > _MOST:
        raise SecretMissing(f"secret {name}: {where} gives more than {_MOST} bytes, which is no secret", unusable=True)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise SecretMissing(f"secret {name}: {where} gives no text in UTF-8", unusable=True) from None
    return _checked(name, text.rstrip("\r\n"), where)


def _checked(name: str, value: str, where: str) -> str:
    """`value` if it can be passed on and kept out of what is written."""
    if not value.strip():
        raise SecretMissing(f"secret {name}: {where} is empty")
    if len(value.strip()) < SHORTEST:
        raise SecretMissing(
            f"secret {name}: {where} has fewer than {SHORTEST} characters, which cannot be kept out of the logs; "
            "use a longer one",
            unusable=True,
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SecretMissing(f"secret {name}: {where} gives no text in UTF-8", unusable=True) from None
    if "\0" in value:
        raise SecretMissing(f"secret {name}: {where} holds a NUL character, which no variable can", unusable=True)
    return value
