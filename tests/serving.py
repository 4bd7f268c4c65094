"""A daemon in this process, served on a free port, and a client that has its first token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import msgspec

from flowd.core.settings import DaemonLog, Listen, Settings
from flowd.daemon.daemon import Daemon
from flowd.ports.clock import Clock
from flowd.wiring.serving.build import opened
from flowd.wiring.serving.logging import Outlet

ALONE = Settings()


class Here:
    """A daemon that serves, and a client with its first token."""

    def __init__(self, daemon: Daemon, client: httpx2.AsyncClient, folder: Path) -> None:
        self.daemon, self.client, self.folder = daemon, client, folder

    async def get(self, path: str, **more: Any) -> Any:
        answer = await self.client.get(path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        answer = await self.client.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def start(self, pipeline: str, **more: Any) -> str:
        return str((await self.post("/runs", {"pipeline": pipeline, **more}, 201))["run"])

    async def until(self, run: str, *states: str) -> Any:
        with anyio.fail_after(10):
            while (found := await self.get(f"/runs/{run}"))["state"] not in states:
                await anyio.sleep(0.02)
        return found


@asynccontextmanager
async def daemon(
    folder: Path, settings: Settings = ALONE, *, clock: Clock | None = None, **files: str
) -> AsyncIterator[Here]:
    """One that serves the pipelines of these files, NAME.yaml each; `settings` lack what is of this machine."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    outlet = Outlet(DaemonLog(file=str(folder / "daemon.log"), level="debug"))
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    chosen = msgspec.structs.replace(settings, folder=str(folder), listen=Listen(port=0))
    with outlet.open():
        async with (
            opened(chosen, folder / ".flowd", outlet, lambda url, _token: told.set_result(url), clock) as made,
            anyio.create_task_group() as group,
        ):
            group.start_soon(made.run)
            url = await told
            headers = {"Authorization": f"Bearer {(folder / '.flowd' / 'token').read_text().strip()}"}
            async with httpx2.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=10) as client:
                yield Here(made, client, folder)
            made.stop()
