"""The walls of the house: who may load what, and that the README says what the code is."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("ray", "torch", "transformers")
PURE = [
    "raysweep",
    "raysweep.cli.app",
    "raysweep.cli.settings",
    "raysweep.cli.plan_output",
    "raysweep.cli.progress_view",
    "raysweep.config.loading",
    "raysweep.corpus.preparing",
    "raysweep.corpus.sample",
    "raysweep.masking.mask_shard",
    "raysweep.masking.example_store",
    "raysweep.model.start_folder",
    "raysweep.pipeline.run",
    "raysweep.pipeline.inline_executor",
    "raysweep.pipeline.status",
    "raysweep.inference.loaded_run",
    "raysweep.report.writing",
    "raysweep.scheduling.order",
    "raysweep.statistics.hypotheses",
    "raysweep.storage.run_folder",
    "raysweep.training.job",
]


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_loads_nothing_heavy(module):
    """The Ray stack alone takes seconds to import; help, plan and config errors must answer at once."""
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_every_package_init_holds_only_a_docstring():
    """Importing `evaluation.matrix` must not pull torch in through its neighbours."""
    for path in (ROOT / "raysweep").glob("*/__init__.py"):
        body = path.read_text(encoding="utf-8").strip()
        assert re.fullmatch(r'"""[^"]*"""', body), path


def test_the_readme_lists_the_rooms_in_layer_order():
    """A line per room, in the order of the layers."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    stacked = [name.strip().removeprefix("raysweep.") for layer in layers for name in layer.split("|")]
    rooms = {path.parent.name for path in (ROOT / "raysweep").glob("*/__init__.py")}
    rooms |= {path.stem for path in (ROOT / "raysweep").glob("[!_]*.py")}
    assert set(stacked) == rooms
    tree = readme[readme.index("raysweep/\n") :].split("```")[0]
    drawn = re.findall(r"^  (\w+)(?:/|\.py) ", tree, flags=re.MULTILINE)
    assert drawn == stacked


def test_the_readmes_links_resolve():
    """A link to a file that moved is a small lie."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", readme):
        assert (ROOT / target).exists(), target


def test_file_and_class_names_are_unique():
    """A name that means two things is looked up in the wrong room."""
    files = [path.name for path in (ROOT / "raysweep").rglob("*.py") if not path.name.startswith("__")]
    classes = [
        node.name
        for path in (ROOT / "raysweep").rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [name for name, count in Counter(files + classes).items() if count > 1] == []


def test_every_docstring_is_a_sentence_about_its_own_subject():
    """A docstring that begins with "Of" describes a noun which the reader must look for elsewhere."""
    for path in (ROOT / "raysweep").rglob("*.py"):
        assert not re.findall(r'^.*"""Of .*$', path.read_text(encoding="utf-8"), flags=re.MULTILINE), path


def test_no_file_is_longer_than_350_lines():
    """A longer file has more than one reason to change."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "raysweep").rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > 350} == {}


PRINTING = {"echo", "secho", "Console", "pprint", "print_exc", "print_exception"}


def _printing_calls(path):
    """Calls that write to the terminal, by line: print, echo, a plain Console, the streams' own write."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            name, owner = called.split(".")[-1], called.split(".")[-2:-1]
            to_stream = owner and owner[0].strip("_") in {"stdout", "stderr"} and name in {"write", "writelines"}
            to_descriptor = called == "os.write" and ast.unparse(node.args[0]) in {"1", "2"}
            if called == "print" or name in PRINTING or to_stream or to_descriptor:
                yield node.lineno


def test_only_the_printing_module_prints(tmp_path):
    """Texts, names and paths of others pass one place that escapes them; a print elsewhere would let them through."""
    boundary = ROOT / "raysweep/storage/printable.py"
    lines = {path: list(_printing_calls(path)) for path in (ROOT / "raysweep").rglob("*.py")}
    assert len(lines.pop(boundary)) == 2
    assert {str(path): line for path, line in lines.items() if line} == {}
    sample = tmp_path / "sample.py"
    sample.write_text(
        "print(1)\ntyper.echo(2)\nsys.stderr.write(3)\nConsole()\nos.write(2, b'')\nconsole.print(4)\nsay(5)\n"
    )
    assert list(_printing_calls(sample)) == [1, 2, 3, 4, 5]
