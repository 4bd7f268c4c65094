"""A daemon that only goes on: what it holds, looked at every ten seconds, told every minute, and judged at the end."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from weighing.serving import served

SAMPLE_S = 10.0
TOLD_S = 60.0
SCHEDULES = ("10s", "15s", "20s", "30s", "45s", "1m", "2m", "5m", "10m", "30m")
PIPELINES = 5
MOST_RSS = 1.10
MOST_MORE_KIB = 8 * 1024
MOST_MORE = 2
RULE = (
    f"of the second and the last quarter of all samples, the median of RSS may grow by {MOST_RSS - 1:.0%} or "
    f"{MOST_MORE_KIB // 1024} MiB, whichever is more, those of descriptors and threads by {MOST_MORE}"
)


class Sample(NamedTuple):
    """What a process holds and has used: `cpu_s` since its start."""

    rss_kib: int
    cpu_s: float
    descriptors: int
    threads: int


def sample(pid: int) -> Sample:
    """The process as it is, by what the kernel says. OSError where it is gone."""
    place = Path(f"/proc/{pid}")
    lines = (place / "status").read_text(encoding="utf-8").splitlines()
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    used = (place / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return Sample(
        rss_kib=int(status["VmRSS"].split()[0]),
        cpu_s=(int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK"),
        descriptors=len(list((place / "fd").iterdir())),
        threads=int(status["Threads"]),
    )


def grown(samples: Sequence[Sample]) -> list[str]:
    """What grew more than the rule allows; the first quarter is the warm-up."""
    quarter = len(samples) // 4
    if not quarter:
        return ["too few samples to judge by: give it more time"]
    before, after = samples[quarter : 2 * quarter], samples[-quarter:]
    found = []
    for name in ("rss_kib", "descriptors", "threads"):
        was, now = (statistics.median(getattr(one, name) for one in part) for part in (before, after))
        most = max(was * MOST_RSS, was + MOST_MORE_KIB) if name == "rss_kib" else was + MOST_MORE
        if now > most:
            found.append(f"{name} grew from {was:.0f} to {now:.0f}")
    return found


def told(samples: Sequence[Sample], seconds: float, runs: int) -> str:
    """A line about the samples of a minute."""
    last = samples[-1]
    cpu = (last.cpu_s - samples[0].cpu_s) / max((len(samples) - 1) * SAMPLE_S, SAMPLE_S)
    rss = statistics.median(one.rss_kib for one in samples) / 1024
    held = f"{last.descriptors} descriptors, {last.threads} threads, {runs} runs kept"
    return f"{seconds / 60:5.0f} min: RSS {rss:.1f} MiB, CPU {cpu:.1%}, {held}"


def kept(runs: Path) -> int:
    """How many runs there are; none before the first."""
    return sum(1 for _ in runs.iterdir()) if runs.is_dir() else 0


def files() -> dict[str, str]:
    """Pipelines with schedules of seconds to an hour's half, whose tasks are a command and a call."""
    found = {"steps.py": "def work():\n    return 1\n"}
    for number in range(PIPELINES):
        every = "".join(f"  - {{name: s{i}, every: {period}}}\n" for i, period in enumerate(SCHEDULES))
        tasks = "  say: {run: 'true', cache: false}\n  work: {call: 'steps:work', needs: [say]}\n"
        found[f"soak{number}.yaml"] = f"name: soak{number}\nschedule:\n{every}tasks:\n{tasks}"
    return found


def watch(process: subprocess.Popen[bytes], runs: Path, seconds: float) -> list[Sample]:
    """The samples of so long, each on time; ends early where the process does."""
    began, samples = time.monotonic(), list[Sample]()
    every = round(TOLD_S / SAMPLE_S)
    while (due := (len(samples) + 1) * SAMPLE_S) <= seconds:
        time.sleep(max(began + due - time.monotonic(), 0))
        if process.poll() is not None:
            break
        samples.append(sample(process.pid))
        if len(samples) % every == 0:
            print(told(samples[-every - 1 :], due, kept(runs)), flush=True)
    return samples


def main() -> int:
    """0 where nothing grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--for", dest="seconds", type=float, required=True)
    options = parser.parse_args()
    with served(files()) as here:
        samples = watch(here.process, here.folder / ".flowd" / "runs", options.seconds)
        ended, runs = here.process.poll(), kept(here.folder / ".flowd" / "runs")
    problems = grown(samples) if ended is None else [f"the daemon has ended, with {ended}"]
    if not runs:
        problems.append("it has begun no run: there was nothing to weigh")
    print(f"rule: {RULE}")
    print("verdict: " + ("; ".join(problems) if problems else "nothing grew"))
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
