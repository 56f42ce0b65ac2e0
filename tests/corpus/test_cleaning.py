"""Markup is unwrapped, and what looks like markup and is none stays."""

import csv

import pytest

from raysweep.config.data_settings import DataConfig
from raysweep.corpus.cleaning import clean_text
from raysweep.corpus.preparing import prepare_corpus
from tests.corpus.odd_csv import csv_bytes


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Dear Ann,<br> <br>I am here.<BR/>Bye", "Dear Ann,\n\nI am here.\nBye"),
        ("you &amp; me, &quot;Hi&quot; &#39;s &lt;b&gt;", 'you & me, "Hi" \'s <b>'),
        ("I <NS type='AGV'><i>has</i><c>have</c></NS> it", "I has it"),
        ("a <change><selection>b</selection><tag><symbol>X</symbol><correct>c</correct></tag></change> d", "a b d"),
        ("<p>One.</p><p>Two.</p>", "One.\nTwo.\n"),
        ("I <3 you, 2 < 3 and 3 > 2, a<b", "I <3 you, 2 < 3 and 3 > 2, a<b"),
        ("Tom & Ann; AT&T; &nothing;", "Tom & Ann; AT&T; &nothing;"),
        ("<unk> <code>x</code><!-- no -->", " x"),
        ("<c>a<c>b</c>c</c>d", "d"),
    ],
)
def test_html_tags_are_removed_but_text_is_kept(before, after):
    """A heart ("<3"), a comparison and an ampersand are text, not markup."""
    assert clean_text(before) == after


def test_cleaned_texts_are_counted_and_the_first_ones_are_saved(folder, tmp_path):
    """The original texts are in a file that is never published; a text that is nothing but markup stays."""
    texts = ["You &amp; me", "=1<br>2", "<br>", *[f"Plain text {n}" for n in range(27)]]
    (tmp_path / "a.csv").write_bytes(csv_bytes([(n, "Thai", "A1", text) for n, text in enumerate(texts)]))
    summary = prepare_corpus(tmp_path / "a.csv", folder, DataConfig(clean=True), seed=0)
    assert summary.notes["texts had markup (tags, entities), which was unwrapped"] == 2
    assert summary.notes["texts hold nothing but markup, and stayed as they are"] == 1
    with folder.cleaned_texts.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["writing_id", "before", "after"], ["0", "You &amp; me", "You & me"], ["1", "'=1<br>2", "'=1\n2"],
        ]  # fmt: skip
    prepare_corpus(tmp_path / "a.csv", folder, DataConfig(), seed=0)
    assert not folder.cleaned_texts.exists()
