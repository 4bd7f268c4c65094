"""Drawings of a pipeline's graph."""

from __future__ import annotations

import pytest

from flowd.cli.graph import dot, mermaid, text


@pytest.fixture
def spec(scripted):
    """A diamond."""
    return scripted({"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}).spec


def test_text_shows_levels_and_needs(spec):
    """Tasks in the order of the work, deeper ones further in."""
    assert text(spec) == ["prices  4 tasks", "  a", "    b     ← a", "    c     ← a", "      d   ← b, c"]


def test_mermaid_has_a_box_and_an_arrow_for_each(spec):
    """Ids are numbers; names are quoted."""
    assert mermaid(spec)[:2] == ["flowchart LR", '    t0["a"]']
    assert "    t2 --> t3" in mermaid(spec)


def test_dot_is_a_digraph(spec):
    """Names are quoted, so that a dot or a dash in one is no syntax."""
    assert dot(spec)[0] == 'digraph "prices" {'
    assert '    "b" -> "d";' in dot(spec)
    assert dot(spec)[-1] == "}"
