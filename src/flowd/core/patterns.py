"""Paths that are named by globs: `*` within one folder, `**` through any number of them."""

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
