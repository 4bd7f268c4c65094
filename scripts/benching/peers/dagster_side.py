"""Dagster: a job of ops in this process, its events in sqlite."""

from __future__ import annotations

import logging
import os
from typing import Any

from benching.clock import Clock
from benching.peers.telling import asked, tell


def main() -> None:
    """Warm up, then time."""
    what = asked()
    os.environ |= {"DAGSTER_HOME": str(what.place), "DAGSTER_DISABLE_TELEMETRY": "1"}
    from dagster import DagsterInstance, In, Nothing, Out, job, op

    logging.disable(logging.CRITICAL)

    @op(out=Out(Nothing))
    def first() -> None: ...

    @op(ins={"start": In(Nothing)})
    def then() -> None: ...

    def made(tasks: int) -> Any:
        @job(name=f"bench{tasks}")
        def bench() -> None:
            start = first()
            for number in range(tasks - 1):
                then.alias(f"t{number}")(start)

        return bench

    instance = DagsterInstance.local_temp(str(what.place))
    made(5).execute_in_process(instance=instance)
    whole = made(what.tasks)
    clock = Clock()
    if not whole.execute_in_process(instance=instance).success:
        raise RuntimeError("dagster did not succeed")
    tell(clock)


if __name__ == "__main__":
    main()
