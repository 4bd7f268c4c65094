"""What a daemon is told by its configuration: frozen data, paths absolute."""

from __future__ import annotations

from typing import Final

from flowd.core.declared import Notify, Retention
from flowd.core.frozen import Spec

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8470


class Listen(Spec, frozen=True, kw_only=True):
    """Where the API is served: `port` 0 takes a free one."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Tls(Spec, frozen=True, kw_only=True):
    """A certificate, with those above it, and its key: paths of PEM files."""

    cert: str
    key: str


class DaemonLog(Spec, frozen=True, kw_only=True):
    """Where the daemon's own lines go: stderr, and `file`, begun anew at `size` bytes with `keep` older ones."""

    file: str | None = None
    format: str = "console"
    level: str = "info"
    size: int = 10_000_000
    keep: int = 5


class Settings(Spec, frozen=True, kw_only=True):
    """All that a configuration says; what is None is left to the command that starts the daemon.

    `pipelines` are globs of pipeline files; with none, all that are found below `folder`. `limits` are
    capacities of the whole engine. `hosts` are names by which it may be asked besides its address, `url`
    how people reach it. `insecure` allows an address that others reach without TLS. `notify` is told of
    every pipeline, `private` names the networks and hosts of one's own to which notices may be posted.
    `retention` holds where a pipeline has none of its own.
    """

    file: str = ""
    folder: str = ""
    listen: Listen = Listen()
    state_dir: str | None = None
    pipelines: tuple[str, ...] = ()
    max_concurrency: int | None = None
    limits: dict[str, float] = {}
    tokens_file: str | None = None
    hosts: tuple[str, ...] = ()
    url: str | None = None
    insecure: bool = False
    tls: Tls | None = None
    log: DaemonLog = DaemonLog()
    notify: tuple[Notify, ...] = ()
    private: tuple[str, ...] = ()
    retention: Retention | None = None
    misfire_grace_s: float = 60.0
