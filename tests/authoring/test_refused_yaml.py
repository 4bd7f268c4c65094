"""What is wrong with the text of a file: YAML's own mistakes, traps and surprises."""

from __future__ import annotations

import pytest

from bad_files import bad, check_refused, task

LAUGHS = "name: p\nx0: &x0 [a, a, a, a, a, a, a, a, a, a]\n" + "".join(
    f"x{n}: &x{n} [{'‹' if n == 9 else ''}{', '.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 10)
)

DUPLICATES = [
    bad(
        "a task given twice",
        "name: p\ntasks:\n  a: {run: x}\n  ‹a: {run: y}\n",
        ("duplicate_key", "", "`a` is given twice, on lines 3 and 4", "keep one"),
    ),
    bad(
        "a key given twice, once in quotes",
        task('run: x, ‹"run": y'),
        ("duplicate_key", "", "`run` is given twice, on line 2", "keep one"),
    ),
    bad(
        "a key of the pipeline given twice, and more that is wrong",
        'name: p\nenv: {A: "1"}\n‹env: {A: "2"}\ntasks: {a: {‹rnu: x}}\n'.replace("{a:", "{‹a:"),
        ("duplicate_key", "", "`env` is given twice, on lines 2 and 3", "keep one"),
        ("no_action", "tasks.a", "does nothing", "run: command"),
        ("unknown_key", "tasks.a.rnu", "`rnu` is no key of a task", "did you mean `run`?"),
    ),
    bad(
        "a merge key given twice",
        "name: p\ntasks:\n  a: &a {run: x}\n  b: {<<: *a, ‹<<: *a}\n",
        ("duplicate_key", "", "`<<` is given twice", ""),
    ),
]

SYNTAX = [
    bad("a tab that indents", "name: p\ntasks:\n‹\ta:\n", ("tab", "", "a tab", "spaces")),
    bad(
        "a colon in a value",
        "name: p\ntasks:\n  a: {run: x}\ndescription: a‹: b\n",
        ("bad_yaml", "", "not YAML", "needs quotes"),
    ),
    bad("a quote that is not closed", 'name: p\ndescription: "x\n‹', ("bad_yaml", "", "not YAML", "not closed")),
    bad("a bracket that is not closed", "name: p\ntasks: {a: {run: x}\n‹", ("bad_yaml", "", "not YAML", "brackets")),
    bad("a value that begins with @", "name: ‹@p\ntasks: {}\n", ("bad_yaml", "", "cannot start", "quotes")),
    bad("twenty thousand brackets", "x: " + "[" * 999 + "‹" + "[" * 19_001, ("too_deep", "", "nested too deep", "")),
    bad("an expression without quotes", task("run: x, env: {‹A: {‹{x}}}"),
        ("wrong_type", "tasks.a.env.A", "a text is expected, and this is a mapping", ""),
        ("bad_key", "", "a key is a mapping", "quotes")),
    bad("a list as a key", "name: p\ntasks: {a: {run: x}, ? ‹[b] : {run: x}}\n", ("bad_key", "", "a key is a", "text")),
    bad("a second document", "name: p\ntasks: {a: {run: x}}\n‹---\nname: q\n",
        ("many_documents", "", "a second document", "one pipeline in a file")),
    bad("a version of YAML to come", "‹%YAML 3.0\n---\nname: p\n", ("bad_yaml", "", "incompatible YAML", "")),
    bad("a list at the top", "‹- name: p\n", ("not_a_mapping", "", "not a mapping", "begin with `name")),
    bad("a text at the top", "‹hello\n", ("not_a_mapping", "", "not a mapping", "begin with `name")),
]  # fmt: skip

ANCHORS = [
    bad("a billion laughs", LAUGHS, ("too_heavy", "", "unfold to far more", "")),
    bad("an alias inside itself", "name: p\ntasks: &t {a: ‹*t}\n", ("bad_alias", "", "`*t` stands inside itself", "")),
    bad("a merge of itself", "name: p\ntasks: {a: &a {<<: ‹*a}}\n", ("bad_alias", "", "stands inside itself", "")),
    bad("an alias of nothing", "name: p\ntasks: ‹*t\n", ("bad_alias", "", "no anchor `&t`", "")),
    bad("a merge of a text", task("run: x, <<: ‹y"), ("wrong_type", "", "`<<` merges mappings", "`<<: *anchor`")),
    bad("a merge of what is unknown",
        "name: p\ntasks:\n  a: &a {run: x, ‹‹nedes: [b]}\n  b: {<<: *a}\n",
        ("unknown_key", "tasks.a.nedes", "`nedes`", "did you mean `needs`?"),
        ("unknown_key", "tasks.b.nedes", "`nedes`", "did you mean `needs`?")),
]  # fmt: skip

TAGS = [
    bad("a tag that makes an object", task("run: ‹!!python/object/apply:os.system [id]"),
        ("custom_tag", "", "the tag `!!python/object/apply:os.system`", "plain values")),
    bad("a tag of one's own", task("run: x, env: {A: ‹!env HOME}"), ("custom_tag", "", "the tag `!env`", "plain values")),
    bad("a set", task("run: x, env: ‹!!set {A‹}"), ("custom_tag", "", "the tag `!!set`", "plain values"),
        ("wrong_type", "tasks.a.env.A", "a text is expected, and nothing is here", "")),
]  # fmt: skip


def surprise(written: str, reading: str, key: str = "tasks.a.description", before: str = "run: x, description: "):
    """A scalar that YAML's versions read differently."""
    return bad(
        f"surprise {written} in {key}", task(f"{before}‹{written}"),
        ("yaml_surprise", key, f"`{written}` is text to some readers of YAML and {reading}", f'write "{written}"'),
    )  # fmt: skip


SURPRISES = [
    surprise("no", "false"),
    surprise("On", "true"),
    surprise("yes", "true", "tasks.a.cache", "run: x, cache: "),
    surprise("off", "false", "tasks.a.idempotent", "run: x, idempotent: "),
    surprise("014", "12 (an octal number)"),
    surprise("0o17", "15 (an octal number)"),
    surprise("089", "89 (a number)"),
    surprise("1:30", "90 (a number of base 60)", "tasks.a.timeout", "run: x, timeout: "),
    surprise("1e3", "1000.0 (a number)", "tasks.a.priority", "run: x, priority: "),
    bad("surprise 1_000", task("run: x, retry: {attempts: ‹1_000}"),
            ("yaml_surprise", "tasks.a.retry.attempts", "`1_000`", "or 1000")),
    bad("surprise 0b11", task("run: x, uses: {cpu: ‹0b11}", "limits: {cpu: 4}\n"),
        ("yaml_surprise", "tasks.a.uses.cpu", "a binary number", "or 3")),
    bad("surprise in a parameter", task("run: x", "params: {when: ‹12:30:00}\n"),
        ("yaml_surprise", "params.when", "base 60", '"12:30:00"')),
    bad("surprise deep in a value", task("call: m:f, with: {x: {y: [1, ‹no]}}"),
        ("yaml_surprise", "tasks.a.with.x.y[1]", "`no`", '"no"'), m="def f(x): pass\n"),
    bad("surprise in a name", "name: ‹no\ntasks: {a: {run: x}}\n", ("yaml_surprise", "name", "`no`", '"no"')),
]  # fmt: skip


@pytest.mark.parametrize("case", [*DUPLICATES, *SYNTAX, *ANCHORS, *TAGS, *SURPRISES])
def test_a_mistaken_text_is_refused_with_its_place(case, tmp_path, capsys, monkeypatch):
    """Each problem has its code, place and remedy, and the command ends with 2 and a line for each."""
    check_refused(case, tmp_path, capsys, monkeypatch)
