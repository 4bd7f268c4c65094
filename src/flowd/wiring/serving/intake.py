"""The API of a daemon: the application behind its gate, on an address. Needs the extra `serve`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, closing
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowd.adapters.audit import FileAudit
from flowd.adapters.tokens import FILE, FileTokens, first_token
from flowd.core.errors import BadRequest
from flowd.core.settings import Settings
from flowd.daemon.control import Control
from flowd.daemon.feed import Feed
from flowd.daemon.webhooks import Webhooks
from flowd.ports.clock import Clock

if TYPE_CHECKING:
    from flowd.daemon.metrics import Metrics

_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  # what is asked for by a word of its own


_HOOKS = "/hooks/"


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
    """What is served, where; `told` is called with the address once it is."""

    def __init__(
        self,
        settings: Settings,
        state_dir: Path,
        folder: Path,
        clock: Clock,
        told: Callable[[str, str | None], None],
    ) -> None:
        self._settings = settings
        self._state_dir = state_dir
        self._folder = folder
        self._clock = clock
        self._told = told
        path = settings.tokens_file
        self.tokens = FileTokens(Path(path) if path is not None else folder / FILE)

    @asynccontextmanager
    async def serving(
        self,
        control: Control,
        feed: Feed,
        metrics: Metrics,
        webhooks: Webhooks,
        *,
        status: Callable[[], Mapping[str, Any]],
        ready: Callable[[], bool],
    ) -> AsyncIterator[None]:
        """Serve within. BadRequest where the address cannot be had, or its certificate is no use."""
        from flowd.daemon.http.app import create_app
        from flowd.daemon.http.gate import Gate
        from flowd.daemon.http.hooks import hooks_router
        from flowd.daemon.http.server import listening, serving

        settings = self._settings

        def is_signed_hook(path: str) -> bool:
            return path.startswith(_HOOKS) and webhooks.is_signed(path.removeprefix(_HOOKS))

        is_new = not self.tokens.all()
        token = first_token(self._state_dir, self.tokens, self._clock.now())
        app = create_app(
            control,
            feed,
            lambda: dict(status()),
            ready=ready,
            metrics=metrics.text,
            version=version("flowd"),
            more=[hooks_router(webhooks)],
        )
        bound = listening(settings.listen)
        host, port = bound.getsockname()[:2]
        with closing(FileAudit(self._folder)) as audit:
            gate = Gate(app, self.tokens, audit, self._clock, hosts=_names(settings), is_open=is_signed_hook)
            async with serving(gate, bound, tls=settings.tls, closing=feed.close):
                url = settings.url or _url(settings, str(host), port)
                self._told(url, token if is_new else None)
                yield


def _names(settings: Settings) -> Collection[str]:
    """The names by which it may be asked."""
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
