"""Canaries: tasks print, log, raise and return secrets in every form, and nothing that was written holds any."""

from __future__ import annotations

import base64
import json
import os
import shlex
import textwrap
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest

from flowd_process import Ended, Place, end_of, until

PLAIN = "canary/Sin+gs 'loud' \"&\" $pays\\"
FILE = "-----BEGIN BIRD-----\nyellow/canary+feathers==\n  second: yellow canary\n-----END BIRD-----"
COMMAND = "canary-from-the-vault-4711"
SECRETS = (PLAIN, FILE, COMMAND)

STEPS = textwrap.dedent(
    r"""
    import base64, json, os, shlex, signal, sys, time
    from urllib.parse import quote, quote_plus

    def forms(token):
        data = token.encode()
        found = [token, repr(token), json.dumps(token), quote(token, safe=""), quote_plus(token), shlex.quote(token)]
        found += [base64.b64encode(b"x" * n + data + b"y").decode() for n in range(3)]
        found += [base64.urlsafe_b64encode(data).decode(), data.hex(), data.hex().upper(), *token.splitlines()]
        return found

    def tell(ctx, token):
        for form in forms(token):
            print("out", form, flush=True)
            print("err", form, file=sys.stderr, flush=True)
            sys.stdout.write("cut " + form[: len(form) // 2]); sys.stdout.flush()
            time.sleep(0.01)
            sys.stdout.write(form[len(form) // 2 :] + "\n"); sys.stdout.flush()
            ctx.log.warning("logged " + form, form=form, deep={form: [form]}, raw=form.encode())
        ctx.metric("metric " + token, 1.5)
        ctx.progress(1, 2)
        try:
            raise KeyError(token)
        except KeyError:
            ctx.log.exception("caught")

    def give(ctx, tokens):
        for token in tokens:
            tell(ctx, token)
        return {"forms": [forms(token) for token in tokens], tokens[0]: 1}

    async def give_async(ctx, tokens):
        return give(ctx, tokens)

    def listed(ctx, tokens):
        return [tokens[0] + "!", {"deep": tokens[1]}, tokens[2]]

    def fail(ctx, tokens):
        try:
            raise KeyError(tokens[0])
        except KeyError as error:
            error.add_note("noted " + tokens[1])
            raise ValueError("x" * 1980 + " ".join(forms(tokens[0])) + "y" * 9000 + tokens[0]) from error

    async def fail_async(ctx, tokens):
        fail(ctx, tokens)

    def leave(ctx, tokens):
        sys.exit("left with " + tokens[0])

    def pickled(ctx, tokens):
        return {1: tokens}

    async def spawn(ctx, tokens):
        await ctx.spawn("sh", "-c", 'printenv; echo "$A" >&2; exit 3', env={"A": tokens[0], "B": tokens[1]})

    def die(ctx, tokens):
        if ctx.attempt == 1:
            tell(ctx, tokens[0])
            os.kill(os.getpid(), signal.SIGKILL)
        return tokens

    def kill_flowd(ctx, tokens):
        if os.path.exists("killed"):
            return tokens
        tell(ctx, tokens[2])
        while not (os.path.exists("reported") and time.sleep(0.3) is None):
            time.sleep(0.01)
        open("killed", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    """
)
SHELL = textwrap.dedent(
    """\
    printenv
    set -x; : "$A"; set +x
    for v in "$A" "$B" "$C"; do
      echo "$v"; echo "$v" >&2; printf %s "$v" | base64; printf 'u%s' "$v" | base64; printf 'uu%s' "$v" | base64
      printf %s "$v" | od -An -v -tx1 | tr -d ' \\n'; echo
      python3 -c 'import sys, time
    for letter in sys.argv[1] + "!": time.sleep(0.001); print(letter, end="", flush=True)' "$v"; echo
    done
    echo 'rows=3' > "$FLOWD_METRICS"
    python3 -c 'import json, os; print(json.dumps([os.environ[n] for n in "ABC"]))' > "$FLOWD_RESULT"
    """
)
ENV = {"A": "{{ secrets.PLAIN }}", "B": "{{ secrets.FILE }}", "C": "{{ secrets.VAULT }}"}
WITH = {"tokens": ["{{ secrets.PLAIN }}", "{{ secrets.FILE }}", "{{ secrets.VAULT }}"]}


def readings() -> Iterator[tuple[str, bytes]]:
    """Every text in which one of the secrets could be read, made without flowd's help."""
    for number, secret in enumerate(SECRETS):
        for text in (secret, *secret.splitlines()):
            shown = {
                text,
                repr(text)[1:-1],
                json.dumps(text)[1:-1],
                quote(text, safe=""),
                quote_plus(text),
                shlex.quote(text),
            }
            yield from ((f"{number} {one}", one.encode()) for one in shown)
        if "\n" not in secret:
            yield f"{number} begun", secret[:14].encode()
            yield f"{number} ended", secret[-14:].encode()
        data = secret.encode()
        yield f"{number} hex", data.hex().encode()
        yield f"{number} HEX", data.hex().upper().encode()
        for before in range(3):
            code = base64.b64encode(b"u" * before + data)[4:-4]
            yield f"{number} base64+{before}", code[:40]
            yield f"{number} urlsafe+{before}", code[:40].translate(bytes.maketrans(b"+/", b"-_"))


def leaks(here: Place, *ended: Ended) -> list[tuple[str, str]]:
    """Where any of them can be read: in the state directory, the log file, and what commands printed."""
    texts = {
        f"{number} {name}": stream.encode()
        for number, one in enumerate(ended)
        for name, stream in one._asdict().items()
        if name != "code"
    }
    for path in [*here.state.rglob("*"), *here.folder.glob("*.log")]:
        if path.is_file():
            texts[str(path.relative_to(here.folder))] = path.read_bytes() + os.fsencode(path.name)
    assert any(name.endswith(".jsonl") for name in texts)
    return [(where, what) for where, text in texts.items() for what, form in readings() if form in text]


@pytest.fixture
def aviary(here: Place) -> Place:
    """The steps, the file and the vault."""
    here.write("steps.py", STEPS)
    here.write("bird.txt", FILE + "\n")
    here.write("vault.txt", COMMAND)
    return here


SOURCES = {"PLAIN": {"env": "CANARY"}, "FILE": {"file": "bird.txt"}, "VAULT": {"command": ["cat", "vault.txt"]}}
LOG = {"file": "{{ task }}.log", "level": "debug"}


def pipeline(here: Place, tasks: dict) -> None:
    """A pipeline of these tasks, each given the secrets."""
    made = {name: ({"env": ENV} if "run" in task else {"with": WITH}) | task for name, task in tasks.items()}
    here.pipeline(made, secrets=SOURCES, log=LOG)


EVERYWHERE = {
    "async": {"call": "steps:give_async"},
    "thread": {"call": "steps:give"},
    "process": {"call": "steps:give", "executor": "process"},
    "shell": {"run": SHELL},
    "argv": {"run": ["sh", "-c", 'echo "$A$B$C"; echo "$C" >&2; exit 7']},
    "fail_async": {"call": "steps:fail_async"},
    "fail_thread": {"call": "steps:fail"},
    "fail_process": {"call": "steps:fail", "executor": "process"},
    "leave_thread": {"call": "steps:leave"},
    "leave_process": {"call": "steps:leave", "executor": "process"},
    "pickled": {"call": "steps:pickled"},
    "pickled_process": {"call": "steps:pickled", "executor": "process"},
    "spawn": {"call": "steps:spawn"},
    "die": {"call": "steps:die", "executor": "process", "retry": {"attempts": 2, "delay": "0s"}},
    "bad_metric": {"run": 'echo "$A=1" > "$FLOWD_METRICS"'},
    "bad_result": {"run": 'echo "$A" > "$FLOWD_RESULT"'},
    "late": {"run": 'echo "$B"; sleep 30', "timeout": "500ms", "grace": "100ms"},
}


@pytest.mark.parametrize("wish", ["", "--json", "--events"])
def test_every_executor_sings_in_vain(aviary: Place, wish: str) -> None:
    """All forms, in prints, logs, metrics, errors and results, of all three sources."""
    pipeline(aviary, EVERYWHERE)
    words = ["--log-format", "json"] if wish == "--events" else []
    ended = aviary.run("run", *filter(None, [wish]), *words, env={"CANARY": PLAIN})
    assert ended.code == 1, ended.said
    commands = "show --json", "show", "show --resolved", "events --json", "logs last", "doctor", "plan"
    reads = [aviary.run(*command.split(), env={"CANARY": PLAIN}) for command in commands]
    assert leaks(aviary, ended, *reads) == []
    shown = json.loads(reads[0].out)
    states = {name: task["state"] for name, task in shown["tasks"].items()}
    well = {"async", "thread", "process", "shell", "die"}
    assert states == {name: "succeeded" if name in well else "failed" for name in EVERYWHERE} | {"late": "timed_out"}
    assert [warning for warning in shown["warnings"] if "secret_redacted" in warning]
    assert shown["tasks"]["shell"]["result"] == ["***", "***", "***"]
    logs = [path.read_text() for path in aviary.state.rglob("*.log")]
    assert sum(text.count("***") for text in logs) > 100


def test_nothing_is_left_by_a_crash(aviary: Place) -> None:
    """flowd is killed while a command has written its result, secrets and all; then the run goes on."""
    writes = 'echo "$C" > "$FLOWD_RESULT"; echo "$A" > "$FLOWD_METRICS"; echo "$B"; printf %s "${A%?}"'
    report = f"{writes}; touch reported; sleep 30"
    pipeline(
        aviary,
        {
            "killer": {"call": "steps:kill_flowd"},
            "reporter": {"run": f"test -e killed || {{ {report}; }}"},
            "after": {"run": SHELL, "needs": ["killer", "reporter"]},
        },
    )
    first = end_of(aviary.begin("run", "--run-id", "r", env={"CANARY": PLAIN}))
    assert first.code == -9, first.said
    reports = "runs/*/logs/*.result", "runs/*/logs/*.metrics"
    until(lambda: not [path for pattern in reports for path in aviary.state.glob(pattern)])  # the guardian's last act
    assert leaks(aviary, first) == []
    logs = next(aviary.state.glob("runs/*/logs"))
    (logs / "reporter.1.result").write_text(COMMAND)  # as where the guardian is killed, too
    unset = aviary.run("resume", "r")
    assert (unset.code, "the environment variable CANARY is not set" in unset.err) == (2, True), unset.said
    again = aviary.ok("resume", "r", "--json", env={"CANARY": PLAIN})
    assert leaks(aviary, first, unset, again) == []
    assert again.document["tasks"]["after"]["result"] == ["***", "***", "***"]
    assert not [*aviary.state.rglob("*.result"), *aviary.state.rglob("*.metrics")]


def test_a_short_one_is_refused_by_validate(aviary: Place) -> None:
    """It could not be told from any other text; one that is not set may be set elsewhere."""
    pipeline(aviary, {"a": {"run": "true"}})
    assert aviary.ok("validate", "pipeline.yaml").out
    refused = aviary.run("validate", "pipeline.yaml", env={"CANARY": "abc"})
    assert refused.code == 2
    assert "secrets.PLAIN  secret PLAIN: the environment variable CANARY has fewer than 4 characters" in refused.err
    assert "abc" not in refused.said
    assert aviary.run("run", env={"CANARY": "abc"}).code == 2


READS_ANSWERS = "echo {{ default(approval.comment, '') }} {{ approval.note }} {{ default(rejection.comment, '') }}"
ASKING = {
    "made": {"call": "steps:give", "with": WITH},
    "listed": {"call": "steps:listed", "with": WITH},
    "each": {
        "run": 'echo {{ item }}; echo "$A $C"; exit 3',
        "env": ENV,
        "foreach": "tasks.listed.result",
        "needs": ["listed"],
        "allow_failure": True,
    },
    "gated": {
        "run": 'printf %s "\\"$C\\"" > "$FLOWD_RESULT"',
        "env": ENV,
        "gate": [f"result == '{COMMAND[:7]}'"],
        "allow_failure": True,
    },
    "asked": {
        "run": READS_ANSWERS,
        "needs": ["made", "each", "gated"],
        "approve": {"message": "Go on with {{ tasks.made.result }}?", "form": {"note": ""}},
    },
    "sign": {"approve": {"message": "sign?"}, "needs": ["asked"]},
}


@pytest.mark.parametrize("owned", [False, True], ids=["nobody owns it", "its owner lives"])
def test_what_a_person_types(aviary: Place, *, owned: bool) -> None:
    """Comments, fields and reasons hold the secrets, and questions, gates and lists what tasks made of them."""
    stays = {"stays": {"run": "sleep 600"}} if owned else {}
    aviary.pipeline(ASKING | stays, secrets=SOURCES, log=LOG)
    env, typed = {"CANARY": PLAIN}, " and ".join(SECRETS)
    said, living = [], None
    if owned:
        living = aviary.begin("run", "--run-id", "r", "--no-input", env=env)
    else:
        said.append(aviary.run("run", "--run-id", "r", "--no-input", env=env))
    for task, *command in (
        ("asked", "approve", "r", "asked", "--comment", typed, "--set", f"note={typed}"),
        ("sign", "reject", "r", "sign", "--comment", typed, "--back-to", "asked"),
        ("asked", "approve", "r", "asked", "--comment", typed),
        ("sign", "cancel", "r", "--reason", typed),
    ):
        until(lambda task=task: _waits(aviary, task))
        said.append(aviary.run(*command, env=env))
        assert said[-1].code in {0, 3}, said[-1].said
    if living is not None:
        said.append(end_of(living))
    words = ("show r --json", "show r", "events r", "logs r asked", "why r sign")
    reads = [aviary.run(*one.split()) for one in words]
    assert leaks(aviary, *said, *reads) == []
    assert aviary.journal().read_text().count("*** and *** and ***") >= 5


def _waits(here: Place, task: str) -> bool:
    shown = here.run("show", "r", "--json")  # refused as long as the run is not there, without tasks until it has begun
    return shown.code == 0 and shown.document["tasks"].get(task, {}).get("state") == "waiting"
