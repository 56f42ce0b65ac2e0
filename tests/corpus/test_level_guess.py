"""What the values of a level column are taken for."""

import pytest

from raysweep.config.data_settings import DataConfig
from raysweep.corpus.column_guess import cefr_levels, is_no_value, refuse_no_header
from raysweep.corpus.level_guess import guess_levels
from raysweep.corpus.new_texts import read_new_texts
from raysweep.corpus.survey import survey_corpus
from raysweep.errors import InputError


def guess(*values, column="level", **more):
    return guess_levels(dict.fromkeys(values, 40), None, column=column, **more)


@pytest.mark.parametrize(
    ("spelling", "level"),
    [
        ("\u0410\u0031", "A1"), ("\u0430\u0031", "A1"),  # Cyrillic А
        ("\u0412\u0031", "B1"), ("\u0421\u0031", "C1"),  # Cyrillic В and С
        ("\u0391\u0031", "A1"), ("\u0392\u0031", "B1"), ("\u0393\u0031", "C1"),  # Greek Α, Β and Γ
        ("pre-A1", "Pre-A1"), ("PreA1", "Pre-A1"), ("<A1", "Pre-A1"), ("A0", "Pre-A1"),
    ],
)  # fmt: skip
def test_each_spelling_of_a_cefr_level_is_recognised(spelling, level):
    """They are what people type for it."""
    assert cefr_levels([spelling]) == {spelling: level}


def test_the_alphabet_of_levels_is_chosen_for_the_whole_column():
    """The Cyrillic В is the third letter where Б is the second, and otherwise looks like a B."""
    bulgarian = ("\u0410\u0031", "\u0410\u0032", "\u0411\u0031", "\u0411\u0032", "\u0412\u0031", "\u0412\u0032")
    assert list(cefr_levels(bulgarian).values()) == ["A1", "A2", "B1", "B2", "C1", "C2"]
    assert guess(*bulgarian).names == ("A1", "A2", "B1", "B2", "C1", "C2")
    assert list(cefr_levels(("\u0410\u0031", "\u0412\u0031", "\u0431\u0435\u0437")).values()) == ["A1", "B1"]
    greek = tuple(letter + digit for letter in "\u0391\u0392\u0393" for digit in "12")
    assert guess(*greek).names == ("A1", "A2", "B1", "B2", "C1", "C2")


def test_a_possible_level_in_another_alphabet_is_not_silently_left_out():
    """Its texts would be lost."""
    with pytest.raises(InputError, match=r"and \u0413\u0031, which may be levels.*data.level_aliases.*data.leave_out"):
        guess("\u0410\u0031", "\u0412\u0031", "\u0413\u0031")
    assert guess("A1", "B1", "X1").others == {"X1": 40}


@pytest.mark.parametrize(
    ("values", "names", "is_known"),
    [
        (("A+", "A", "A-", "B+", "B", "B-"), ("A", "A+", "A-", "B", "B+", "B-"), False),
        (("A+", "A-", "B+", "B-"), ("A+", "A-", "B+", "B-"), False),
        (("-1", "0", "1", "2"), ("minus1", "0", "1", "2"), True),
        (("HSK\u4e09\u7ea7", "HSK\u56db\u7ea7"), ("level1", "level2"), False),
        (("b 1", "b-1", "low"), ("level1", "level2", "level3"), False),
        (("*", "**", "***"), ("level1", "level2", "level3"), False),
        (("none", "some", "much"), ("much", "none", "some"), False),
        (("low", "high", "none"), ("low", "high"), True),
        (
            ("Intermediate", "Lower Intermediate", "Upper-Intermediate", "advanced"),
            ("Lower-Intermediate", "Intermediate", "Upper-Intermediate", "advanced"),
            True,
        ),
        (("Anfaenger", "Fortgeschritten"), ("Anfaenger", "Fortgeschritten"), True),
        (("N1", "N2", "N5"), ("N1", "N2", "N5"), False),
    ],
)
def test_custom_levels_keep_distinct_names_and_a_doubtful_order_is_asked_for(values, names, is_known):
    """No level gets the name of another, and a doubtful order is asked for."""
    guessed = guess(*values)
    assert (guessed.names, guessed.is_order_known) == (names, is_known)
    assert not {*guessed.aliases} & {*names}


def test_a_number_is_one_level_in_any_spelling():
    """Half of the texts of band 5 would be another level."""
    guessed = guess("4", "4.5", "5", "5.0", "5,00", "50")
    assert (guessed.names, guessed.is_order_known) == (("4", "4.5", "5", "50"), True)
    assert guessed.aliases == {"5.0": "5", "5,00": "5"}


def test_a_level_between_two_is_the_lower_one():
    """People write a slash or a hyphen."""
    assert cefr_levels(["A2/B1", "b1-b2", "A1-A2-B1"]) == {"A2/B1": "A2", "b1-b2": "B1"}


def test_a_word_before_a_level_is_no_other_level():
    """Half of the rows may have it; 'below A1' is another level."""
    assert cefr_levels(["CEFR A1", "Level: B1", "niveau-c1", "below A1", "level 1"]) == {
        "CEFR A1": "A1", "Level: B1": "B1", "niveau-c1": "C1",
    }  # fmt: skip


def test_n_levels_are_ordered_descending_only_for_the_jlpt():
    """N5 is its lowest level; elsewhere, N1 may be."""
    assert guess("N1", "N2", "N5", column="JLPT").names == ("N5", "N2", "N1")
    assert guess("N1", "N2", "N5", is_japanese=True).names == ("N5", "N2", "N1")
    assert guess("N1", "N2", "N5", is_japanese=True).is_order_known


def test_sub_levels_named_by_the_user_are_kept_apart():
    """Otherwise they count as their level."""
    values = ("A1", "A1+", "A2", "A2+")
    assert guess(*values).aliases == {"A1+": "A1", "A2+": "A2"}
    assert guess(*values, order=values).aliases == {}
    assert guess(*values, order=("A1", "A1+")).aliases == {}
    assert guess("A1", "B1", "native", order=("A1", "B1", "native")).others == {}
    with pytest.raises(InputError, match=r"B2\.1, B2\.2 were counted as B2; `--set 'data\.levels=\[B2\.1,B2\.2\]'`"):
        guess("B2.1", "B2.2")
    assert guess("B2.1", "B2.2", order=("B2.1", "B2.2")).names == ("B2.1", "B2.2")


@pytest.mark.parametrize("cell", ["", "?", "-", "–", "n/a", "NaN", "None", "unknown"])
def test_placeholder_cells_count_as_missing(cell):
    """A star says something."""
    assert is_no_value(cell)
    assert not is_no_value("*")


def test_a_json_file_gets_no_advice_about_a_missing_header():
    """The advice is for tables."""
    refuse_no_header("a.json", ("A1", "Hello."), "json")
    with pytest.raises(InputError, match="its first line is a row"):
        refuse_no_header("a.csv", ("A1", "Hello."), "csv")


def test_texts_that_are_only_scored_need_no_choice_between_columns_of_levels(tmp_path):
    """Two raters' levels are of no use then; a corpus needs one of them."""
    (tmp_path / "a.csv").write_text(
        "r1,r2,payload\n"
        + "".join(
            f"A1,B1,{n} texts are here now and can be read.\nB1,A1,So {n} are here too and can be read.\n"
            for n in range(9)
        )
    )
    corpus = read_new_texts([tmp_path / "a.csv"], DataConfig())
    assert (corpus.documents.num_rows, dict(corpus.roles)) == (18, {"text": "payload"})
    with pytest.raises(InputError, match=r"the columns 'r1', 'r2' may hold the levels"):
        survey_corpus([tmp_path / "a.csv"], {})


def test_init_counts_levels_by_aliases_with_characters_that_nobody_sees(tmp_path):
    """They are read so, too."""
    rows = "".join(f"\u2b50\ufe0f,Text {n} of many.\nB1,Another text {n}.\nx\u200cy,Odd {n}.\n" for n in range(40))
    (tmp_path / "a.csv").write_text("level,text\n" + rows)
    survey = survey_corpus([tmp_path / "a.csv"], {"level_aliases": {"\u2b50\ufe0f": "A1"}, "leave_out": ["x\u200cy"]})
    assert (dict(survey.counts), dict(survey.others)) == ({"A1": 40, "B1": 40}, {})
