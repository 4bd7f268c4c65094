"""`flowd token`: who may ask the daemon for what."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anyio
import click

from flowd.cli.again import person
from flowd.cli.options import JSON, STATE_DIR
from flowd.cli.serve import CONFIG, place_of, settings_of
from flowd.cli.streams import say, say_document, tell
from flowd.core.access import ROLES
from flowd.core.durations import parse_duration
from flowd.core.errors import BadRequest

if TYPE_CHECKING:
    from flowd.adapters.tokens import FileTokens


@click.group()
def token() -> None:
    """Make, list and revoke the tokens with which the daemon's API is asked."""


@token.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="Look; start, stop and answer; or everything.")
@click.option("--expires", metavar="D", help="For how long it holds, such as 30d; for ever where left out.")
@CONFIG
@STATE_DIR
def add(name: str, role: str, expires: str | None, config: str | None, state_dir: str | None) -> int:
    """Make a token called NAME, and print it: it is shown this once."""
    now = datetime.now(UTC)
    try:
        until = now + parse_duration(expires) if expires is not None else None
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"--expires {expires} is no duration; write 30d or 12h") from error
    place = _place(config, state_dir)
    text = place.tokens.add(name, role, now, until)
    say(text)
    place.note(f"token add {name} --role {role}", now)
    tell(f"a token of {name}, who may act as {role}" + (f" until {until:%Y-%m-%dT%H:%M:%SZ}" if until else ""))
    return 0


@token.command(name="list")
@CONFIG
@STATE_DIR
@JSON
def list_(config: str | None, state_dir: str | None, *, as_json: bool) -> int:
    """List the tokens that there are; none is shown itself."""
    now = datetime.now(UTC)
    rows = [
        {"name": one.name, "role": one.role, "created": one.created_at, "expires": one.expires_at}
        for one in _place(config, state_dir).tokens.all()
    ]
    if as_json:
        say_document({"tokens": rows})
        return 0
    for row in rows:
        until = row["expires"]
        assert until is None or isinstance(until, datetime)
        word = "expired" if until is not None and until <= now else "until"
        say(f"{row['name']}   {row['role']}" + (f"   {word} {until:%Y-%m-%dT%H:%M:%SZ}" if until else ""))
    if not rows:
        say("there is no token; the first start of flowd serve makes one")
    return 0


@token.command()
@click.argument("name")
@CONFIG
@STATE_DIR
def revoke(name: str, config: str | None, state_dir: str | None) -> int:
    """Take the token called NAME away; a daemon that runs knows it no more at once."""
    place = _place(config, state_dir)
    place.tokens.revoke(name)
    place.note(f"token revoke {name}", datetime.now(UTC))
    say(f"the token of {name} is revoked")
    return 0


class _Place(NamedTuple):
    """Where a daemon's tokens are, and where it is kept who has changed them."""

    tokens: FileTokens
    folder: Path

    def note(self, command: str, now: datetime) -> None:
        """Keep who did what here, as the daemon does of what is asked of it."""
        from flowd.adapters.audit import FileAudit

        entry = {"at": now, "who": person(), "role": None, "from": "command", "method": None, "path": command}
        with closing(FileAudit(self.folder)) as audit:
            anyio.run(audit.note, {**entry, "status": 0})


def _place(config: str | None, state_dir: str | None) -> _Place:
    from flowd.adapters.daemon_folder import FOLDER
    from flowd.adapters.tokens import FILE, FileTokens

    settings = settings_of(config)
    folder = place_of(settings, state_dir) / FOLDER
    return _Place(FileTokens(Path(settings.tokens_file or folder / FILE)), folder)
