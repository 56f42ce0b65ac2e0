"""Printed text has no control, bidi or ANSI characters, no secrets of URLs, and only short parts of inputs."""

import json
import re
import shlex

import pytest

from raysweep.storage.printable import (
    printable,
    printable_message,
    say,
    say_json,
    shorten_line,
    shorten_quotes,
    shown,
    spreadsheet_safe,
    without_secrets,
)


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("plain é ö 中 \xa0", "plain é ö 中 \xa0"),
        ("a\x1b[31mb\x07\x9b", "a\\x1b[31mb\\x07\\x9b"),
        ("evil\u202egnp.exe\u2066", "evil\\u202egnp.exe\\u2066"),
        ("\ud800\ue000\u2028", "\\ud800\\ue000\\u2028"),
        ("line\nline\ttab\rback", "line\nline\ttab\\rback"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
    ],
)
def test_terminal_control_characters_are_escaped(raw, safe):
    """Letters of every script, emoji, lines and tabs are unchanged."""
    assert printable(raw) == safe


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("at https://user:PW@host:9/hook?token=TOK&n=1.", "at https://***@host:9/hook?token=***&n=1."),
        ("s3://key:SECRET@bucket/x", "s3://***@bucket/x"),
        ("http://h/?access_token=A&api-key=B&X-Amz-Signature=C#d", "http://h/?access_token=***&api-key=***&X-Amz-Signature=***#d"),
        ("https://u:${PW}@h/?token=${T}", "https://u:${PW}@h/?token=${T}"),
        ("mail a@b.org about http://h/a@b", "mail a@b.org about http://h/a@b"),
    ],
)  # fmt: skip
def test_secrets_in_urls_are_hidden(url, safe):
    """This holds for every scheme; a `${NAME}` is not a secret."""
    assert without_secrets(url) == safe


def test_a_message_truncates_a_long_value():
    """A value is cut to 80 characters, and a line to a page."""
    assert shown("x" * 300_000) == "'" + "x" * 78 + "…"
    assert len(shown({"a": ["\x1b" * 9] * 100})) == 80
    assert shown(10**5000) == "a number of very many digits"
    assert shown("two\nlines") == "'two\\nlines'"
    assert len(printable_message("x" * 300_000)) < 2100


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1-A1", "-x", "@x", "  =1", "\t=1", "\r=1", "\n=1", "'=1", "''@x"])
def test_formula_cells_are_prefixed_with_an_apostrophe(text):
    """Spreadsheets run such cells, even after spaces; removing one apostrophe always gives the text."""
    assert spreadsheet_safe(text) == "'" + printable(text)


def test_other_cells_are_unchanged():
    """Examples are an empty cell and numbers."""
    for text in ("", "A1", "a=b", "it's", "'", "-1", "+3.5", "-0,5", "-1e-05"):
        assert spreadsheet_safe(text) == text


def test_the_console_escapes_texts_and_keeps_its_own_styles(capsys):
    """This holds in tables, too; a learner's text or an id must not control the terminal."""
    from rich.text import Text

    from raysweep.cli.terminal import PrintableConsole, plain_table

    table = plain_table()
    table.add_column("id")
    table.add_row("a\x1b]0;PWN\x07b\u202e")
    console = PrintableConsole(force_terminal=True, width=80, color_system="standard")
    console.print(table)
    console.print(Text("red\x1b[2J", style="red"))
    printed = capsys.readouterr().out
    assert "a\\x1b]0;PWN\\x07b\\u202e" in printed
    assert "\x1b[31mred\\x1b[2J\x1b[0m" in printed


def test_printed_text_is_escaped_redacted_and_limited_in_length(capsys):
    """This holds for every type, and for stdout and stderr."""
    say("a\x1b[31m\u202e at https://u:PW@host/")
    say(ValueError("x" * 3000), to_stderr=True)
    printed = capsys.readouterr()
    assert printed.out == "a\\x1b[31m\\u202e at https://***@host/\n"
    assert len(printed.err) < 2100


def test_printed_json_is_ascii_and_stays_valid(capsys):
    """Programs read it and terminals may show it: it has no raw control, bidi or delete characters, and no secrets."""
    say_json({"id": "a\x1b\x7f\x9b\u202eé", "hook": "https://u:PW@host/?token=T"})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert "\x7f" not in printed
    assert json.loads(printed) == {"id": "a\x1b\x7f\x9b\u202eé", "hook": "https://***@host/?token=***"}


def test_a_message_quotes_at_most_80_characters_of_a_value():
    """Start and end are kept, since they distinguish two long paths."""
    value = "start-" + "x" * 500 + "-end"
    message = shorten_quotes(f"--name: found '{value}'; must be short, not \"{value}\"")
    quotes = re.findall(r"start-[^'\"]*-end", message)
    assert [len(quote) for quote in quotes] == [80, 80]
    assert shorten_quotes("it's fine, isn't it?") == "it's fine, isn't it?"
    path = "/a/" + "/".join(["folder" * 20] * 5)
    assert shorten_quotes(f"{path}/{value}.csv: no such file") == f"{path}/{value[:50]}…{value[-24:]}.csv: no such file"


LONG_FOLDER = "/my runs/" + "folder/" * 400
COMMAND = f"`cd {shlex.quote(LONG_FOLDER)} && raysweep run --storage {shlex.quote('it`s ' + LONG_FOLDER)} --force B2`"


@pytest.mark.parametrize("shorten", [shorten_quotes, printable_message])
def test_a_command_to_paste_is_never_truncated(shorten):
    """Its paths may be long; values beside it are cut as usual."""
    value = "x" * 3000
    message = shorten(f"{LONG_FOLDER}: found '{value}' or `it's`; do {COMMAND} first, not '{value}'")
    assert COMMAND in message
    assert value not in message


def test_text_that_only_looks_like_a_command_is_truncated():
    """A text may contain backticks, too; all printed text is limited in length."""
    for text in (f"`raysweeping {'x' * 5000}`", f"`raysweep {'x' * 5000}", f"`raysweep {'x' * 300_000}`"):
        assert len(printable_message(text)) < 2100


def test_a_line_contains_a_whole_command_or_none():
    """Half a command would do something else."""
    line = "the evidence is damaged; make it again with `raysweep report --name 'my  run' --force report`, then go on"
    assert shorten_line(f" {line}\n", len(line)) == line
    assert shorten_line(line, len(line) - 5) == line.removesuffix("then go on") + "…"
    assert shorten_line(line, 80) == "the evidence is damaged; make it again with …"
    assert shorten_line("x" * 90, 80) == "x" * 78 + " …"
