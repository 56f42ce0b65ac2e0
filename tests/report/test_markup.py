"""The page for browsers, screen readers and the eye: valid HTML, working references, enough contrast."""

import re
from pathlib import Path

import pytest
from justhtml import JustHTML

from raysweep.report import page
from tests.report.rendering import render_markdown, render_page

CSS = (Path(page.__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")


def test_the_page_is_valid_html(page_text):
    """The parser of the HTML standard reports no errors."""
    assert JustHTML(page_text, collect_errors=True, track_node_locations=True).errors == []
    # Check the parser itself: one misplaced closing tag is reported.
    assert JustHTML(page_text.replace("</section>", "</div>", 1), collect_errors=True).errors


def test_every_reference_resolves_and_every_id_is_unique(page_text):
    """These are links, labels and descriptions, which screen readers use."""
    ids = re.findall(r'\sid="([^"]+)"', page_text)
    assert len(ids) == len(set(ids))
    for name in ("href", "aria-labelledby", "aria-describedby", "aria-controls", "for", "headers"):
        for value in re.findall(rf'\s{name}="([^"]*)"', page_text):
            for reference in value.split():
                # test_figure_files.py compares the figures' files with the folder.
                assert reference.removeprefix("#") in ids or reference.startswith("figures/"), f"{name}={value}"


def test_the_page_has_landmarks_title_and_language(page_text):
    """There are one main, a header, a footer and a named navigation; every section and scrolling region has a name."""
    for tag in ("main", "header", "footer", "nav"):
        assert len(re.findall(rf"<{tag}[\s>]", page_text)) == 1
    assert '<html lang="en">' in page_text
    assert re.search(r"<title>[^<]+</title>", page_text)
    assert all("aria-label" in tag for tag in re.findall(r"<(?:nav|section)[^>]*>", page_text))
    regions = re.findall(r'<[^>]*role="region"[^>]*>', page_text)
    assert len(regions) > 5
    assert all("aria-label" in tag for tag in regions)
    # Anything that scrolls sideways can be scrolled with the keyboard.
    assert all('tabindex="0"' in tag for tag in re.findall(r'<div class="(?:scroll|plotted)"[^>]*>', page_text))


def test_the_first_link_skips_to_the_answer(page_text):
    """The first link of the page skips everything before the answer."""
    first = re.search(r"<a [^>]*>", page_text)
    assert first is not None
    assert 'href="#answer"' in first[0]


def test_every_coloured_verdict_is_also_a_word(page_text):
    """Readers who cannot distinguish green from red get the same information."""
    for verdict in ("confirmed", "refuted", "undecided"):
        for inside in re.findall(rf'<(?:td|span|strong) class="(?:verdict )?{verdict}[^"]*">([^<]*)<', page_text):
            assert verdict in inside


def scheme(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{3,6});", css))


SCHEMES = {
    "light": scheme(CSS.split("@media")[0]),
    "dark": scheme(CSS.split("@media (prefers-color-scheme: dark)")[1].split("* {")[0]),
    "print": scheme(CSS.split("@media print")[1].split("@page")[0]),
}


def rgb(colour: str) -> tuple[float, ...]:
    digits = colour.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    return tuple(int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))


def luminance(colour: tuple[float, ...]) -> float:
    parts = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Return the contrast ratio as defined by WCAG 2.2."""
    brighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def over(colour: str, paper: str, opacity: float) -> tuple[float, ...]:
    return tuple(a * opacity + b * (1 - opacity) for a, b in zip(rgb(colour), rgb(paper), strict=True))


def test_the_contrast_of_black_on_white_is_21():
    """This checks the measure itself, at the two extremes that the standard states."""
    assert contrast(rgb("#000"), rgb("#ffffff")) == pytest.approx(21)
    assert contrast(rgb("#777777"), rgb("#777777")) == 1


@pytest.mark.parametrize("name", SCHEMES)
def test_text_has_enough_contrast_in_every_colour_scheme(name):
    """The minimum is 4.5 for text (WCAG AA), also on shaded cells of heat maps, and 3 for marks, lines and bars."""
    colours = SCHEMES[name]
    for text in ("ink", "soft", "accent", "ok", "no", "open"):
        for paper in ("paper", "raised"):
            assert contrast(rgb(colours[text]), rgb(colours[paper])) >= 4.5, (text, paper)
    assert contrast(rgb(colours["ink"]), rgb(colours["warn-paper"])) >= 4.5
    for shade in ("heat", "worse"):
        for opacity in (0.1, 0.3, 0.62):
            assert contrast(rgb(colours["ink"]), over(colours[shade], colours["paper"], opacity)) >= 4.5, shade
    for mark in ("general", "specialised", "transfer", "ok", "no", "open", "soft"):
        assert contrast(rgb(colours[mark]), rgb(colours["paper"])) >= 3.0, mark


def test_every_colour_is_declared_in_the_colour_schemes():
    """A colour written into a rule would not change when the page turns dark."""
    rules = re.sub(r"--[\w-]+:[^;]+;", "", CSS)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", rules) == []
    assert set(SCHEMES["light"]) == set(SCHEMES["dark"]) == set(SCHEMES["print"])


FREE_TEXT = {
    "reason", "note", "l1", "command", "platform", "python", "headline", "text", "exceptions", "warnings", "stopped",
    "device", "profile", "sentence", "notice", "libraries", "raysweep", "missing", "csv", "bad_rows",
}  # fmt: skip
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>&amp;'


def poison(value, free=False):
    """Return the evidence with a script in every text that may come from a person, a corpus or a machine."""
    if isinstance(value, dict):
        return {
            (f"{key}{HOSTILE}" if free and isinstance(inner, int) else key): poison(inner, free or key in FREE_TEXT)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [poison(inner, free) for inner in value]
    return f"{value}{HOSTILE}" if free and isinstance(value, str) and value else value


def test_no_text_is_interpreted_as_markup(evidence):
    """Languages, failure reasons, notes, versions, commands and settings stay text on the page and in Markdown."""
    poisoned = poison({**evidence, "config": {**evidence["config"], "csv": "texts.csv"}})
    assert len(re.findall("<script>", str(poisoned))) > 40
    text = render_page(poisoned)
    tree = JustHTML(text, collect_errors=True)
    assert tree.errors == []
    assert re.findall(r"<(?:script|img)", text) == []
    assert text.count("&lt;script&gt;") > 40
    markdown = render_markdown(poisoned)
    outside = re.sub(r"```[\s\S]*?\n```", "", markdown)
    assert "<script" not in outside.replace(r"\<script", "")
