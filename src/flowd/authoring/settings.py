"""A daemon's configuration from its file: checked whole, every problem at once, with its place.

House rules of this room: those of `kinds`.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from flowd.authoring import settings_format as table
from flowd.authoring.document import Document, parse
from flowd.authoring.findings import Findings, KeyPath, NoText, quoted
from flowd.authoring.format import Key
from flowd.authoring.kinds import WRONG, wrong
from flowd.authoring.nodes import Broken
from flowd.authoring.notices import OWN
from flowd.authoring.records import record
from flowd.authoring.source_file import read_bytes
from flowd.core.errors import BadSettings
from flowd.core.settings import DEFAULT_HOST, DaemonLog, Listen, Settings, Tls

NAMES: Final = ("flowd.yaml", "configs/flowd.yaml")
"""Where a configuration is looked for, from the folder of the command."""

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_ADDRESS: Final = "write HOST:PORT, such as 127.0.0.1:8470"
_RELATIVE: Final = ("state_dir", "tokens_file")


def default_settings(folder: Path) -> Settings:
    """What holds where there is no file: the pipelines of `folder`, for this machine alone."""
    return Settings(folder=str(folder))


def load_settings(path: Path) -> Settings:
    """The settings of a file. Raises BadSettings with every problem."""
    findings = Findings(NoText(str(path)))
    try:
        data = read_bytes(path, findings)
    except Broken:
        raise BadSettings(findings.problems) from None
    document = Document(str(path))
    findings = Findings(document)
    read: dict[str, Any] = {}
    if parse(data, findings, document):
        read = record(findings, (), document.value, table.SETTINGS, "a daemon's configuration")
        _check(read, findings)
    elif [problem.code for problem in findings.problems] == ["empty_file"]:  # all of it may be comments
        findings.problems.clear()
    if findings.problems:
        raise BadSettings(findings.sorted())
    return _made(read, path.absolute())


def _made(read: dict[str, Any], path: Path) -> Settings:
    folder = path.parent
    for name in _RELATIVE:
        if name in read:
            read[name] = _absolute(folder, read[name])
    if "tls" in read:
        tls = read["tls"]
        read["tls"] = Tls(cert=_absolute(folder, tls.cert), key=_absolute(folder, tls.key))
    if (log := read.get("log")) is not None and log.file is not None:
        read["log"] = DaemonLog(
            file=_absolute(folder, log.file), format=log.format, level=log.level, size=log.size, keep=log.keep
        )
    if "limits" in read:
        read["limits"] = {name: said["capacity"] for name, said in read["limits"].items()}
    if (grace := read.pop("misfire_grace", None)) is not None:
        assert isinstance(grace, timedelta)
        read["misfire_grace_s"] = grace.total_seconds()
    return Settings(file=str(path), folder=str(folder), **read)


def _absolute(folder: Path, path: str) -> str:
    return str((folder / Path(path).expanduser()).absolute())


def _check(read: dict[str, Any], findings: Findings) -> None:
    """Report what is wrong between its parts."""
    for name, said in read.get("limits", {}).items():
        if "capacity" not in said or "rate" in said:
            message = f"the limit {quoted(name)} has a rate, which belongs to the pipelines that keep it"
            findings.add("unfit_key", ("limits", name), message, "write a capacity here: `cpu: 2`", at_key=True)
    for number, notice in enumerate(read.get("notify", ())):
        for to in notice.to:
            if ":" not in to and to != OWN:
                message = f"{quoted(to)} is an owner's name, and owners are declared in pipelines"
                findings.add("unknown_owner", ("notify", number, "to"), message, "write a URL, or `owner`")
            elif "{{" in to:
                message = "`{{ }}` has no meaning here"
                hint = "write the URL itself, and keep the file to yourself (mode 0600)"
                findings.add("bad_placement", ("notify", number, "to"), message, hint)
    for number, text in enumerate(read.get("private", ())):
        if not _is_network(text) and not _HOST.fullmatch(text):
            hint = "write 10.0.0.0/8, 192.168.1.7 or hooks.example.org"
            findings.add("bad_value", ("private", number), f"{quoted(text)} is no network and no host", hint)
    for number, text in enumerate(read.get("hosts", ())):
        if not _HOST.fullmatch(text):
            message = f"{quoted(text)} is no host's name"
            findings.add("bad_value", ("hosts", number), message, "write flowd.example.org, without port and scheme")
    _check_url(read.get("url"), findings)
    at = read.get("listen", Listen())
    if not is_loopback(at.host) and "tls" not in read and not read.get("insecure"):
        message = f"{quoted(at.host)} can be reached by others, and nothing of what they send would be encrypted"
        hint = "add `tls: {cert: …, key: …}`, or `insecure: true` where something in front of it does that"
        findings.add("insecure", ("listen",) if "listen" in read else (), message, hint)


def _check_url(url: str | None, findings: Findings) -> None:
    if url is None:
        return
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and not parts.fragment
    except ValueError:
        good = False
    if not good:
        findings.add("bad_value", ("url",), f"{quoted(url)} is no address", "write https://flowd.example.org")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


# --- readers ------------------------------------------------------------------------------------------------


def listen(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """HOST:PORT, a port, or a host; an IPv6 address stands in brackets."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _listen(findings, path, DEFAULT_HOST, str(value))
    if not isinstance(value, str):
        return wrong(findings, path, "an address", value, _ADDRESS)
    host, port = _split(value.strip())
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host):
            findings.add("bad_address", path, f"{quoted(value)} is no address", _ADDRESS)
            return WRONG
    return _listen(findings, path, host, port)


def _split(text: str) -> tuple[str, str]:
    """Host and port (empty: none)."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":")
    if text.isdecimal():
        return DEFAULT_HOST, text
    if text.count(":") > 1:
        return text, ""
    host, _, port = text.partition(":")
    return host or DEFAULT_HOST, port


def _listen(findings: Findings, path: KeyPath, host: str, port: str) -> Any:
    if not port:
        return Listen(host=host)
    if not port.isascii() or not port.isdecimal() or int(port) > 65535:
        findings.add(
            "bad_address", path, f"{quoted(port)} is no port", "write a number up to 65535; 0 takes a free one"
        )
        return WRONG
    return Listen(host=host, port=int(port))


def tls(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """A certificate and its key."""
    before = len(findings.problems)
    read = record(findings, path, value, table.TLS, "`tls`")
    return Tls(**read) if len(findings.problems) == before else WRONG


def daemon_log(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """Where the daemon's own lines go."""
    return DaemonLog(**record(findings, path, value, table.DAEMON_LOG, "`log`"))
