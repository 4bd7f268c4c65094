"""Imports a user's module from beside the pipeline's file, without leaving traces in the host.

House rules of this room. `sys.path` is as long after an import as before. Modules of one folder
never stand in for those of another: each folder keeps its own, and a name that two folders
share belongs, in `sys.modules`, to the one that came first. A module that a function imports
only when it runs is found beside the file that the function was written in.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from flowd.authoring.findings import nearest, plain
from flowd.core.errors import FlowdError


class CallError(FlowdError):
    """A function that cannot be called: `code` is stable, `hint` says what to do."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        self.code = code
        self.message = message
        self.hint = hint
        super().__init__(f"{message}; {hint}" if hint else message)


_lock = threading.RLock()
_folders: dict[str, dict[str, ModuleType]] = {}
_KEPT = frozenset({"__main__", "flowd", "sys", "builtins", *sys.builtin_module_names})


def import_beside(folder: Path, name: str) -> ModuleType:
    """The module `name`, from `folder` where it has one, else as Python finds it; CallError otherwise."""
    home = str(folder.resolve())
    with _lock:
        own = _folders.setdefault(home, {})
        if (known := own.get(name)) is not None:
            return known
        with _only(home, own, name.partition(".")[0]):
            return _import(home, name)


def imported_files(folder: Path) -> list[Path]:
    """The files of the modules that were imported from `folder`: with them what a pipeline there does may change."""
    with _lock:
        own = list(_folders.get(str(folder.resolve()), {}).values())
    return sorted(Path(file) for module in own if isinstance(file := getattr(module, "__file__", None), str))


def forget(folder: Path) -> None:
    """Import the modules of `folder` anew when they are next asked for; who holds their functions keeps them."""
    with _lock:
        for name, module in _folders.pop(str(folder.resolve()), {}).items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _import(home: str, name: str) -> ModuleType:
    try:
        # What a module prints while it is imported is for people: stdout may be carrying JSON.
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise _missing(home, name, error.name) from error
        raise _failed(name, error) from error
    except SystemExit as error:
        hint = 'put what ends the program under `if __name__ == "__main__":`'
        raise CallError(
            "import_failed", f"importing `{name}` ended the program: SystemExit({error.code})", hint
        ) from error
    except BaseException as error:  # whatever a user's module raises is said, not passed on
        raise _failed(name, error) from error


def _missing(home: str, name: str, absent: str) -> CallError:
    if absent != name:
        return CallError("missing_module", f"there is no module `{absent}`, which `{name}` is in")
    here = [path.stem for path in sorted(Path(home).glob("*.py"))[:500]]
    found = nearest(name, here)
    hint = f"did you mean `{found}`?" if found else f"put {plain(name.replace('.', '/'))}.py beside the file"
    return CallError("missing_module", f"there is no module `{plain(name)}` beside the file", hint)


def _failed(name: str, error: BaseException) -> CallError:
    kind = type(error).__name__
    if isinstance(error, SyntaxError):
        return CallError(
            "import_failed",
            f"`{name}` cannot be imported: {kind}: {error.msg} ({_short(error.filename)}:{error.lineno})",
        )
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    where = f" ({_short(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    try:
        message = plain(str(error).split("\n", maxsplit=1)[0], 300)
    except Exception:  # noqa: BLE001  # an exception whose own text cannot be made
        message = "…"
    hint = "install it, or fix the import" if isinstance(error, ImportError) else ""
    return CallError("import_failed", f"`{name}` cannot be imported: {kind}: {message}{where}", hint)


def _short(filename: str | None) -> str:
    if not filename:
        return "?"
    path = Path(filename)
    with contextlib.suppress(ValueError, OSError):
        return str(path.relative_to(Path.cwd()))
    return filename


@contextlib.contextmanager
def _only(home: str, own: dict[str, ModuleType], top: str) -> Iterator[None]:
    """Within, `home` is first on the path and its names mean its own modules."""
    hidden = _hide(home, top)
    sys.modules.update({name: module for name, module in own.items() if name not in sys.modules})
    before = set(sys.modules)
    sys.path.insert(0, home)
    importlib.invalidate_caches()
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)
    try:
        yield
    finally:
        if home in sys.path:
            sys.path.remove(home)
        for name in sys.modules.keys() - before:
            module = sys.modules.get(name)
            if isinstance(module, ModuleType) and _lies_in(module, home):
                own[name] = module
        sys.modules.update(hidden)


def _hide(home: str, top: str) -> dict[str, ModuleType]:
    """Take modules out of `sys.modules` that would stand in for some of this folder."""
    try:
        here = {path.stem for path in Path(home).iterdir() if path.suffix == ".py" or path.is_dir()}
    except OSError:
        here = set()
    elsewhere = {name for folder, modules in _folders.items() if folder != home for name in modules}
    hidden = {}
    for name, module in list(sys.modules.items()):
        first = name.partition(".")[0]
        if first not in here or first in _KEPT or _lies_in(module, home):
            continue
        if first == top or name in elsewhere:
            hidden[name] = sys.modules.pop(name)
    return hidden


def _lies_in(module: ModuleType, home: str) -> bool:
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return file.startswith(home.rstrip("/") + "/")
    places = getattr(module, "__path__", None) or ()
    try:
        return any(str(place).startswith(home.rstrip("/") + "/") for place in places)
    except Exception:  # noqa: BLE001  # an odd object in sys.modules: nothing of ours
        return False


class _Beside:
    """The last finder: what nobody else knows is looked for beside the file that imports it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module beside the importing file, where that file's folder holds a pipeline's modules."""
        if path is not None or not _folders:
            return None
        frame = sys._getframe(1)  # noqa: SLF001  # the only way to know who imports
        while frame is not None and "importlib" in frame.f_code.co_filename:
            if frame.f_back is None:
                return None
            frame = frame.f_back
        folder = _folder_of(frame.f_globals.get("__file__"))
        return importlib.machinery.PathFinder.find_spec(name, [folder]) if folder else None


def _folder_of(file: object) -> str | None:
    if not isinstance(file, str):
        return None
    return next((str(parent) for parent in Path(file).parents if str(parent) in _folders), None)


_finder = _Beside()
