"""The API of a daemon: the application behind its gate, on an address. Needs the extra `serve`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, closing
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flowd.adapters.audit import FileAudit
from flowd.adapters.tokens import FILE, FileTokens, first_token
from flowd.core.access import LINKS
from flowd.core.errors import BadRequest
from flowd.core.settings import Settings
from flowd.daemon.control import Control
from flowd.daemon.feed import Feed
from flowd.daemon.notices import Notices
from flowd.daemon.webhooks import Webhooks
from flowd.ports.clock import Clock

if TYPE_CHECKING:
    from flowd.daemon.metrics import Metrics

_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  # what is asked for by a word of its own


_HOOKS = "/hooks/"


class Reached(NamedTuple):
    """The parts of a daemon that requests reach."""

    control: Control
    feed: Feed
    metrics: Metrics
    webhooks: Webhooks
    notices: Notices


def has_server() -> bool:
    """Whether the extra is there."""
    try:
        import fastapi
        import prometheus_client
        import uvicorn
    except ImportError:
        return False
    return all((fastapi, prometheus_client, uvicorn))


class Intake:
    """What is served, where: the address is had at once. BadRequest where it cannot be had."""

    def __init__(self, settings: Settings, state_dir: Path, folder: Path, clock: Clock) -> None:
        from flowd.daemon.http.server import check_tls, listening

        self._settings = settings
        self._state_dir = state_dir
        self._folder = folder
        self._clock = clock
        check_tls(settings.tls)
        path = settings.tokens_file
        self._tokens = FileTokens(Path(path) if path is not None else folder / FILE)
        self._bound = listening(settings.listen)
        host, port = self._bound.getsockname()[:2]
        self.url = settings.url or _url(settings, str(host), port)

    def close(self) -> None:
        """Let the address go."""
        self._bound.close()

    @asynccontextmanager
    async def serving(
        self,
        reached: Reached,
        *,
        status: Callable[[], Mapping[str, Any]],
        ready: Callable[[], bool],
        told: Callable[[str, str | None], None],
    ) -> AsyncIterator[None]:
        """Serve within; `told` is called with the address, and the word of a link where there is one."""
        from flowd.daemon.http.app import create_app
        from flowd.daemon.http.gate import Gate
        from flowd.daemon.http.hooks import hooks_router
        from flowd.daemon.http.links import links_router
        from flowd.daemon.http.server import serving
        from flowd.daemon.http.sessions import Sessions

        sessions = Sessions(self._clock)
        token = first_token(self._state_dir, self._tokens, self._clock.now())
        holder = self._tokens.caller(token, self._clock.now()) if token is not None else None
        app = create_app(
            reached.control,
            reached.feed,
            lambda: dict(status()),
            reached.notices.document,
            ready=ready,
            metrics=reached.metrics.text,
            version=version("flowd"),
            more=[hooks_router(reached.webhooks), links_router(reached.notices.links, reached.control, self._clock)],
        )

        def is_open(path: str) -> bool:
            hook = path.removeprefix(_HOOKS)
            return path.startswith(LINKS) or (path != hook and reached.webhooks.is_signed(hook))

        with closing(FileAudit(self._folder)) as audit:
            names = _names(self._settings)
            gate = Gate(app, self._tokens, audit, self._clock, hosts=names, is_open=is_open, sessions=sessions)
            async with serving(gate, self._bound, tls=self._settings.tls, closing=reached.feed.close):
                told(self.url, sessions.invite(holder.token) if holder is not None else None)
                yield


def _names(settings: Settings) -> Collection[str]:
    """The names by which it may be reached."""
    from urllib.parse import urlsplit

    own = urlsplit(settings.url).hostname if settings.url is not None else None
    return {name for name in (*settings.hosts, settings.listen.host, own) if name and name not in _EVERYWHERE}


def _url(settings: Settings, host: str, port: int) -> str:
    scheme = "https" if settings.tls is not None else "http"
    shown = "127.0.0.1" if host in _EVERYWHERE else host
    return f"{scheme}://[{shown}]:{port}" if ":" in shown else f"{scheme}://{shown}:{port}"


def check_server() -> None:
    """BadRequest where the extra is missing."""
    if not has_server():
        raise BadRequest("the daemon needs more than flowd alone: pip install 'flowd[serve]'")
