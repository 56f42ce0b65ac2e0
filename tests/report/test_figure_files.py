"""Figures as separate files: SVG with all styles inlined, and PDF with searchable letters."""

import io
import re
from xml.etree import ElementTree

import pytest
from markupsafe import Markup
from pypdf import PdfReader

from raysweep.report.contents import report_sections
from raysweep.report.figure_files import figure_pdf, figure_svg
from raysweep.report.layout import Figure
from raysweep.report.svg import Interval, Reference, Series, curve_panel, interval_plot
from tests.report.rendering import parse, render_page

SVG = "{http://www.w3.org/2000/svg}"


def forest(*rows):
    return Figure("forest", interval_plot("f", "A title", "d", rows, [Reference(value=1.0, label="equal")], "÷"), "c")


def test_every_figure_is_saved_as_svg_and_pdf_and_linked(reported):
    """Every figure of the page has its files, and every file belongs to a figure."""
    folder, evidence = reported
    figures = [figure for section in report_sections(parse(evidence)) for figure in section.figures]
    names = {f"{figure.name}.{kind}" for figure in figures for kind in ("svg", "pdf")}
    assert len(names) > 20
    assert {path.name for path in folder.figures.iterdir()} == names
    page = render_page(evidence)
    assert page.count('<svg class="plot') == len(figures)
    assert {name for name in names if f'href="figures/{name}"' in page} == names


def test_an_svg_file_needs_no_style_sheet(reported):
    """It has no classes or variables, a size of its own, and the light scheme's colours on white."""
    folder, _ = reported
    for path in folder.figures.glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        text = path.read_text(encoding="utf-8")
        assert "class=" not in text
        assert "var(" not in text
        assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
        assert root.find(f"{SVG}rect").get("fill") == "#ffffff"
        assert all(line.get("stroke", "").startswith("#") for line in root.iter(f"{SVG}line"))


def test_the_more_specific_style_rule_applies():
    """As on the page, a confirmed mark is green and a label bold."""
    row = Interval(label="B1", text="", value=1.2, low=1.1, high=1.3, style="confirmed", is_summary=True)
    root = ElementTree.fromstring(figure_svg(forest(row)))
    (diamond,) = root.iter(f"{SVG}polygon")
    assert (diamond.get("fill"), diamond.get("stroke")) == ("#1b7a4b", "#1b7a4b")
    (label,) = [text for text in root.iter(f"{SVG}text") if text.text == "B1"]
    assert label.get("font-weight") == "bold"


def test_a_figure_file_has_its_own_legend():
    """The legend is below the plot, for the lines that occur in it; the page's plot does not change."""
    lines = [Series(label="all", points=[[1, 3.0], [2, 2.5]], style="general")]
    key = (("general", "general model"), ("transfer", "fine-tuned model"))
    plot = curve_panel("c", "A title", "d", lines)
    root = ElementTree.fromstring(figure_svg(Figure("c", plot, "c", key)))
    assert [text.text for text in root.iter(f"{SVG}text")][-1] == "general model"
    before = ElementTree.fromstring(figure_svg(Figure("c", plot, "c")))
    assert float(root.get("height")) == float(before.get("height")) + 18
    assert len([*root.iter(f"{SVG}line")]) == len([*before.iter(f"{SVG}line")]) + 1
    assert "general model" in PdfReader(io.BytesIO(figure_pdf(Figure("c", plot, "c", key)))).pages[0].extract_text()


def test_a_pdf_has_one_page_of_the_figures_size_with_its_words():
    """Symbols that the font lacks are left out, but the word beside them is kept."""
    row = Interval(label="B1", text="1.200 [1.100, 1.300] ✔ confirmed", value=1.2, low=1.1, high=1.3)
    reader = PdfReader(io.BytesIO(figure_pdf(forest(row))))
    assert len(reader.pages) == 1
    # A CSS pixel is three quarters of a point.
    assert float(reader.pages[0].mediabox.width) == pytest.approx(760 * 0.75)
    text = re.sub(r"\s+", " ", reader.pages[0].extract_text())
    assert "1.200 [1.100, 1.300] confirmed" in text
    assert reader.metadata.title == "A title"


def test_characters_missing_from_the_pdf_font_become_question_marks():
    """The letters of a level called 'Ω級' become question marks in the PDF, but not in the SVG."""
    figure = forest(Interval(label="級", text="", value=1.0))
    assert "級" in figure_svg(figure)
    assert "?" in PdfReader(io.BytesIO(figure_pdf(figure))).pages[0].extract_text()


def figure_of(shape):
    return Figure("e", Markup(f'<svg viewBox="0 0 90 90"><title>t</title><desc>d</desc>{shape}</svg>'), "e")


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ('<ellipse rx="3"/>', "<ellipse>"),
        ('<rect x="0" y="0" width="9" height="9" opacity=".5"/>', "<rect> has opacity"),
        ('<line x1="0" y1="0" x2="9" y2="9" stroke="#000000" stroke-opacity=".5"/>', "<line> has stroke-opacity"),
        ('<text x="0" y="0" transform="rotate(9)">a</text>', "<text> has transform"),
        ('<text x="0" y="0">a<tspan>b</tspan></text>', "<text> holds <tspan>"),
    ],
)
def test_an_unknown_svg_shape_is_refused_by_the_pdf_renderer(shape, named):
    """raysweep only has to draw its own plots, so an unknown shape is a mistake."""
    with pytest.raises(ValueError, match=named):
        figure_pdf(figure_of(shape))


@pytest.mark.parametrize(("width", "drawn"), [("1", "0.5"), ("4", "2"), ("40", "2")])
def test_the_corner_radius_is_at_most_half_the_bar_width(width, drawn):
    """The radius is at most half the width, as the standard says; the bytes equal those for the smaller radius."""
    narrow, exact = (
        figure_pdf(figure_of(f'<rect x="9" y="9" width="{width}" height="14" rx="{radius}"/>')) for radius in (2, drawn)
    )
    assert narrow == exact
    wider = figure_pdf(figure_of(f'<rect x="9" y="9" width="{width}" height="14" rx="{float(drawn) / 2}"/>'))
    assert narrow != wider


def test_the_same_figure_gives_the_same_bytes():
    """It has no dates or random ids, so a report that is made twice is the same."""
    plot = curve_panel("c", "t", "d", [Series(label="x", points=[[1, 2.0], [2, 1.0]], style="general")])
    assert figure_pdf(Figure("c", plot, "c")) == figure_pdf(Figure("c", plot, "c"))
