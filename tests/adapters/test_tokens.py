"""The tokens of a daemon and its audit, as files: private, whole, and shared by processes."""

import json
import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flowd.adapters import disk
from flowd.adapters.audit import FILE, FileAudit
from flowd.adapters.tokens import FileTokens, first_token, read_clear
from flowd.core.access import ADMIN, VIEWER, without_tokens
from flowd.core.errors import BadRequest, StateDamaged, StorageFailing

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def test_a_token_is_shown_once_and_kept_as_a_digest(tmp_path: Path) -> None:
    """The first is made with the first start alone, for its owner's eyes."""
    tokens = FileTokens(tmp_path / "daemon" / "tokens.json")
    text = first_token(tmp_path, tokens, NOW)
    assert text is not None
    assert first_token(tmp_path, tokens, NOW) == text == read_clear(tmp_path)
    assert [token.name for token in tokens.all()] == [ADMIN]
    assert text[19:] not in (tmp_path / "daemon" / "tokens.json").read_text()
    for path in (tmp_path / "token", tmp_path / "daemon" / "tokens.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    caller = tokens.caller(text, NOW)
    assert caller is not None
    assert caller.role == ADMIN
    with pytest.raises(BadRequest, match="there is a token admin already; revoke it first"):
        tokens.add(ADMIN, VIEWER, NOW)
    FileTokens(tmp_path / "daemon" / "tokens.json").revoke(ADMIN)  # another process does
    assert tokens.caller(text, NOW) is None
    with pytest.raises(BadRequest, match="there is no token bob; there is: none"):
        tokens.revoke("bob")


def test_a_file_of_tokens_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """With the command that puts it right."""
    tokens = FileTokens(tmp_path / "tokens.json")
    tokens.add("a", VIEWER, NOW)
    (tmp_path / "tokens.json").chmod(0o644)
    with pytest.raises(BadRequest, match="chmod 600"):
        FileTokens(tmp_path / "tokens.json").all()


def test_that_others_may_read_it_is_noticed_while_it_is_in_use(tmp_path: Path) -> None:
    """As is what another process writes; a file that is no list of tokens lets nobody in."""
    path = tmp_path / "tokens.json"
    tokens = FileTokens(path)
    text = tokens.add("a", VIEWER, NOW)
    assert tokens.caller(text, NOW) is not None
    path.chmod(0o640)
    with pytest.raises(BadRequest, match=r"tokens\.json may be read or written by others: chmod 600"):
        tokens.caller(text, NOW)
    path.chmod(0o600)
    assert tokens.caller(text, NOW) is not None
    path.write_text('[{"id": 1}]')
    with pytest.raises(StateDamaged, match="move it away"):
        tokens.caller(text, NOW)
    path.unlink()
    assert tokens.caller(text, NOW) is None


def test_an_expired_token_is_nobody_s(tmp_path: Path) -> None:
    """From its very instant on; the instant is the caller's to give."""
    tokens = FileTokens(tmp_path / "tokens.json")
    text = tokens.add("a", VIEWER, NOW, NOW + timedelta(days=1))
    caller = tokens.caller(text, NOW + timedelta(hours=23))
    assert caller is not None
    assert tokens.holder(caller.token, NOW) == caller
    for asked in (tokens.caller(text, NOW + timedelta(days=1)), tokens.holder(caller.token, NOW + timedelta(days=1))):
        assert asked is None
    assert tokens.caller(text[:-1] + ("A" if text[-1] != "A" else "B"), NOW) is None
    assert without_tokens(f"/x/{text}/y") == "/x/flowd_***/y"


def test_a_first_start_that_is_cut_off_locks_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is cut off, the next start leaves a clear token that holds."""
    write = disk.write_atomic
    for survives in range(3):
        left = survives

        def dies(path: Path, data: bytes, *, synced: bool = True) -> None:
            nonlocal left
            if left == 0:
                raise OSError(28, "No space left on device")
            left -= 1
            write(path, data, synced=synced)

        state = tmp_path / str(survives)
        state.mkdir()
        with monkeypatch.context() as patched:
            patched.setattr(disk, "write_atomic", dies)
            if survives < 2:
                with pytest.raises(StorageFailing, match="No space left"):
                    first_token(state, FileTokens(state / "daemon" / "tokens.json"), NOW)
            else:
                first_token(state, FileTokens(state / "daemon" / "tokens.json"), NOW)
        tokens = FileTokens(state / "daemon" / "tokens.json")
        text = first_token(state, tokens, NOW)
        assert text is not None
        assert tokens.caller(text, NOW) is not None


def test_two_who_add_at_once_lose_nothing(tmp_path: Path) -> None:
    """What one has read the other does not overwrite."""

    def add(first: str) -> None:
        for number in range(10):
            FileTokens(tmp_path / "tokens.json").add(f"{first}{number}", VIEWER, NOW)

    threads = [threading.Thread(target=add, args=[name]) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(FileTokens(tmp_path / "tokens.json").all()) == 30


async def test_the_audit_is_begun_anew_when_it_is_large(tmp_path: Path) -> None:
    """Private, and no line is lost but the oldest."""
    audit = FileAudit(tmp_path, size=100)
    for number in range(60):
        await audit.note({"number": number, "text": "x" * 30})
    audit.close()
    files = sorted(tmp_path.iterdir(), key=lambda path: int(path.suffix[1:]) if path.suffix != ".jsonl" else 0)
    kept = [json.loads(line)["number"] for path in reversed(files) for line in path.read_text().splitlines()]
    assert kept == list(range(60))[-len(kept) :]
    assert len(kept) >= 20
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


async def test_a_line_of_the_audit_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    """It stays as it is, on a line of its own."""
    (tmp_path / FILE).write_text('{"number": 0}\n{"numb')
    os.chmod(tmp_path / FILE, 0o600)
    audit = FileAudit(tmp_path)
    await audit.note({"number": 1})
    await audit.note({"number": 2})
    audit.close()
    lines = (tmp_path / FILE).read_text().splitlines()
    assert lines == ['{"number": 0}', '{"numb', '{"number":1}', '{"number":2}']
