"""A value in a `run` text is one shell word, whatever it holds, and stands only where that is so."""

from __future__ import annotations

import shlex
import subprocess
from contextlib import suppress

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as hs

from flowd.core.commands import CommandError, parse_command, render_argv, words_of
from flowd.core.expressions import ExpressionError

TEXTS = hs.text(hs.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
HOSTILE = [
    "",
    " ",
    "'",
    '"',
    "a b",
    "$(echo no)",
    "`echo no`",
    "';echo no;'",
    "-n",
    "*",
    "~",
    "\\",
    "\n",
    "é\n'\t",
    "#x",
]


def place(text: str) -> str:
    """Where the first refused value of a text stands."""
    with pytest.raises(CommandError) as caught:
        parse_command(text)
    assert caught.value.code == "bad_placement"
    return caught.value.message.partition("stands inside ")[2].partition(", where")[0]


def test_any_text_comes_back_as_exactly_that_one_argument() -> None:
    """The real sh, given what hypothesis can think of, alone and as a part of a word."""
    values: list[str] = list(HOSTILE)

    @settings(max_examples=150, deadline=None, database=None)
    @given(TEXTS)
    def collect(value: str) -> None:
        values.append(value)

    collect()
    alone, part = parse_command("show {{ v }}\n"), parse_command("show --k={{ v }}/{{ v }}x\n")
    script = 'show() { printf "%d:%s\\0" "$#" "$1"; }\n'
    script += "".join(command.render({"v": value}) for value in values for command in (alone, part))
    said = subprocess.run(["sh"], input=script.encode(), capture_output=True, check=True).stdout
    expected = [text for value in values for text in (f"1:{value}", f"1:--k={value}/{value}x")]
    assert said.decode().split("\0")[:-1] == expected


def test_a_list_becomes_several_words() -> None:
    """Each item is one word; an empty list none; and a list stands alone."""
    command = parse_command("cat {{ files }} > out")
    assert command.render({"files": ["a b", "c", 1, True]}) == "cat 'a b' c 1 true > out"
    assert command.render({"files": []}) == "cat  > out"
    for text in ("cat x{{ files }}", "cat {{ files }}x", "cat {{ files }}{{ files }}"):
        with pytest.raises(ExpressionError, match="put blanks around it"):
            parse_command(text).render({"files": ["a"]})


@pytest.mark.parametrize(
    ("value", "message"), [("a\0b", "NUL"), (["a", "\0"], "NUL"), (None, "null"), ([None], "null")]
)
def test_what_no_argument_can_hold(value: object, message: str) -> None:
    """A NUL and a null are refused, in a text and in an argument vector."""
    with pytest.raises(ExpressionError, match=message):
        parse_command("echo {{ v }}").render({"v": value})
    with pytest.raises(ExpressionError, match=message):
        render_argv(["echo", "{{ v }}"], {"v": value})


REFUSED = {
    "single quotes": [
        "echo '{{ v }}'",
        "echo 'a\n{{ v }}'",
        "echo \\\\'{{ v }}'",
        "a\\\n#'\n{{ v }}'",
        "a\\ #'\n{{ v }}'",
    ],
    "double quotes": ['echo "{{ v }}"', 'echo "a \\" {{ v }}"', 'echo "it\'s {{ v }}"', 'echo "$(echo ")") {{ v }}"'],
    "backticks": ["echo `cat {{ v }}`", "echo `echo '{{ v }}'`"],
    "$( )": ["echo $(cat {{ v }})", "echo $( (a); b {{ v }})", "x=$(cat <<E\n)\nE\n{{ v }})"],
    "$(( ))": ["echo $((1 + {{ v }}))", "echo $(( (1) + {{ v }} ))"],
    "(( ))": ["((x = {{ v }}))"],
    "${ }": ["echo ${x:-{{ v }}}"],
    "$'…' quotes": ["echo $'{{ v }}'"],
    "a process substitution": ["diff <(cat {{ v }}) b", "tee >(cat {{ v }})"],
    "a here-document": [
        "cat <<E\n{{ v }}\nE\n",
        "cat <<'E'\nx\n{{ v }}\nE",
        "cat <<-E\n\t{{ v }}\n\tE\n",
        "cat <<E\n\tE\n{{ v }}\nE\n",
        "cat <<E\na\\\nE\n{{ v }}\nE\n",
        "cat <<A <<B\nA\n{{ v }}\nB\n",
        "cat <<E # it's\n{{ v }}\nE",
    ],
    "a comment": ["# {{ v }}", "echo a # {{ v }}", "echo a;#{{ v }}"],
    "an escape": ["echo \\{{ v }}"],
    "a word that begins with $": ["echo ${{ v }}", "echo a${{ v }}"],
    "a text that shells read differently from here on": [
        "echo $'\\' ' {{ v }} '",
        "echo \"${x:-'}\" '}\" {{ v }} '",
        'echo "$(case a in a) echo "{{ v }}";; esac)"',
        'echo "${x:-"a"}" {{ v }}',
        "echo $[1] {{ v }}",
        "cat <<$E\n{{ v }}\n",
        "cat <<{{ v }}\n",
        "cat <<E $(\nE\n) {{ v }}",
        "cat <<E 'a\n' {{ v }}\nE\n",
        "((echo a); b) {{ v }}",
        "echo $'\\{{ v }}'",
        "cat <\\\n<E\n{{ v }}\nE\n",
        "cat <<E\n$(echo '\nE\n) {{ v }}'",
        "cat <<E\n${x:-'\nE\n{{ v }}",
        "cat <<E\n`echo\nE\n{{ v }}`",
    ],
}


@pytest.mark.parametrize(("where", "text"), [(where, text) for where, texts in REFUSED.items() for text in texts])
def test_where_a_value_may_not_stand(where: str, text: str) -> None:
    """Each place in which a value could become syntax is named, with the form to write instead."""
    assert place(text) == where


def test_a_refusal_says_where_and_what_to_write() -> None:
    """The column counts in its line; the hint shows the unquoted form."""
    with pytest.raises(CommandError) as caught:
        parse_command("set -x\necho '{{ params.name }}'")
    assert caught.value.column == 7
    assert caught.value.hint == "write {{ params.name }} by itself, unquoted: it becomes one shell word"


def test_a_secret_in_a_command_line_is_refused() -> None:
    """Arguments are public."""
    with pytest.raises(CommandError, match="pass it by env") as caught:
        parse_command("curl -H {{ secrets.TOKEN }}")
    assert caught.value.code == "secret_in_run"


ACCEPTED = [
    "{{ v }}",
    "echo {{ v }}",
    "x={{ v }}; echo \"$x\" 'it' {{ v }}",
    "cat <{{ v }} >{{ v }} 2>&1",
    "(cd {{ v }} && ls {{ v }})",
    'if [ -e {{ v }} ]; then echo "it\'s"; fi; echo {{ v }}',
    'case {{ v }} in a) echo "hi";; *) echo {{ v }};; esac',
    "echo \"$(date +'%s')\" {{ v }}",
    "echo $(( 1 << 2 )) {{ v }}",
    "cat <<< hello\necho {{ v }}",
    "cat <<E\nit's\nE\necho {{ v }}",
    'cat <<E\n{"at": "$(date +\'%F\')", "by": "${USER}", "on": "`hostname`"}\nE\necho {{ v }}',
    "x=$(cat <<E\nit's )\nE\n)\necho {{ v }}",
    'echo "$(cat <<\'E\'\n"\nE\n)" {{ v }}',
    "echo a#b ${#x} $# {{ v }} # it's",
    "echo \\\n  # it's\n  {{ v }}",
    "echo $(echo a # it's )\n) {{ v }}",
    "echo ${x:-'}'} \"${x#a}\" {{ v }}",
    "python steps/clean.py --input {{ v }} \\\n  --output {{ v }}",
    "awk '{ print $1 }' {{ v }} | sort -k1,1 | head -n 3",
    "echo `echo \\`date\\`` {{ v }}",
    "((x = 1 + (2 * 3)))\necho {{ v }}",
    "diff <(sort a) <(sort b) {{ v }}",
    'echo $$ {{ v }} $? $! "$@" {{ v }}',
    'f() { echo "$1"; }\nf {{ v }}',
    "echo $'a\\tb' {{ v }}",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_where_a_value_may_stand(text: str) -> None:
    """What people write every day is accepted."""
    assert parse_command(text).expressions


@settings(max_examples=400, deadline=None)
@given(hs.text("'\"\\`$(){}#<>E&;| \n\ta{", max_size=25), hs.text("'\"\\`$(){}#<E \n", max_size=12))
def test_any_text_can_be_read(before: str, after: str) -> None:
    """Whatever stands around a value, the reader comes to an end and judges every value there is."""
    assume("{{" not in before and "{{" not in after)  # else they hold values, too
    with suppress(ExpressionError):
        command = parse_command(f"{before}{{{{ v }}}}{after}")
        assert len(command.expressions) == 1
        assert command.render({"v": "it's"}) == before + shlex.quote("it's") + after


def test_an_argument_vector() -> None:
    """Each item is one argument and no shell looks at it; an item that is a list becomes several."""
    scope = {"v": "a b; $(c)", "files": ["x y", "z"], "n": 2}
    assert render_argv(["echo", "{{ v }}", "-n{{ n }}", "{{ files }}", "{{ n }}"], scope) == (
        *("echo", "a b; $(c)", "-n2"),
        *("x y", "z", "2"),
    )


def test_the_words_of_a_command() -> None:
    """Literal words as a shell would split them; a word that holds a value is not known before it runs."""
    text = "python 'my step.py' --in={{ a }} {{ b }} && sh x.sh; cat y.sql|wc\nawk -f z.awk"
    assert words_of(text) == (
        *("python", "my step.py", "&&", "sh", "x.sh", ";", "cat", "y.sql", "|", "wc"),
        *("awk", "-f", "z.awk"),
    )
    assert "it's.py" in words_of("python it's.py")
