"""Which file system a path is on, and what that means for a state directory.

This stands on the ground floor of the adapters, beside `disk`. What the system mounts is read
from `/proc/self/mountinfo`; elsewhere than on Linux nothing is known, and nothing is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import msgspec

from flowd.guardian import mounts

MOUNTS = Path("/proc/self/mountinfo")

_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "coda", "ceph", "lustre", "gfs2", "ocfs2", "glusterfs"),
        *("beegfs", "beegfs_nodev", "gpfs", "mmfs", "panfs", "orangefs", "pvfs2", "dvs", "vboxsf", "prl_fs"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.davfs2", "fuse.s3fs", "fuse.rclone"),
        *("fuse.gcsfuse", "fuse.mount-s3", "fuse.blobfuse2", "fuse.juicefs", "fuse.JuiceFS", "fuse.goofys", "fuse.mfs"),
        *("fuse.seaweedfs", "fuse.curlftpfs", "fuse.smbnetfs", "fuse.vmhgfs-fuse", "fuse.grpcfuse", "fuse.osxfs"),
    }
)
_LOOSE = frozenset({"virtiofs", "vfat", "msdos", "exfat", "ntfs3"})
"""Local, but another machine, or nobody, sees to the time of a file's last change."""
_MEMORY = frozenset({"tmpfs", "ramfs"})


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """A mounted file system: where, of which kind, of what (`server:/export`, `/dev/sda1`), and how."""

    point: str
    kind: str
    source: str = ""
    options: tuple[str, ...] = ()

    @classmethod
    def of(cls, row: mounts.Row) -> Mount:
        """One row of what the kernel lists."""
        _, point, options, kind, source, more = row
        every = (*options.split(","), *(more.split(",") if more else ()))
        return cls(point=point, kind=kind, source=source, options=every)

    @property
    def is_network(self) -> bool:
        """Whether other machines may see it, and a server or the net stands between a sync and the disk."""
        return self.kind in _NETWORK

    @property
    def is_memory(self) -> bool:
        """Whether it is gone at the next start of the machine."""
        return self.kind in _MEMORY

    @property
    def keeps_times(self) -> bool:
        """Whether this kernel alone sets the time of a file's last change, so that no change goes without one."""
        return not (self.is_network or self.kind.startswith("fuse") or self.kind in _LOOSE)

    @property
    def is_volatile(self) -> bool:
        """Whether it is an overlay that was told to leave syncs out."""
        return self.kind == "overlay" and not {"volatile", "fsync=volatile"}.isdisjoint(self.options)

    def __str__(self) -> str:
        """`nfs4 (server:/export)`."""
        return f"{self.kind} ({self.source})" if self.source not in {"", "none", self.kind} else self.kind


def mount_of(path: Path) -> Mount | None:
    """The mount that a path, existing or not, is on; None where the system does not say."""
    try:
        rows = mounts.rows(os.fsdecode(MOUNTS.read_bytes()))
    except OSError:
        return None
    return longest(os.path.realpath(path), map(Mount.of, rows))


def kind_of(path: Path) -> str:
    """The kind of a path's file system in a word, for messages."""
    mount = mount_of(path)
    return mount.kind if mount else "unknown"


def keeps_times(path: str | Path) -> bool:
    """`Mount.keeps_times` of the mount that `path` is on; true where the system does not say."""
    try:
        device = os.stat(path).st_dev
    except OSError:
        device = 0
    return _keeps_times(os.fspath(path), device)


@lru_cache(maxsize=64)  # every run asks for its state directory, and the list of mounts takes 0.5 ms to read
def _keeps_times(path: str, _device: int) -> bool:
    mount = mount_of(Path(path))
    return mount is None or mount.keeps_times


def network_warning(state_dir: Path) -> str | None:
    """What a person should know before a run begins on a network file system; None on any other."""
    mount = mount_of(state_dir)
    if mount is None or not mount.is_network:
        return None
    return (
        f"the state directory {state_dir} is on a network file system, {mount}: whether its locks keep two owners "
        "apart and what was synced survives is up to its server; use --state-dir (FLOWD_STATE_DIR) on a local disk"
    )


def longest(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount with the longest point that holds the absolute `path`; of equal ones the last, which hides them."""
    found: Mount | None = None
    for mount in mounts:
        if path != mount.point and not path.startswith(mount.point.rstrip("/") + "/"):
            continue
        if found is None or len(mount.point) >= len(found.point):
            found = mount
    return found
