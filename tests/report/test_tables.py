"""The same tables for other readers: Markdown, CSV and TeX."""

import csv
import io
import json
import re

import pytest

from raysweep.evidence.evidence_schema import Evidence
from raysweep.evidence.rounding import as_text
from raysweep.report.layout import Folded, ReportSection
from raysweep.report.markdown import render_markdown as render_sections
from raysweep.report.svg import Interval
from raysweep.report.tables import Table, escape_tex, estimates, to_csv, to_tex, without_empty_columns, words
from raysweep.report.writing import _render, as_written, write_report
from tests.report.rendering import parse, render_markdown, render_page, tables_of
from tests.simulated_run import make_run


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    """Return the evidence of a run with a failed trial and a reason full of special characters."""
    failed = {"B1": "failed: out of <b>memory</b> | 100 %_\\"}
    return write_report(*make_run(tmp_path_factory.mktemp("hostile"), failed=failed))


def cells(line):
    """Return the cells of a Markdown row; escaped pipes do not separate cells."""
    return re.split(r"(?<!\\)\|", line)[1:-1]


def test_every_markdown_row_has_as_many_cells_as_its_header(evidence):
    """A pipe in a note must not start a new cell."""
    lines = render_markdown(evidence).split("\nCommand:")[0].splitlines()
    headers = [index for index, line in enumerate(lines) if re.fullmatch(r"\|( -{3}:? \|)+", line)]
    assert len(headers) >= 12
    for index in headers:
        row = index - 1
        while row < len(lines) and lines[row].startswith("|"):
            assert len(cells(lines[row])) == len(cells(lines[index]))
            row += 1


def test_html_tags_are_escaped_in_markdown(evidence):
    """GitHub renders HTML; a language called <script> must stay a word."""
    text = render_markdown(evidence)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL).replace("<br>", "")
    assert re.findall(r"(?<!\\)<", prose) == []
    assert r"\<script\>" in prose


def test_a_truncated_table_links_its_csv_file(reported):
    """Of folded tables, Markdown shows 30 rows, paper none, TeX 400; other tables are complete everywhere."""

    def table(name, rows):
        return Table[str](name, "Words", ["a"] * rows, words("Word", "word", str))

    blocks = [table("shown", 401), Folded("Few _words_", table("few", 30)), Folded("Many _words_", table("many", 31))]
    blocks += [Folded("Most words", table("most", 401)), Folded("Hardly any", table("any", 16))]
    files = _render(parse(reported[1]), [ReportSection("a", "Words", blocks)])
    markdown, page = files["report/report.md"], files["report/report.html"]
    assert "Few" not in markdown
    assert "\nMany \\_words\\_: 31 rows, in [tables/many.csv](tables/many.csv)\n" in markdown
    assert "\nMost words: 401 rows, in [tables/most.csv](tables/most.csv)\n" in markdown
    assert re.findall(r'<p class="on-paper">(.*)</p>', page) == [
        "Few _words_: 30 rows, in tables/few.csv",
        "Many _words_: 31 rows, in tables/many.csv",
    ]
    assert {name for name in files if name.endswith(".tex")} == {
        f"report/tables/{name}.tex" for name in ("shown", "few", "many", "any")
    }
    alone = render_sections(parse(reported[1]), [ReportSection("a", "Folded words", blocks[2:3])])
    assert "## Folded words\n\nMany" in alone


def test_csv_tables_contain_unrounded_numbers(reported):
    """Numbers that the page rounds are complete for further computation."""
    folder, evidence = reported
    with (folder.tables / "matrix.csv").open(newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    for row in evidence["matrix"]["rows"]:
        for level, cell in row["cells"].items():
            shown = [float(rows[row["name"]][f"ppl_{level}{end}"]) for end in ("", "_low", "_high")]
            assert shown == pytest.approx([cell["value"], cell["low"], cell["high"]], rel=1e-11)


def test_every_csv_table_is_rectangular(tmp_path):
    """Every model or level has a row; fields of what was not trained are empty."""
    folder, config, trials = make_run(tmp_path, failed={"B1": 'failed: a "quoted", comma\nand line'})
    write_report(folder, config, trials)
    names = {path.stem for path in folder.tables.glob("*.csv")}
    assert names >= {"findings", "matrix", "gains", "gaps", "transfer", "kinds", "strategies", "trainings", "splits"}
    for path in folder.tables.glob("*.csv"):
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        assert len({len(row) for row in rows}) == 1, path.name
        assert len(rows) > 1


def test_failing_to_write_evidence_keeps_the_old_report(tmp_path, monkeypatch):
    """evidence.json was once deleted, and figures and tables replaced, before its text was made."""
    run = make_run(tmp_path)
    write_report(*run)
    before = {path: path.stat().st_mtime_ns for path in run[0].evidence.parent.rglob("*")}

    def fail(values):
        raise ValueError("a lone surrogate")

    monkeypatch.setattr("raysweep.report.writing.as_text", fail)
    with pytest.raises(ValueError, match="a lone surrogate"):
        write_report(*run)
    assert {path: path.stat().st_mtime_ns for path in run[0].evidence.parent.rglob("*")} == before


def test_the_report_is_rendered_from_the_exact_contents_of_evidence_json(tmp_path):
    """The text is not parsed again for that, so both ways must give the same records."""
    values = write_report(*make_run(tmp_path))
    assert Evidence.model_validate_json(as_text(values), strict=True) == as_written(values)


def test_csv_cells_of_a_corpus_are_not_run_as_formulas(evidence):
    """A first language called =cmd() must not become a formula; negative numbers stay numbers."""
    row = Interval(label="=cmd()", text="", value=-1.5)
    table = Table("t", "c", [row], words("L1", "label"), estimates("x", "x", str, lambda row: row))
    assert to_csv(table).splitlines() == ["label,x,x_low,x_high", "'=cmd(),-1.5,,"]


def test_columns_empty_in_every_row_are_shown_only_in_csv():
    """The CSV file keeps it, so that every run has the same columns."""
    row = Interval(label="A1", text="", value=1.5)
    table = Table("t", "c", [row], words("Level", "label"), words("Note", "text"))
    assert [column.title for column in without_empty_columns(table).columns] == ["Level"]
    assert to_csv(table) == "label,text\nA1,\n"


def test_tex_tables_are_balanced_and_escaped(evidence):
    """Every row has as many ampersands as its header; braces match; every special character is escaped."""
    for table in tables_of(evidence).values():
        tex = to_tex(table)
        assert tex.count("{") == tex.count("}") or r"\{" in tex
        rows = [line for line in tex.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {len(table.columns) - 1}
        assert re.findall(r"(?<!\\)[%#_^]", tex) == []
        assert tex.isascii() or table.name == "first_languages"


def test_tex_special_characters_are_escaped():
    """This includes characters that the report itself writes: minus signs and no-break spaces."""
    assert escape_tex(r"50 %_a\b {x} $") == r"50 \%\_a\textbackslash{}b \{x\} \$"
    assert escape_tex("\N{MINUS SIGN}1.2\N{NO-BREAK SPACE}%") == r"$-$1.2~\%"


def test_the_saved_evidence_alone_reproduces_the_documents(reported):
    """Page, Markdown and tables need only evidence.json, so anyone who has it can make them again."""
    folder, _ = reported
    saved = json.loads(folder.evidence.read_text(encoding="utf-8"))
    assert folder.report_html.read_text(encoding="utf-8") == render_page(saved)
    assert folder.report_markdown.read_text(encoding="utf-8") == render_markdown(saved)
