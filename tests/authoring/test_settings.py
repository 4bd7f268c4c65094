"""A daemon's configuration: read, or refused with every problem and its place."""

from datetime import timedelta
from pathlib import Path

import pytest

from flowd.authoring.settings import default_settings, load_settings
from flowd.core.errors import BadSettings
from flowd.core.settings import Listen, Settings

HOME = Path(__file__).parents[2]

REFUSED = {
    "listen: 0.0.0.0:84700": ("1:9", "listen", "`84700` is no port; write a number up to 65535"),
    "listen: 0.0.0.0:8470": (
        "1:9",
        "listen",
        "can be reached by others, and nothing of what they send would be encrypted",
    ),
    "listen: 'a b'": ("1:9", "listen", "`a b` is no address; write HOST:PORT"),
    "listen: [1]": ("1:9", "listen", "an address"),
    "pipeline: [a]": ("1:1", "pipeline", "did you mean `pipelines`?"),
    "limits: {api: {rate: 10/minute}}": ("1:10", "limits.api", "write a capacity here"),
    "tls: {cert: a.pem}": ("1:1", "tls", "needs the key `key`"),
    "log: {size: 3 apples}": ("1:13", "log.size", "`3 apples` is no size"),
    "notify: [{on: [failed], to: ann}]": ("1:29", "notify[0].to", "owners are declared in pipelines; write a URL"),
    "notify: [{on: [failed], to: 'json://{{ secrets.A }}'}]": ("1:29", "notify[0].to", "`{{ }}` has no meaning here"),
    "private: ['no network']": ("1:11", "private[0]", "is no network and no host"),
    "hosts: ['http://x']": ("1:9", "hosts[0]", "is no host's name"),
    "url: ftp://x": ("1:6", "url", "`ftp://x` is no address"),
    "retention: {}": ("1:1", "retention", "it bounds nothing"),
    "misfire_grace: soon": ("1:16", "misfire_grace", "soon"),
    "max_concurrency: 0": ("1:18", "max_concurrency", "0"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_mistake_is_refused_with_its_place(text: str, tmp_path: Path) -> None:
    """File, line, column and key, and what to write instead."""
    place, key, words = REFUSED[text]
    path = tmp_path / "flowd.yaml"
    path.write_text(text)
    with pytest.raises(BadSettings) as refused:
        load_settings(path)
    [problem] = refused.value.problems
    assert f"{problem.line}:{problem.column}" == place
    assert problem.key == key
    assert words in str(problem)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """In the order in which they stand."""
    path = tmp_path / "flowd.yaml"
    path.write_text("listen: x:y\nlimit: 3\nurl: here\n")
    with pytest.raises(BadSettings) as refused:
        load_settings(path)
    assert [problem.line for problem in refused.value.problems] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8471", Listen(port=8471)),
        ("0", Listen(port=0)),
        ("'[::1]:8470'", Listen(host="::1")),
        ("'::1'", Listen(host="::1")),
        ("localhost", Listen(host="localhost")),
        ("127.0.0.1:9000", Listen(port=9000)),
    ],
)
def test_an_address_may_be_short(text: str, expected: Listen, tmp_path: Path) -> None:
    """A port, a host, or both."""
    path = tmp_path / "flowd.yaml"
    path.write_text(f"listen: {text}\n")
    assert load_settings(path).listen == expected


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """Wherever the command is typed."""
    path = tmp_path / "flowd.yaml"
    path.write_text(
        "state_dir: state\ntokens_file: t.json\nlog: {file: logs/d.log, size: 1MB}\ntls: {cert: c, key: /k}\n"
        "limits: {cpu: 2}\nmisfire_grace: 5m\n"
    )
    found = load_settings(path)
    assert found.state_dir == str(tmp_path / "state")
    assert found.tokens_file == str(tmp_path / "t.json")
    assert found.log.file == str(tmp_path / "logs" / "d.log")
    assert found.log.size == 1_000_000
    assert found.tls is not None
    assert (found.tls.cert, found.tls.key) == (str(tmp_path / "c"), "/k")
    assert found.limits == {"cpu": 2.0}
    assert timedelta(seconds=found.misfire_grace_s) == timedelta(minutes=5)


def test_a_file_of_comments_says_nothing(tmp_path: Path) -> None:
    """All defaults, as without a file."""
    path = tmp_path / "flowd.yaml"
    path.write_text("# listen: 127.0.0.1:8470\n")
    assert load_settings(path) == Settings(file=str(path), folder=str(tmp_path))
    assert default_settings(tmp_path) == Settings(folder=str(tmp_path))


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_what_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    """As pipelines are."""
    with pytest.raises(BadSettings):
        load_settings(tmp_path / name)
