"""The place itself: may it be used, by whom, how much room is left, and on which file system it is."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from flowd.adapters import disk, filesystem
from flowd.adapters.filesystem import Mount
from flowd.adapters.journal import lock
from flowd.core.errors import StateDamaged, StorageFailing, cause
from flowd.wiring.doctor.findings import Checked, Finding, damaged, failing, note, warning
from flowd.wiring.doctor.patient import Patient

_FEW_BYTES = 100 * 1000 * 1000
_NO_BYTES = 64 * 1000
"""With less than this no run can be expected to be recorded; so much is what a small write writes."""
_FEW_PER_CENT = 1
_FULL = {errno.ENOSPC, errno.EDQUOT}


def check_format(patient: Patient) -> Checked:
    """The state directory's format, without which nothing in it can be judged."""
    path = patient.state_dir / "version"
    findings: list[Finding] = []
    if not patient.exists and os.path.lexists(patient.state_dir):
        findings = [
            damaged(
                "not_a_folder",
                f"{patient.state_dir} is no folder",
                "use another --state-dir, or move it away",
                file=str(patient.state_dir),
            )
        ]
        return Checked(name="format", detail="no state directory", findings=findings)
    try:
        patient.journal.check_version()
    except StateDamaged as error:
        newer = "newer flowd" in str(error)
        fix = "upgrade flowd, or use another --state-dir" if newer else f"echo 1 > {shlex.quote(str(path))}"
        findings = [damaged("format_newer" if newer else "format_unreadable", str(error), fix, file=str(path))]
        return Checked(name="format", detail="cannot be read by this flowd", findings=findings)
    if not patient.exists:
        sentence = f"{patient.state_dir} does not exist yet; the first run makes it"
        findings = [note("no_state_dir", sentence, "flowd run FILE", file=str(patient.state_dir))]
        return Checked(name="format", detail="nothing is here yet", findings=findings)
    return Checked(name="format", detail="can be read by this flowd")


def check_permissions(patient: Patient) -> Checked:
    """That the state directory and its key are ours alone, and can be written."""
    if not patient.exists:
        return Checked(name="permissions", detail="nothing is here yet")
    findings: list[Finding] = []
    for path, mode in ((patient.state_dir, disk.FOLDER_MODE), (patient.state_dir / "key", disk.FILE_MODE)):
        findings += _kept_private(path, mode)
    folders = [patient.state_dir, *(patient.state_dir / name for name in ("runs", "pipelines", "artifacts"))]
    for folder in folders:
        if folder.is_dir() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            quoted = shlex.quote(str(folder))
            read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
            fix = "use another --state-dir, or mount its disk for writing" if read_only else f"chmod u+rwx {quoted}"
            why = "its disk is mounted read-only" if read_only else "this user may not"
            findings.append(failing("not_writable", f"{folder} cannot be written: {why}", fix, file=str(folder)))
    detail = "yours alone, and writable" if not findings else "not as they should be"
    return Checked(name="permissions", detail=detail, findings=findings)


def _kept_private(path: Path, mode: int) -> list[Finding]:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return []
    if found.st_uid != os.geteuid():
        sentence = f"{path} belongs to user {found.st_uid}, and flowd runs as user {os.geteuid()}"
        fix = f"run flowd as user {found.st_uid}, or: sudo chown -R {os.geteuid()} {shlex.quote(str(path))}"
        return [warning("not_ours", sentence, fix, file=str(path))]
    if not found.st_mode & 0o077 or stat.S_ISLNK(found.st_mode):
        return []
    others = "whoever has the key can have code run by flowd" if path.name == "key" else "others can look into it"
    sentence = f"{path} has mode {stat.S_IMODE(found.st_mode):04o}: {others}"
    fix = f"chmod {mode:04o} {shlex.quote(str(path))}"
    return [warning("permissions_open", sentence, fix, file=str(path), mend=partial(_close, path, mode))]


def _close(path: Path, mode: int) -> None:
    with suppress(FileNotFoundError):
        if path.lstat().st_mode & 0o077:
            path.chmod(mode)


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a disk is free for us, in bytes, and of how many; the same of inodes (0 of 0: it has none)."""

    free: int
    size: int
    inodes_free: int
    inodes: int


def check_disk(patient: Patient) -> Checked:
    """Room for bytes and for files; under repair a small write is tried, since a quota is in no figure."""
    found = os.statvfs(patient.ground)
    room = Room(
        free=found.f_bavail * found.f_frsize,
        size=found.f_blocks * found.f_frsize,
        inodes_free=found.f_favail,
        inodes=found.f_files,
    )
    failure = small_write(patient.state_dir) if patient.repair and patient.exists else None
    detail = f"{amount(room.free)} of {amount(room.size)} free"
    if room.inodes:
        detail += f", {room.inodes_free} of {room.inodes} inodes free"
    return Checked(name="disk", detail=detail, findings=room_findings(room, patient.ground, failure))


def small_write(folder: Path) -> str | None:
    """Write a little to a file without a name, which is gone with its descriptor.

    That the disk is full, in the system's words; empty where it is written; None where it cannot be tried so.
    """
    nameless = getattr(os, "O_TMPFILE", 0)
    if not nameless:
        return None
    try:
        descriptor = os.open(folder, nameless | os.O_WRONLY, disk.FILE_MODE)
        try:
            disk.write_all(descriptor, bytes(_NO_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return cause(error) if error.errno in _FULL else None
    return ""


def room_findings(room: Room, place: Path, failure: str | None = None) -> list[Finding]:
    """What the figures mean, or how a small write fared where one was tried (`failure`: what was said against it)."""
    findings = []
    where = {"file": str(place)}
    bytes_left = f"{amount(room.free)} of {amount(room.size)} are free at {place}"
    if failure or (failure is None and room.free < _NO_BYTES):
        findings.append(
            failing(
                "disk_full",
                f"{bytes_left}: no run can be recorded" + (f" ({failure})" if failure else ""),
                f"make room, or use another --state-dir; see: df -h {shlex.quote(str(place))}",
                **where,
            )
        )
    elif room.free < _FEW_BYTES or room.free * 100 < room.size * _FEW_PER_CENT:
        findings.append(
            warning("disk_low", f"only {bytes_left}", f"make room; see: df -h {shlex.quote(str(place))}", **where)
        )
    inodes_left = f"{room.inodes_free} of {room.inodes} inodes are free at {place}"
    if room.inodes and not room.inodes_free:
        findings.append(
            failing(
                "inodes_full",
                f"{inodes_left}: no file can be made",
                f"remove files, or use another --state-dir; see: df -i {shlex.quote(str(place))}",
                **where,
            )
        )
    elif room.inodes_free * 100 < room.inodes * _FEW_PER_CENT:
        findings.append(
            warning("inodes_low", f"only {inodes_left}", f"remove files; see: df -i {shlex.quote(str(place))}", **where)
        )
    return findings


def amount(size: float) -> str:
    """Bytes as disks are sold: `34.1 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def check_file_system(patient: Patient) -> Checked:
    """Which file system it is, and whether it can lock."""
    mount = filesystem.mount_of(patient.ground)
    findings = [] if mount is None else mount_findings(mount, patient.state_dir)
    try:
        if patient.exists:
            lock.check(patient.state_dir)
    except StorageFailing as error:
        findings.append(
            failing("cannot_lock", str(error), "use --state-dir on a local disk", file=str(patient.state_dir))
        )
    detail = "it is not known which" if mount is None else f"{mount}, mounted at {mount.point}"
    return Checked(name="file system", detail=detail, findings=findings)


def mount_findings(mount: Mount, state_dir: Path) -> list[Finding]:
    """What is known of this kind of file system."""
    fix = "use --state-dir (or FLOWD_STATE_DIR) on a local disk"
    where = {"file": str(state_dir)}
    if mount.is_network:
        sentence = (
            f"{state_dir} is on a network file system, {mount}: whether its locks keep two owners apart, and what "
            "was synced survives, is up to its server"
        )
        return [warning("network_file_system", sentence, fix, **where)]
    if mount.is_memory:
        sentence = f"{state_dir} is in memory ({mount.kind}): everything in it is lost when the machine starts anew"
        return [warning("memory_file_system", sentence, fix, **where)]
    if mount.is_volatile:
        sentence = (
            f"{state_dir} is on an overlay mounted as volatile: nothing is synced, and a crash may lose all of it"
        )
        return [warning("volatile_file_system", sentence, fix, **where)]
    return []
