"""Forged, damaged and hostile bundles are detected."""

import copy
import json
import re
import stat
import sys
import zipfile

import numpy as np
import pytest

from raysweep.cli.app import main
from raysweep.errors import InputError, RaysweepError
from raysweep.evidence import rounding
from raysweep.evidence.evidence_schema import Evidence
from raysweep.publishing import archive as archive_module
from raysweep.publishing.differences import shorten
from raysweep.publishing.recomputing import bundle_texts
from raysweep.publishing.verify import verify_bundle
from tests.publishing.forging import change_digit, edit_json, edit_table, pack, with_new_hashes


def digit_of(name: str, pattern: str):
    return lambda files: {**files, name: change_digit(files[name], pattern)}


def json_of(name: str, change):
    return lambda files: {**files, name: edit_json(files[name], change)}


def table_of(name: str, column: str, change):
    return lambda files: {**files, name: edit_table(files[name], column, change)}


def set_at(place: int, value) -> object:
    def change(values):
        values[place] = value

    return change


def nudge_first(values):
    values[0] = np.nextafter(values[0], np.inf)


def turn_verdict(evidence):
    confirmed = next(finding for finding in evidence["findings"] if finding["verdict"] == "confirmed")
    confirmed["verdict"] = "refuted"


def swap_losses(values):
    values[:] = np.roll(values, 1)


def move_last_digit(evidence):
    cell = evidence["matrix"]["rows"][0]["cells"]["A1"]
    cell["value"] = float(np.nextafter(cell["value"], np.inf))


TAMPERINGS = {
    "a digit of the page's verdict table": digit_of(
        "report/report.html", r'id="table-findings"[\s\S]*?>([\d.]+)<small>'
    ),
    "a digit in a plot": digit_of("report/report.html", r'<circle class="mark[^"]*" cx="([\d.]+)"'),
    "a word of the page": lambda f: {
        **f,
        "report/report.html": f["report/report.html"].replace(b"confirmed", b"CONFIRMED", 1),
    },
    "a digit of the Markdown": digit_of("report/report.md", r"\| A1 .*?\| (\d+\.\d+)"),
    "a digit of a CSV table": digit_of("report/tables/matrix.csv", r"\nall,(\d+\.\d+)"),
    "a digit of a TeX table": digit_of("report/tables/matrix.tex", r"all general & .*?(\d+\.\d+)"),
    "a verdict in the evidence": json_of("report/evidence.json", turn_verdict),
    "the last bit of a perplexity in the evidence": json_of("report/evidence.json", move_last_digit),
    "a key twice in the evidence": lambda f: {
        **f,
        "report/evidence.json": f["report/evidence.json"].replace(b'"version": 2', b'"version": 2, "version": 2'),
    },
    "NaN in the evidence": lambda f: {
        **f,
        "report/evidence.json": re.sub(rb'("low": )[\d.]+', rb"\1NaN", f["report/evidence.json"], count=1),
    },
    "the last bit of a loss": table_of("evaluation/losses.parquet", "nats", nudge_first),
    "losses in another order": table_of("evaluation/losses.parquet", "nats", swap_losses),
    "a loss that is no number": table_of("evaluation/losses.parquet", "nats", set_at(3, np.nan)),
    "a number of tokens": table_of("evaluation/losses.parquet", "tokens", set_at(0, 9)),
    "a document's level": table_of("corpus/documents.parquet", "level", set_at(0, "C1")),
    "a document's writer": table_of("corpus/documents.parquet", "learner", set_at(0, "learner-9")),
    "a document's split": table_of("corpus/documents.parquet", "split", set_at(-1, "test")),
    "a count of the corpus": json_of("corpus/splits.json", lambda v: v["counts"]["A1"].update(train=121)),
    "a training's validation loss": digit_of("trials/all/metrics.jsonl", r'"infill": (\d\.\d+)'),
    "a training's time": json_of("trials/A1/trial.json", lambda v: v.update(busy_seconds=1.0)),
    "a training's record made unreadable": lambda f: {**f, "trials/A1/trial.json": b"{}"},
    "a model's size": json_of("trials/A1/model.json", lambda v: v.update({"model.safetensors": 1})),
    "a margin in the config": lambda f: {**f, "config.yaml": f["config.yaml"].replace(b"margin: 1.1", b"margin: 1.9")},
    "a digit of the digest in the read-me": digit_of("README.txt", r"inputs:\s+[0-9a-f]*?(\d)[0-9a-f]*\n"),
    "a table left out": lambda f: {n: c for n, c in f.items() if n != "report/tables/gains.csv"},
    "the losses left out": lambda f: {n: c for n, c in f.items() if n != "evaluation/losses.parquet"},
    "the evidence left out": lambda f: {n: c for n, c in f.items() if n != "report/evidence.json"},
    "a file put in": lambda f: {**f, "report/supplement.html": b"<p>H1 confirmed.</p>"},
}


@pytest.mark.parametrize(
    ("name", "hashes"),
    [
        *((name, "made to fit") for name in TAMPERINGS),
        # Old hashes reveal any of them; a few cases are enough in CI.
        *(
            pytest.param(name, "old", marks=[] if number % 5 == 0 else [pytest.mark.slow])
            for number, name in enumerate(TAMPERINGS)
        ),
    ],
)
def test_every_kind_of_tampering_is_detected(honest, tmp_path, name, hashes):
    """The manifest is unchanged in one case; in the other, all its hashes match the forged files."""
    files = TAMPERINGS[name](honest)
    assert files != honest
    if hashes == "made to fit":
        files = with_new_hashes(files)
    verification = verify_bundle(pack(tmp_path / "evidence.zip", files))
    assert not verification.is_verified
    assert shorten(verification.differences, 5)


def test_an_unmodified_bundle_verifies(honest, tmp_path):
    """It verifies however it was packed; otherwise the tests above would prove nothing."""
    verification = verify_bundle(pack(tmp_path / "evidence.zip", with_new_hashes(honest)))
    assert verification.differences == ()
    assert verification.rounding == ()
    assert verification.recomputed.values > 500
    assert verification.recomputed.files > 20


def test_a_changed_hash_is_detected(honest, tmp_path):
    """The manifest itself may be what was changed."""
    changed = json_of("manifest.json", lambda v: v["files"].update({"report/report.md": "0" * 64}))(honest)
    (difference,) = verify_bundle(pack(tmp_path / "evidence.zip", changed)).differences
    assert difference.place == "report/report.md"


def test_a_difference_is_reported_with_place_stated_and_computed_value(honest, tmp_path):
    """The message has the file, the place in it, the stated value and the computed one."""
    files = TAMPERINGS["a digit of a CSV table"](honest)
    (difference,) = verify_bundle(pack(tmp_path / "evidence.zip", with_new_hashes(files))).differences
    stated, recomputed = (
        re.search(r"all,(\d+\.\d+)", f["report/tables/matrix.csv"].decode())[1] for f in (files, honest)
    )
    assert re.fullmatch(r"report/tables/matrix.csv line \d+", difference.place)
    assert stated[-6:] in difference.stated
    assert recomputed[-6:] in difference.found

    def change(evidence):
        evidence["findings"][0]["value"] += 0.25

    files = with_new_hashes(json_of("report/evidence.json", change)(honest))
    differences = verify_bundle(pack(tmp_path / "evidence.zip", files)).differences
    assert [difference.place for difference in differences] == ["report/evidence.json: findings[0].value"]


def test_consistently_forged_evidence_is_detected_by_the_losses(honest, tmp_path):
    """Even a consistent page made from false evidence disagrees with the losses."""
    evidence = json.loads(honest["report/evidence.json"])
    turn_verdict(evidence)
    files = {
        **honest,
        **{
            name: text.encode()
            for name, text in bundle_texts(Evidence.model_validate_json(json.dumps(evidence))).items()
        },
    }
    files["report/evidence.json"] = edit_json(json.dumps(evidence).encode(), lambda value: None)
    verification = verify_bundle(pack(tmp_path / "evidence.zip", with_new_hashes(files)))
    assert any("verdict" in difference.place for difference in verification.differences)


def test_claiming_other_software_does_not_excuse_a_difference(honest, tmp_path):
    """`made_with` is only a claim: naming another numpy or raysweep never turns exit code 1 into 0 or 2."""

    def other_software(manifest):
        manifest["made_with"] |= {"numpy": "0.9", "code": "0" * 12}

    for number, name in enumerate(list(TAMPERINGS)[::3]):
        files = json_of("manifest.json", other_software)(with_new_hashes(TAMPERINGS[name](honest)))
        verification = verify_bundle(pack(tmp_path / f"{number}.zip", files))
        assert not verification.is_verified, name
        assert {line.split()[0] for line in verification.other_software} == {"numpy", "code"}
    files = json_of("manifest.json", other_software)(honest)
    assert verify_bundle(pack(tmp_path / "honest.zip", files)).is_verified


def test_either_digit_is_accepted_at_a_rounding_boundary(honest, tmp_path, monkeypatch):
    """Other machines differ in the last bits of a sum; where they decide the ninth digit, both digits are right."""
    monkeypatch.setattr(rounding, "ACCURACY", 1e-9)  # so that these few hundred values include such a one
    evidence = json.loads(honest["report/evidence.json"])
    numbers = [
        (row, level, step)
        for row, model_row in enumerate(evidence["matrix"]["rows"])
        for level in model_row["cells"]
        for step in (-1, 1)
    ]
    reported = 0
    for row, level, step in numbers:
        moved = copy.deepcopy(evidence)
        cell = moved["matrix"]["rows"][row]["cells"][level]
        cell["value"] = rounding.rounded(cell["value"] * (1 + 1e-9 * step))
        if cell["value"] == evidence["matrix"]["rows"][row]["cells"][level]["value"]:
            continue
        content = edit_json(json.dumps(moved).encode(), lambda value: None)
        texts = bundle_texts(Evidence.model_validate_json(content))
        files = {**honest, **{name: text.encode() for name, text in texts.items()}, "report/evidence.json": content}
        verification = verify_bundle(pack(tmp_path / "evidence.zip", with_new_hashes(files)))
        if verification.is_verified:
            reported += 1
            assert len(verification.rounding) == 1
    assert reported


def test_another_raysweep_version_is_reported_without_changing_the_result(honest, tmp_path):
    """It may compute differently for good reasons; but the version is only a claim, so it is not verified here."""

    def other_version(manifest):
        manifest["made_with"]["raysweep"] = "0.0.7"

    files = json_of("manifest.json", other_version)(honest)
    (difference,) = verify_bundle(pack(tmp_path / "forged.zip", files)).differences
    assert str(difference) == "manifest.json: made_with.raysweep: stated 0.0.7, the evidence says 0.1.0"
    older = json_of("report/evidence.json", lambda values: values.update(raysweep="0.0.7"))(files)
    verification = verify_bundle(pack(tmp_path / "older.zip", with_new_hashes(older)))
    assert "report/evidence.json: raysweep" in [difference.place for difference in verification.differences]
    assert verification.other_software == ("raysweep 0.0.7 (here 0.1.0)",)


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil", "report/../../evil", "a\\b", "C:evil", "./x", "a//b", ""])
def test_a_path_outside_the_bundle_is_refused(honest, tmp_path, name):
    """A zip may name any path on the disk; nothing is unpacked."""
    entry = zipfile.ZipInfo("x")
    entry.filename = name
    path = tmp_path / "here" / "evidence.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(pack(path, honest), "a") as archive:
        archive.writestr(entry, b"evil")
    with pytest.raises(InputError, match="plain path"):
        verify_bundle(path)
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("name", ["report/report.html", "report/REPORT.html"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_duplicate_name_is_refused(honest, tmp_path, name):
    """Unzipping could take one and the verifier the other; case-insensitive disks are considered, too."""
    with zipfile.ZipFile(pack(tmp_path / "evidence.zip", honest), "a") as archive:
        archive.writestr(name, b"another page")
    with pytest.raises(InputError, match="used twice"):
        verify_bundle(tmp_path / "evidence.zip")


def test_a_symbolic_link_is_refused(honest, tmp_path):
    """A link could make the verifier read a file of its own disk."""
    entry = zipfile.ZipInfo("report/link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(pack(tmp_path / "evidence.zip", honest), "a") as archive:
        archive.writestr(entry, b"/etc/passwd")
    with pytest.raises(InputError, match="a link"):
        verify_bundle(tmp_path / "evidence.zip")


def test_a_zip_bomb_is_refused(honest, tmp_path, monkeypatch):
    """It is refused by the size it states, and by the size it really unpacks to."""
    monkeypatch.setattr(archive_module, "MAX_BYTES", 2_000_000)
    path = tmp_path / "evidence.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", honest["manifest.json"])
        archive.writestr("bomb", b"0" * 3_000_000)
    assert path.stat().st_size < 30_000
    with pytest.raises(InputError, match="would unpack to more than"):
        verify_bundle(path)
    # The same bomb, with headers that state a small size.
    content = path.read_bytes().replace((3_000_000).to_bytes(4, "little"), (300).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(InputError):
        verify_bundle(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"no zip at all", b"PK\x05\x06" + b"\0" * 18],
    ids=["empty", "no zip", "a zip without files"],
)
def test_a_file_that_is_not_a_bundle_is_refused(tmp_path, content):
    """It ends with one line and exit code 2, never a traceback."""
    (tmp_path / "evidence.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"evidence\.zip"):
        verify_bundle(tmp_path / "evidence.zip")


@pytest.mark.parametrize(
    "manifest",
    [b"{}", b"[]", b"{", b"\xff", b'{"files": [], "made_with": {}, "format": 1, "run": "x"}', b"[" * 100_000],
)
def test_an_unreadable_manifest_is_refused(honest, tmp_path, manifest):
    """Its content does not matter."""
    with pytest.raises(InputError, match=r"manifest\.json"):
        verify_bundle(pack(tmp_path / "evidence.zip", {**honest, "manifest.json": manifest}))


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".."])
def test_a_run_name_that_is_a_path_is_refused(honest, tmp_path, name):
    """The manifest names the folder into which the bundle is unpacked."""
    files = json_of("manifest.json", lambda v: v.update(run=name))(honest)
    with pytest.raises(RaysweepError) as raised:
        verify_bundle(pack(tmp_path / "evidence.zip", files))
    assert raised.value.exit_code == 2


def test_a_truncated_or_corrupted_download_is_detected(honest, tmp_path):
    """It is cut anywhere, or has a flipped byte."""
    whole = pack(tmp_path / "whole.zip", honest).read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be unpacked"):
        verify_bundle(cut)
    place = whole.index(b"report/report.md") + 500
    cut.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(InputError, match="unpack"):
        verify_bundle(cut)


def run_verify(path, monkeypatch, capsys):
    """Run the command as a script would; return the exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["raysweep", "verify", str(path)])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code or 0, *capsys.readouterr()


def test_the_exit_code_of_verify_gives_the_result(honest, tmp_path, monkeypatch, capsys):
    """0: verified; 1: the results do not follow from the losses; 2: the bundle could not be checked."""
    code, out, err = run_verify(pack(tmp_path / "evidence.zip", honest), monkeypatch, capsys)
    assert (code, err) == (0, "")
    digest = json.loads(honest["report/evidence.json"])["inputs"]["digest"]
    assert f"digest of the inputs: {digest}" in out
    assert digest in honest["report/report.html"].decode()
    forged = with_new_hashes(TAMPERINGS["a digit of a CSV table"](honest))
    code, out, err = run_verify(pack(tmp_path / "forged.zip", forged), monkeypatch, capsys)
    assert code == 1
    assert "report/tables/matrix.csv line" in err
    assert "NOT VERIFIED: 1 difference" in err
    assert "verified in" not in out
    code, out, err = run_verify(tmp_path / "nowhere.zip", monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert "no such file" in err
    code, out, err = run_verify(tmp_path, monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert f"{tmp_path}: is a folder; name the zip" in err
