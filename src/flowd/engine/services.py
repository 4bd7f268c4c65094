"""What the engine's rooms share: the ports it was given and the few things it has one of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import anyio
import msgspec

from flowd.core.events import Error
from flowd.core.limits import Admission
from flowd.core.secrecy import Secrecy
from flowd.core.spec import Definition
from flowd.engine.sharing import Sharing
from flowd.engine.timers import Timers
from flowd.ports.clock import Clock
from flowd.ports.executor import Executor
from flowd.ports.follower import Follower
from flowd.ports.inbox import Inbox
from flowd.ports.journal import Journal
from flowd.ports.lock_table import LockTable
from flowd.ports.neighbours import Neighbours, NoNeighbours
from flowd.ports.secrets import Secrets
from flowd.ports.stores import Checkpoints, Results, Shelf

FollowerFactory = Callable[[str, Path, Definition], Sequence[Follower]]
"""Makes the followers of one run, given its id, its folder and what it goes on with."""


class Adapters(msgspec.Struct, kw_only=True, eq=False):
    """The outside world as one engine sees it; wiring fills it in.

    `describe(failure, folder, hide)` puts an exception of the user's code into words, each through `hide`;
    `key(name, folder)` names a pipeline among the checkpoints; `run_folder(run)` is where a
    run's logs go; `runs` names all runs, newest first; `end_leftovers` ends what processes
    earlier owners of these incarnations have left; `keeps_times(path)`: whether the kernel alone
    sets the times of a file there. `neighbours` are the runs of others; `secrecy` the secrets that
    this engine has read.
    """

    clock: Clock
    journal: Journal
    checkpoints: Checkpoints
    results: Results
    shelf: Shelf
    secrets: Secrets
    inbox: Inbox
    locks: LockTable
    executors: Mapping[str, Executor]
    describe: Callable[[BaseException, Path, Callable[[str], str]], Error]
    key: Callable[[str, Path], str]
    run_folder: Callable[[str], Path]
    followers: FollowerFactory
    runs: Callable[[], list[str]]
    end_leftovers: Callable[[Sequence[str]], Awaitable[None]]
    keeps_times: Callable[[str], bool]
    state_dir: str
    owner: str
    neighbours: Neighbours = msgspec.field(default_factory=NoNeighbours)
    secrecy: Secrecy = msgspec.field(default_factory=Secrecy)


class Services(msgspec.Struct, kw_only=True, eq=False):
    """The adapters, with what all runs of one engine share.

    `threads` bounds the engine's own blocking calls, apart from those of the host's tasks. `away`: for as
    long as an attempt does nothing but wait for others, it is not counted. `patient`: a run that only
    waits for people stays with its driver. `fleet` are the runs that go on here.
    """

    adapters: Adapters
    timers: Timers
    admission: Admission[Hashable]
    sharing: Sharing
    wake: Callable[[int], None]
    threads: anyio.CapacityLimiter
    away: Callable[[], AbstractContextManager[None]]
    patient: bool = False
    fleet: Any = None
