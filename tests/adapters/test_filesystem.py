"""Which file system a path is on, read from mountinfo; and what is said where it is a network one."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
from pathlib import Path

import anyio
import pytest

import flowd
from flowd.adapters import filesystem
from flowd.adapters.filesystem import Mount, longest
from flowd.adapters.journal import lock
from flowd.core.errors import StorageFailing
from flowd.engine.saying import say_place
from flowd.guardian import cgroup
from flowd.guardian.mounts import parsed

LINE = r"36 35 98:0 /mnt1 /mnt/a\040b\011\134 rw,noatime shared:1 - nfs4 server:/ex\040port rw,addr=10.0.0.1"


def test_a_line_is_read_with_its_escapes() -> None:
    """Blanks, tabs and backslashes of names are written as octal numbers; options of both kinds are taken."""
    row = parsed(LINE)
    assert row is not None
    mount = Mount.of(row)
    assert (mount.point, mount.kind, mount.source) == ("/mnt/a b\t\\", "nfs4", "server:/ex port")
    assert {"noatime", "addr=10.0.0.1"} <= set(mount.options)
    assert str(mount) == "nfs4 (server:/ex port)"


@pytest.mark.parametrize("line", ["", "36 35 98:0", LINE.replace(" - ", " "), LINE.partition(" - ")[0] + " - nfs4"])
def test_what_is_no_line_is_none(line: str) -> None:
    """A line that is cut off or of another shape counts for nothing."""
    assert parsed(line) is None


def test_names_of_any_bytes_are_read() -> None:
    """A name that is not ASCII, and one that is no UTF-8, are as Python has them."""
    row = parsed("36 35 98:0 / /mnt/ä\\377 rw - ext4 /dev/sda rw")
    assert row is not None
    assert Mount.of(row).point == "/mnt/ä\udcff"


@pytest.mark.parametrize("name", ["a\u2028b", "a\x0bb", "a\x85b", "a\xa0b"])
def test_a_name_with_what_else_ends_a_line_or_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """Only a newline ends a line and only a blank a field: both readers of the list see the mount as it is."""
    listed = tmp_path / "mountinfo"
    text = f"36 35 98:0 / / rw - ext4 /dev/sda rw\n37 36 0:28 / /{name}/g rw - cgroup2 cgroup2 rw\n"
    listed.write_text(text, encoding="utf-8", newline="")
    monkeypatch.setattr(filesystem, "MOUNTS", listed)
    assert filesystem.kind_of(Path(f"/{name}/g")) == "cgroup2"
    monkeypatch.setattr(cgroup, "_read", {"/proc/self/cgroup": "0::/x\n", "/proc/self/mountinfo": text}.__getitem__)
    assert cgroup._own_folder() == f"/{name}/g/x"


def mount(point: str, kind: str) -> Mount:
    return Mount(point=point, kind=kind)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home", "ext4"),
        ("/data", "xfs"),
        ("/data/x/y", "xfs"),
        ("/data/net", "nfs"),
        ("/data/net/deep/er", "nfs"),
        ("/data/network", "xfs"),  # begins like a mount point and is none
        ("/twice/a", "tmpfs"),  # the later of two at one place hides the other
    ],
)
def test_the_longest_mount_point_wins(path: str, kind: str) -> None:
    """A path is on the mount whose point is the longest above it, whatever the order."""
    mounts = [mount("/data/net", "nfs"), mount("/", "ext4"), mount("/data", "xfs")]
    mounts += [mount("/twice", "nfs"), mount("/twice", "tmpfs")]
    found = longest(path, mounts)
    assert found is not None
    assert found.kind == kind


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs", "ceph", "lustre", "gpfs"]
)
def test_network_kinds_are_known(kind: str) -> None:
    """Each is a network file system, and none is memory."""
    assert mount("/", kind).is_network
    assert not mount("/", kind).is_memory


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "fuseblk"])
def test_local_kinds_are_no_network(kind: str) -> None:
    """What is on this machine is not warned of."""
    assert not mount("/", kind).is_network


def test_memory_and_volatile_overlays_are_known() -> None:
    """tmpfs is gone at a reboot; an overlay is volatile only where it says so."""
    assert mount("/", "tmpfs").is_memory
    assert not mount("/", "overlay").is_volatile
    assert Mount(point="/", kind="overlay", options=("rw", "volatile")).is_volatile


@pytest.fixture
def on_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of which the system says that it is on nfs4."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:9 / {tmp_path} rw - nfs4 server:/export rw\n")
    monkeypatch.setattr(filesystem, "MOUNTS", mounts)
    say_place.cache_clear()
    return tmp_path


async def test_an_engine_on_a_network_file_system_warns_once(on_nfs: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The library's logger has one warning for the place, however many engines are opened there."""
    with caplog.at_level(logging.WARNING, "flowd"):
        for _ in range(2):
            async with flowd.Engine(on_nfs / "not" / "yet"):
                pass
    assert len(caplog.records) == 1
    said = caplog.records[0].getMessage()
    assert "state_dir_on_network_file_system" in said
    assert "nfs4 (server:/export)" in said
    assert "--state-dir" in said


@pytest.mark.parametrize("kind", ["nfs4", "fuse.bindfs", "virtiofs", "exfat"])
@pytest.mark.parametrize("where", [None, "state", "work"])
async def test_no_file_is_believed_where_others_set_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str | None, kind: str
) -> None:
    """Where the state directory or the pipeline's folder is on such a file system, each run reads all files again."""
    mounts = tmp_path / "mountinfo"
    there = f"2 1 0:9 / {tmp_path / where} rw - {kind} server:/export rw\n" if where else ""
    mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/sda rw\n{there}")
    monkeypatch.setattr(filesystem, "MOUNTS", mounts)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "in").write_text("some")
    await anyio.sleep(0.06)  # longer than a tick of the clock of files
    pipeline = flowd.Pipeline("p", folder=tmp_path / "work")
    pipeline.shell("t", "cp in out", inputs=["in"], outputs=["out"])
    reads: list[str] = []
    plain = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: (reads.append(file.name), plain(file, name))[1])
    found = []
    for _ in range(2):
        async with flowd.Engine(tmp_path / "state") as engine:
            (await engine.run(pipeline)).raise_for_failure()
        found.append(str(tmp_path / "work" / "in") in reads)
        reads.clear()
    assert found == [True, where is not None]


async def test_an_engine_on_a_local_disk_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing is doubtful nothing is said."""
    with caplog.at_level(logging.WARNING, "flowd"):
        async with flowd.Engine(tmp_path / ".flowd"):
            pass
    assert not caplog.records


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_lock_that_is_refused_names_the_file_system(
    on_nfs: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Where the kernel says that it cannot lock there, the kind of file system is part of the refusal."""

    def refuse(_descriptor: int, _mode: int) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageFailing, match=f"its file system, nfs4, cannot lock .*{errno.errorcode[number]}"):
        lock.take(on_nfs)
