"""The plots as files for a paper or a slide: SVG whose styles are written into each element, and PDF.

The page's plots take their colours from the page's style sheet.  A file must not, because LibreOffice, Word and
LaTeX's converters know neither style sheets nor variables: the light scheme's values are written as attributes.
PDF is drawn from that SVG with reportlab, which is pure Python with wheels everywhere, where cairo needs a system
library and matplotlib would be a second way to draw every plot.  The plots have seven kinds of element; svglib, which
knows all of SVG, takes 40 ms for what takes 4 ms here.
"""

import io
import re
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from raysweep.report.layout import Figure, Key

_PAGE_CSS = Path(__file__).parent / "templates" / "page.css"
_FONT = "Helvetica, Arial, sans-serif"
_PDF_FONT = "RaysweepSans"
_SIZE = "12.5"
_KEY_PITCH = 18.0
_POINTS = 0.75
"""Points per CSS pixel."""
_NOT_FOR_FILES = {"paint-order", "font", "display", "max-width", "min-width", "width", "height", "font-variant-numeric"}
_UNKNOWN_TO_FONT = {"✔": "", "✘": "", "\N{RIGHTWARDS ARROW}": "-"}
"""Signs that reportlab's font lacks; a verdict's word stands beside its sign."""
_PAINT = {"fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray"}
_DRAWN = {
    "title": {"id"},
    "desc": {"id"},
    "text": {"x", "y", "fill", "font-size", "font-weight", "text-anchor"},
    "line": _PAINT | {"x1", "y1", "x2", "y2"},
    "rect": _PAINT | {"x", "y", "width", "height", "rx"},
    "circle": _PAINT | {"cx", "cy", "r"},
    "polyline": _PAINT | {"points"},
    "polygon": _PAINT | {"points"},
}
"""The elements and attributes that the PDF can draw."""

Styles = dict[str, str]


def figure_svg(figure: Figure) -> str:
    """Write the figure as a standalone SVG file, on white."""
    root = _parse(figure)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def figure_pdf(figure: Figure) -> bytes:
    """Write the figure as a PDF of one page, with text as text; the same figure gives the same bytes."""
    # Imported here, because only the report needs it.
    from reportlab.pdfgen.canvas import Canvas

    root = _parse(figure)
    _check(root)
    width, height = (_POINTS * float(root.attrib[name]) for name in ("width", "height"))
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=(width, height), invariant=1)
    canvas.setTitle(root.findtext("title") or figure.name)
    # SVG's origin is at the top.
    canvas.translate(0, height)
    canvas.scale(_POINTS, _POINTS)
    for element in root:
        if element.tag == "text":
            _draw_text(canvas, element)
        elif element.tag not in ("title", "desc"):
            _draw_shape(canvas, element)
    canvas.showPage()
    canvas.save()
    return file.getvalue()


def _check(root: ElementTree.Element) -> None:
    """Raise if the SVG contains anything that the PDF would lack."""
    for element in root:
        if element.tag not in _DRAWN:
            raise ValueError(f"a plot holds <{element.tag}>, which is not drawn")
        if unknown := sorted(set(element.attrib) - _DRAWN[element.tag]):
            raise ValueError(f"a plot's <{element.tag}> has {', '.join(unknown)}, which is not drawn")
        if len(element):
            raise ValueError(f"a plot's <{element.tag}> holds <{element[0].tag}>, which is not drawn")


def _draw_shape(canvas: Any, element: ElementTree.Element) -> None:
    """Draw a line, rectangle, circle, polyline or polygon, filled with black unless it says otherwise."""
    fill, stroke = element.get("fill", "#000000"), element.get("stroke", "none")
    canvas.saveState()
    if fill != "none":
        canvas.setFillColor(_colour(fill), alpha=float(element.get("fill-opacity", "1")))
    if stroke != "none":
        canvas.setStrokeColor(_colour(stroke))
        canvas.setLineWidth(float(element.get("stroke-width", "1")))
        canvas.setDash([float(length) for length in element.get("stroke-dasharray", "").split()])

    def number(name: str) -> float:
        return float(element.get(name, "0"))

    path = canvas.beginPath()
    match element.tag:
        case "line":
            path.moveTo(number("x1"), -number("y1"))
            path.lineTo(number("x2"), -number("y2"))
        case "rect":
            width, height = number("width"), number("height")
            # SVG reduces the corner radius of a narrow bar; reportlab would draw the corners beyond it.
            radius = min(number("rx"), width / 2.0, height / 2.0)
            path.roundRect(number("x"), -number("y") - height, width, height, radius)
        case "circle":
            path.circle(number("cx"), -number("cy"), number("r"))
        case _:
            points = [tuple(map(float, point.split(","))) for point in element.attrib["points"].split()]
            for place, (x, y) in enumerate(points):
                (path.lineTo if place else path.moveTo)(x, -y)
            if element.tag == "polygon":
                path.close()
    canvas.drawPath(path, stroke=stroke != "none", fill=fill != "none" and element.tag != "line")
    canvas.restoreState()


def _draw_text(canvas: Any, element: ElementTree.Element) -> None:
    known = _register_fonts()
    text = "".join(_UNKNOWN_TO_FONT.get(character, character) for character in element.text or "")
    text = "".join(c if ord(c) in known else "?" for c in re.sub(" {2,}", " ", text))
    canvas.setFillColor(_colour(element.get("fill", "#000000")))
    canvas.setFont(
        f"{_PDF_FONT}-{element.get('font-weight', 'normal')}", float(element.get("font-size", _SIZE).removesuffix("px"))
    )
    draw = {"middle": canvas.drawCentredString, "end": canvas.drawRightString}.get(
        element.get("text-anchor", "start"), canvas.drawString
    )
    draw(float(element.attrib["x"]), -float(element.attrib["y"]), text)


def _parse(figure: Figure) -> ElementTree.Element:
    """Parse the plot, and add namespace, size and a white background, and every style as an attribute."""
    root = ElementTree.fromstring(str(figure.plot))
    width, height = root.attrib["viewBox"].split()[2:]
    if key := [item for item in figure.key if _has_line(root, item[0])]:
        height = _add_key(root, key, width, float(height))
    for element in root.iter():
        styles = _styles_of(element)
        element.attrib.pop("class", None)
        for name, value in styles.items():
            element.set(name, value)
    root.attrib.pop("style", None)
    for name, value in (("width", width), ("height", height), ("font-family", _FONT), ("font-size", _SIZE)):
        root.set(name, value)
    root.set("xmlns", "http://www.w3.org/2000/svg")
    ground = ElementTree.Element("rect", {"width": width, "height": height, "fill": "#ffffff"})
    root.insert(2, ground)
    return root


def _has_line(root: ElementTree.Element, style: str) -> bool:
    return any({"curve", style} <= set(element.get("class", "").split()) for element in root.iter())


def _add_key(root: ElementTree.Element, key: Key, width: str, height: float) -> str:
    """Add the meaning of the lines below the plot; return the new height."""
    for style, text in key:
        line = {"class": f"curve {style}", "x1": "42", "y1": f"{height + 4:g}", "x2": "74", "y2": f"{height + 4:g}"}
        root.append(ElementTree.Element("line", line))
        label = ElementTree.Element("text", {"class": "tick", "x": "82", "y": f"{height + 8:g}"})
        label.text = text
        root.append(label)
        height += _KEY_PITCH
    root.set("viewBox", f"0 0 {width} {height:g}")
    return f"{height:g}"


def _styles_of(element: ElementTree.Element) -> Styles:
    """Collect the styles that the style sheet's rules for plots give the element; later or more specific rules win."""
    classes = set(element.get("class", "").split())
    collected: Styles = {}
    for tag, needed, styles in _rules():
        if tag in ("", element.tag) and needed <= classes and (needed or tag):
            collected |= styles
    if element.tag == "text":
        collected = {name: value for name, value in collected.items() if not name.startswith("stroke")}
    return collected


@cache
def _rules() -> list[tuple[str, frozenset[str], Styles]]:
    """Parse the rules `svg …` of the page's style sheet with the light scheme's values, the most specific last."""
    css = re.sub(r"/\*.*?\*/", "", _PAGE_CSS.read_text(encoding="utf-8"), flags=re.DOTALL)
    light, css = css.split("@media", 1)[0], re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", "", css)
    colours = dict(re.findall(r"--([\w-]+):\s*([^;}]+)", light))
    rules = []
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", css):
        declared = dict(re.findall(r"([\w-]+)\s*:\s*([^;]+?)\s*(?:;|$)", body))
        styles = {
            name: "bold"
            if (name, value) == ("font-weight", "600")
            else re.sub(r"var\(--([\w-]+)\)", lambda match: colours[match[1]], value)
            for name, value in declared.items()
            if name not in _NOT_FOR_FILES
        }
        for selector in selectors.split(","):
            if match := re.fullmatch(r"svg ([a-z]*)((?:\.[\w-]+)*)", selector.strip()):
                rules.append((match[1], frozenset(match[2].split(".")[1:]), styles))
    return sorted(rules, key=lambda rule: (len(rule[1]), bool(rule[0])))


@cache
def _colour(name: str) -> Any:
    from reportlab.lib.colors import toColor

    return toColor(name)


@cache
def _register_fonts() -> frozenset[int]:
    """Register reportlab's own fonts, and return the characters that they have."""
    import reportlab
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    fonts = Path(reportlab.__file__).parent / "fonts"
    for weight, file in (("bold", "VeraBd.ttf"), ("normal", "Vera.ttf")):
        font = TTFont(f"{_PDF_FONT}-{weight}", str(fonts / file))
        pdfmetrics.registerFont(font)
    return frozenset(font.face.charToGlyph)
