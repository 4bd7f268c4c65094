"""Notices: whom a happening is told to, once, and in which words.

House rules of this room. A notice has an id that its run, what happened and the addressee give: whoever works out
again what is to be told finds the same ids, and what has been told is not told again. An addressee stands here as
it is written in the pipeline's file: `{{ secrets.NAME }}` is filled in where a notice is delivered, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import msgspec

from flowd.core.declared import Notify
from flowd.core.expressions import Expression, in_text, parse_template, references_of
from flowd.core.happenings import Happening
from flowd.core.printable import printable
from flowd.core.spec import Definition, PipelineSpec, Secret
from flowd.core.views import moment

OWNER: Final = "owner"
_MOST_SENTENCE: Final = 2_000


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One happening, as it is told to one addressee: `to` is a URL as it is written in the pipeline's file.

    `at` is when it happened; `asked` the number of the event by which a question was put that signed links may answer,
    `until` when an answer comes too late. `secrets` say where those are found that `to` names, relative to `folder`.
    `who` is what the addressee is called: an owner, or the scheme and host of the URL.
    """

    id: str
    to: str
    who: str
    happening: str
    pipeline: str
    run: str = ""
    task: str = ""
    tasks: tuple[str, ...] = ()
    state: str = ""
    at: datetime
    sentence: str
    next: tuple[str, ...] = ()
    asked: int = 0
    until: datetime | None = None
    folder: str = ""
    secrets: dict[str, Secret] = {}


def notice_id(run: str, kind: str, incident: str, to: str) -> str:
    """What a notice is known by; the same for the same happening and addressee."""
    return sha256(f"{run}\0{kind}\0{incident}\0{to}".encode()).hexdigest()[:32]


def notices_of(
    definition: Definition, run: str, happening: Happening, told: Callable[[str], bool] = lambda _id: False
) -> list[Notice]:
    """Who is told of it, each once; `told` says which notices there have been."""
    spec = definition.spec
    of = f"{definition.folder} {spec.name}" if happening.of_pipeline else run
    found = []
    for to, who in _addressees(spec, happening).items():
        if happening.follows and not told(notice_id(of, happening.addressed, happening.follows, to)):
            continue
        if happening.kind == "failed" and happening.by_name and _has_heard(spec, happening, to):
            continue
        found.append(
            Notice(
                id=notice_id(of, happening.kind, happening.incident, to),
                to=to,
                who=who,
                happening=happening.kind,
                pipeline=spec.name,
                run=run,
                task=happening.task,
                tasks=happening.tasks,
                state=happening.state,
                at=happening.at,
                sentence=happening.sentence[:_MOST_SENTENCE],
                next=happening.next,
                asked=happening.seq if happening.asked else 0,
                until=happening.until,
                folder=definition.folder,
                secrets={name: spec.secrets[name] for name in secrets_in(to) if name in spec.secrets},
            )
        )
    return found


def _addressees(spec: PipelineSpec, happening: Happening) -> dict[str, str]:
    """The URLs that are told, each with what it is called, in the order in which they are written."""
    found: dict[str, str] = {}
    word = happening.addressed or happening.kind
    owners = list(happening.default)
    for rule in spec.notify:
        for to in rule.to if word in rule.on else ():
            if to == OWNER:
                owners += happening.owner if happening.by_owner else ()
            elif not happening.by_name:
                continue
            elif ":" in to or "{{" in to:
                found.setdefault(to, shown(to))
            else:
                owners.append(to)
    for owner in owners:
        for to in spec.owners[owner].notify if owner in spec.owners else ():
            found[to] = owner
    return found


def also_told(definition: Definition, rules: Sequence[Notify]) -> Definition:
    """The same pipeline with the rules that hold for every one behind its own."""
    if not rules:
        return definition
    spec = msgspec.structs.replace(definition.spec, notify=(*definition.spec.notify, *rules))
    return msgspec.structs.replace(definition, spec=spec)


def tells_somebody(spec: PipelineSpec) -> bool:
    """Whether anything of this pipeline can be told to anybody."""
    return bool(spec.notify) or any(owner.notify for owner in spec.owners.values())


def _has_heard(spec: PipelineSpec, happening: Happening, to: str) -> bool:
    """Whether this addressee was told of each of the tasks that made the run fail, as their owner."""
    owner_of = {task.name: task.owner for task in spec.tasks}
    owners = [spec.owners.get(owner_of.get(name) or "") for name in happening.tasks]
    return bool(owners) and all(owner is not None and to in owner.notify for owner in owners)


# --- words -------------------------------------------------------------------------------------------


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A notice in words: one line, a plain text, and the same as data; `id` is the notice's."""

    id: str
    subject: str
    text: str
    document: dict[str, Any]


_SUBJECTS: Final = {
    "succeeded": "succeeded",
    "recovered": "has recovered",
    "late": "is late",
    "warning": "warns",
}


def subject_of(notice: Notice) -> str:
    """One line that says what happened to what."""
    name, task = notice.pipeline, notice.task
    if notice.happening == "waiting":
        said = f"{name} waits for a person" + (f": {task}" if task else "")
    elif notice.happening == "failed":
        state = "is partial" if notice.state == "partial" else "timed out" if notice.state == "timed_out" else "failed"
        said = f"{name}: {task} {state}" if task else f"{name} {state}"
    else:
        said = f"{name} {_SUBJECTS[notice.happening]}"
    return printable(f"[flowd] {said}")


def message_of(notice: Notice, *, place: str = "", link: str = "", links: Mapping[str, str] | None = None) -> Message:
    """A notice in words; `place` is where flowd runs, `link` the page of the run, `links` answer what is asked."""
    subject, links = subject_of(notice), links or {}
    lines = [_printable_lines(notice.sentence), ""]
    facts = {"pipeline": notice.pipeline, "run": notice.run, "task": ", ".join(notice.tasks), "state": notice.state}
    facts |= {"at": moment(notice.at) or "", "until": moment(notice.until) or "", "page": link, "where": place}
    lines += [f"{name + ':':<10}{printable(text)}" for name, text in facts.items() if text]
    if notice.next:
        lines += ["", "What to type next:", *(f"    {printable(command)}" for command in notice.next)]
    for answer, url in links.items():
        lines += ["", f"To {answer}: {url}"]
    text = "\n".join(lines) + "\n"
    document = {
        "id": notice.id,
        "happening": notice.happening,
        "pipeline": notice.pipeline,
        "run": notice.run or None,
        "task": notice.task or None,
        "tasks": list(notice.tasks),
        "state": notice.state or None,
        "at": moment(notice.at),
        "until": moment(notice.until),
        "subject": subject,
        "sentence": notice.sentence,
        "next": list(notice.next),
        "link": link or None,
        "links": dict(links),
        "text": f"{subject}\n{text}",
    }
    return Message(id=notice.id, subject=subject, text=text, document=document)


def _printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()))


# --- addressees --------------------------------------------------------------------------------------


def secrets_in(to: str) -> tuple[str, ...]:
    """The names of the secrets that an addressee is made of."""
    return tuple(sorted({access[1] for access in references_of(to) if access[0] == "secrets" and len(access) > 1}))


def filled_in(to: str, secrets: Mapping[str, str]) -> str:
    """The URL itself. ExpressionError where it has none.

    One that is a secret as a whole is taken as it is. A secret inside of a URL is encoded for its place where it can
    only be a name, a password or a value of a query; elsewhere, as in a path, it may be several parts of the URL.
    """
    from urllib.parse import quote

    parts, scope, url = parse_template(to).parts, {"secrets": dict(secrets)}, ""
    for number, part in enumerate(parts):
        if not isinstance(part, Expression):
            url += part
            continue
        value, after = in_text(part.evaluate(scope), part.text), _text(parts[number + 1 :])
        before = url.partition("://")[2]
        in_front = "://" in url and "/" not in before and "@" not in before and "@" in after.partition("/")[0]
        url += quote(value, safe="") if in_front or "?" in url else value
    return url


def _text(parts: Iterable[str | Expression]) -> str:
    return "".join(part if isinstance(part, str) else "x" for part in parts)


def shown(to: str) -> str:
    """An addressee with no more of its URL than may be seen: a path may be a key, a mail's address is none."""
    if "{{" in to:
        names = ", ".join(secrets_in(to)) or "an expression"
        front, known, _ = to.partition("{{")[0].partition("://")
        return f"{front}://… ({names})" if known else f"the secret {names}"
    scheme, _, rest = to.partition("://")
    front, at, host = rest.partition("/")[0].partition("?")[0].rpartition("@")
    user = front.partition(":")[0]
    if scheme.lower() in {"mailto", "mailtos"}:
        return printable(f"{scheme}://{user}{at}{host}")
    plain = scheme.lower() in {"json", "jsons", "http", "https"}
    return printable(f"{scheme}://{host}" if plain else f"{scheme}://…")
