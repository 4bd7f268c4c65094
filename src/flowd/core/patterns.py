"""Paths as texts: globs (`*` within one folder, `**` through any number of them), and the folders above a path."""

from __future__ import annotations

from fnmatch import fnmatchcase


def is_pattern(path: str) -> bool:
    """Whether an output is named by a glob."""
    return "*" in path or "?" in path


def finds(pattern: str, path: str) -> bool:
    """Whether a glob finds a path: `*` within one folder, `**` through any number of them."""
    if "**" in pattern:
        return fnmatchcase(path, pattern.replace("**/", "*"))
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)


def folders_above(path: str) -> list[str]:
    """The folders that hold a path, the nearest first; the root, which holds all, is left out."""
    parts = path.split("/")
    return [above for end in range(len(parts) - 1, 0, -1) if (above := "/".join(parts[:end]))]
