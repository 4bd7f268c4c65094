"""`flowd serve` as a process: begun, listened to, ended."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

from flowd_process import Ended, Place, end_of, until

SERVES = "flowd serves at"


def serve(here: Place, *, config: str = "", env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a daemon in this folder, on a free port; it serves by now."""
    here.write("flowd.yaml", f'listen: "127.0.0.1:0"\n{config}')
    told = said(here).count(SERVES)
    with (here.folder / "err").open("a") as err:
        process = here.begin("serve", env=env, stdout=subprocess.DEVNULL, stderr=err)
    until(lambda: process.poll() is not None or said(here).count(SERVES) > told)
    assert process.poll() is None, said(here)
    return process


def said(here: Place) -> str:
    """What all of its daemons have written on stderr."""
    return "\n".join(here.lines("err"))


def facts(here: Place, kind: str) -> list[dict[str, Any]]:
    """What it has decided, of one kind."""
    lines = (here.state / "daemon" / "agenda.jsonl").read_text().splitlines()
    return [fact for line in lines if (fact := json.loads(line.partition(" ")[2]))["fact"] == kind]


def stop(process: subprocess.Popen[str]) -> Ended:
    """Have it end as a service manager does."""
    process.send_signal(signal.SIGTERM)
    return end_of(process)
