"""Whether a service serves: asked over HTTP or TCP, of a file, of what it prints, or of a command."""

from __future__ import annotations

import re
import time
from pathlib import Path

import anyio
import anyio.to_thread

from flowd.adapters.executors.guardian import Command, Guardian
from flowd.adapters.executors.listeners import who_listens
from flowd.ports.executor import CommandFailed, Work

_PATIENCE_S = 5.0
"""How long one question waits for its answer, in seconds."""
_MOST_LOG = 4 << 20


class Probing:
    """The probe of one attempt of a service. An answer counts only where the service's own processes hold its port."""

    def __init__(self, work: Work, guardian: Guardian) -> None:
        assert work.task.service is not None
        self._work = work
        self._guardian = guardian
        self._probe = work.task.service.ready
        self._since = time.time()

    async def ask(self, pid: int) -> str | None:
        """What keeps the service, whose first process is `pid`, from being ready; None where nothing does."""
        with anyio.move_on_after(_PATIENCE_S) as scope:
            wrong = await self._ask()
            if wrong is None and self._work.port:
                wrong = await anyio.to_thread.run_sync(who_listens, self._work.port, pid)
        return f"no answer within {_PATIENCE_S:g}s" if scope.cancelled_caught else wrong

    async def _ask(self) -> str | None:
        probe, work = self._probe, self._work
        if probe.http is not None:
            url = probe.http if "://" in probe.http else f"http://127.0.0.1:{work.port}{probe.http}"
            return await anyio.to_thread.run_sync(_get, url, abandon_on_cancel=True)
        if probe.file is not None:
            return await anyio.to_thread.run_sync(self._file, work.folder / probe.file)
        if probe.log is not None:
            return await anyio.to_thread.run_sync(self._log, probe.log)
        if probe.command is not None:
            return await self._command()
        port = probe.tcp or work.port
        return await _connect(port) if port else None

    def _file(self, path: Path) -> str | None:
        try:
            written = path.stat().st_mtime
        except OSError:
            return f"{path} is not there"
        return None if written >= self._since else f"{path} was there before it began"

    def _log(self, pattern: str) -> str | None:
        try:
            with self._work.log.open("rb") as file:
                text = file.read(_MOST_LOG).decode("utf-8", "replace")
        except OSError:
            text = ""
        return None if re.search(pattern, text, re.MULTILINE) else f"it has printed nothing that fits {pattern!r}"

    async def _command(self) -> str | None:
        work, run = self._work, self._probe.command
        assert run is not None
        argv = run.argv or ("sh", "-e", "-c", run.text or "true")
        command = Command(argv=argv, cwd=work.cwd, log=Path("/dev/null"), env=work.env, grace=1.0)
        try:
            report = await self._guardian.run(command)
        except CommandFailed as error:
            return str(error)
        if report.exit_code == 0:
            return None
        how = f"was killed by {report.signal}" if report.signal else f"ended with {report.exit_code}"
        return f"its command {how}" + (f": {report.last_line}" if report.last_line else "")


def _get(url: str) -> str | None:
    import http.client
    import urllib.error
    import urllib.request

    own = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy stands before what runs here
    try:
        with own.open(url, timeout=_PATIENCE_S):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return f"GET {url}: status {error.code}"
    except http.client.HTTPException as error:
        return f"GET {url}: what answers speaks no HTTP ({type(error).__name__})"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        return f"GET {url}: {getattr(reason, 'strerror', None) or reason}"


async def _connect(port: int) -> str | None:
    try:
        stream = await anyio.connect_tcp("127.0.0.1", port)
    except OSError as error:
        return f"port {port}: {error.strerror or error}"
    await stream.aclose()
    return None
