"""However a bundle's files are damaged, `verify` answers: verified, not verified (with the place), or refused."""

import io
import json
import random
import re
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.errors import InputError
from raysweep.publishing.verify import verify_bundle
from tests.publishing.forging import pack, with_new_hashes

ODD_VALUES = [None, True, -1, 0, 1e308, -0.0, 10**30, "", "x" * 5000, "\x1b[31m\u202e", [], [[]], {}, {"": {}}]
SAMPLED, ALL = 12, 700
SAMPLED_ZIPS, ALL_ZIPS = 80, 200


def flip(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def double(content: bytes, draw: random.Random) -> bytes:
    begin, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[begin:]


def put_in(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content))
    noise = draw.choice(
        [b"\0" * 9, b"\xff\xfe", b"NaN", b"{" * 3000, b"9" * 6000, b"\x1b[2J", b"null", b"-", b"]", b"!!int x"]
    )
    return content[:place] + noise + content[place:]


def replace_value(content: bytes, draw: random.Random) -> bytes:
    """Change a value, remove a key or add one, anywhere in JSON."""
    whole = json.loads(content)
    places = list(_places(whole))
    if not places:
        return b"null"
    owner, key = draw.choice(places)
    change = draw.randrange(4)
    if change == 0 and isinstance(owner, dict):
        del owner[key]
    elif change == 1 and isinstance(owner, dict):
        owner[f"{key}-more"] = owner[key]
    else:
        owner[key] = draw.choice(ODD_VALUES)
    return (json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _places(value):
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def replace_column(content: bytes, draw: random.Random) -> bytes:
    """Remove, duplicate, rename, retype, empty or alter a column of a Parquet file."""
    table = pq.read_table(io.BytesIO(content))
    index = draw.randrange(table.num_columns)
    name, count = table.column_names[index], len(table)
    columns = [
        pa.nulls(count),
        pa.array(["x"] * count),
        pa.array([-1] * count),
        pa.array([10**18] * count),
        pa.array([float("nan")] * count),
        pa.array([float("inf")] * count),
        pa.array([[1]] * count),
        pa.array([b"\xff"] * count),
        pa.array([None] * (count - 1) + ["A1"]),
    ]
    change = draw.randrange(5)
    if change == 0:
        table = table.drop_columns([name])
    elif change == 1:
        table = table.append_column(name, table[name])
    elif change == 2:
        table = table.slice(0, draw.choice([0, 1, count // 2]))
    else:
        table = table.set_column(index, name, draw.choice(columns))
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def change_files(files: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    """Change one file, replace it by another, or remove it."""
    name = draw.choice(sorted(files))
    content = files[name]
    changes = [flip, cut, double, put_in]
    if name.endswith(".json"):
        changes += [replace_value] * 8
    if name.endswith(".parquet"):
        changes += [replace_column] * 8
    change = draw.choice(changes)
    changed = change(content, draw) if content else b"x"
    kind = draw.randrange(20)
    if kind == 0:
        return {other: content for other, content in files.items() if other != name}
    if kind == 1:
        other = draw.choice(sorted(files))
        return {**files, name: files[other], other: content}
    return {**files, name: changed}


def is_same_table(first: bytes, second: bytes) -> bool:
    return pq.read_table(io.BytesIO(first)).equals(pq.read_table(io.BytesIO(second)))


def check_answer(path, files, honest) -> None:
    """Check that the answer is "verified" only if nothing relevant was changed, and else names a place or a reason.

    Other names in `made_with`, or another encoding of the same table, cannot be detected if their hashes match.
    """
    refusal, verification = None, None
    try:
        verification = verify_bundle(pack(path, files))
    except InputError as error:
        refusal = error
    if verification is None:
        assert refusal.exit_code == 2
        assert len(str(refusal)) < 500
    elif verification.is_verified:
        before, after = (json.loads(version_files["manifest.json"]) for version_files in (honest, files))
        assert after["made_with"].keys() == before["made_with"].keys()
        nothing = {"made_with": None, "files": None}
        assert {**after, **nothing} == {**before, **nothing}
        for name in honest.keys() - {"manifest.json"}:
            assert files[name] == honest[name] or is_same_table(files[name], honest[name])
    else:
        assert all(difference.place and len(str(difference)) < 700 for difference in verification.differences)


def seeds(sampled, count):
    return [pytest.param(seed, marks=() if seed < sampled else pytest.mark.slow) for seed in range(count)]


@pytest.mark.parametrize("seed", seeds(SAMPLED, ALL))
def test_damaged_files_never_crash_verify_and_never_pass(honest, tmp_path, seed):
    """In two of three cases the hashes match the damage, so that the damaged file is really read."""
    draw = random.Random(seed)
    files = change_files(honest, draw)
    if seed % 3 and "manifest.json" in files and files["manifest.json"] == honest["manifest.json"]:
        files = with_new_hashes(files)
    if files == honest:
        return
    check_answer(tmp_path / "evidence.zip", files, honest)


@pytest.mark.parametrize("seed", seeds(SAMPLED_ZIPS, ALL_ZIPS))
def test_a_damaged_zip_never_crashes_verify(honest, tmp_path, seed):
    """Bytes of the zip itself are flipped, cut, duplicated or inserted.

    Only damage that changes no file may pass: compressed data ends within a byte, whose remaining bits are unused.
    """
    draw = random.Random(seed)
    path = pack(tmp_path / "evidence.zip", honest)
    original = path.read_bytes()
    changed = draw.choice([flip, cut, double, put_in])(original, draw)
    if changed == original:
        return
    with zipfile.ZipFile(path) as archive:
        ends = {entry.header_offset - 1 for entry in archive.infolist()} | {archive.start_dir - 1}
    path.write_bytes(changed)
    refusal = ""
    try:
        assert verify_bundle(path).is_verified
    except InputError as error:
        refusal = str(error)
    assert len(refusal) < 500
    if not refusal:
        assert len(changed) == len(original)
        assert {place for place, byte in enumerate(changed) if byte != original[place]} <= ends


NUMBER = re.compile(rb"\d+\.\d+")


@pytest.mark.parametrize("kind", ["csv", "tex", "md", "html", "json"])
def test_a_change_of_the_last_digit_of_any_number_is_detected(honest, tmp_path, kind):
    """A few numbers in every kind of file change by one, with matching hashes and other software named."""
    draw = random.Random(kind)
    names = [
        name for name in honest if name.startswith("report/") and name.endswith(kind) and NUMBER.search(honest[name])
    ]
    for number in range(3 if kind == "html" else 5):
        name = draw.choice(names)
        content = honest[name]
        place = draw.choice([match.end() - 1 for match in NUMBER.finditer(content)])
        digit = (content[place] - ord("0") + draw.choice([1, 9])) % 10
        changed = content[:place] + str(digit).encode() + content[place + 1 :]
        files = {**honest, name: changed}
        manifest = json.loads(files["manifest.json"])
        manifest["made_with"] |= {"numpy": "0.9", "code": "0" * 12}
        files["manifest.json"] = json.dumps(manifest).encode()
        verification = verify_bundle(pack(tmp_path / f"{number}.zip", with_new_hashes(files)))
        assert not verification.is_verified, (name, content[place - 20 : place + 1])
        assert any(difference.place.startswith(name) for difference in verification.differences)
