"""Reads XML files whose records are elements, which the layout names (`XmlShape`).

A cell is the text of an element or an attribute.  Markup inside a text is kept as tags, which `data.clean` removes and
counts.  External entities are not read, and files that declare entities are refused.
"""

import io
from xml.etree.ElementTree import Element, ParseError, iterparse

import numpy as np
import pyarrow as pa

from raysweep.errors import InputError
from raysweep.readers.raw_columns import CELL, RawColumns, ReadOptions, choose_columns

_HEAD = 1 << 16


def read_xml(name: str, data: bytes, options: ReadOptions) -> RawColumns:
    """Read the records of an XML file.

    Raises:
        InputError: no layout names the records, there are none, or the file is not well-formed.
    """
    shape = options.xml
    if shape is None:
        raise InputError(f"{name}: is XML; which of its elements are texts is said by a layout. Name it in data.layout")
    if b"<!ENTITY" in data[:_HEAD]:
        raise InputError(f"{name}: declares XML entities, which are not read. Remove its DOCTYPE")
    header = tuple(shape.columns)
    roles, names = choose_columns(options, name, header)
    cells: dict[str, list[bytes]] = {column: [] for column in names}
    count, root = 0, None
    try:
        for event, element in iterparse(io.BytesIO(data), events=("start", "end")):
            root = element if root is None else root
            if event == "start" or _local(element) != shape.record:
                continue
            for inner in element.iter():
                inner.tag = _local(inner)
            for column in names:
                cells[column].append(_find(element, shape.columns[column]).encode())
            count += 1
            if element is not root:
                root.clear()
    except ParseError as error:
        line, column_number = error.position
        where = f"line {line}, column {column_number + 1}"
        raise InputError(
            f"{name}: is not well-formed XML at {where} ({error.msg.split(':')[0]}). Copy it again"
        ) from error
    if not count:
        raise InputError(f"{name}: has no element <{shape.record}>; is it of the layout that data.layout names?")
    table = pa.table({column: pa.array(values, CELL) for column, values in cells.items()})
    return RawColumns(table=table, row_numbers=np.arange(1, count + 1, dtype=np.int64), header=header, roles=roles)


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _find(record: Element, path: str) -> str:
    """Return the text at a path; the texts of several elements are joined by line breaks."""
    path, _, attribute = path.partition("@") if path.count("@") == 1 and "[" not in path else _split(path)
    elements = record.findall(path.rstrip("/")) if path.rstrip("/") else [record]
    if attribute:
        return next((element.get(attribute, "") for element in elements), "")
    return "\n".join(_inner(element).strip() for element in elements)


def _split(path: str) -> tuple[str, str, str]:
    """Separate a path with a condition from the attribute after it."""
    before, mark, attribute = path.rpartition("/@")
    return (before, mark, attribute) if mark and "]" not in attribute else (path, "", "")


def _inner(element: Element) -> str:
    """Return the text inside an element, with its markup as plain tags."""
    parts = [element.text or ""]
    for child in element:
        inner = _inner(child)
        parts.append(f"<{child.tag}>{inner}</{child.tag}>" if inner else f"<{child.tag}/>")
        parts.append(child.tail or "")
    return "".join(parts)
