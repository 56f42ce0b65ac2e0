"""The page of simulated runs of several shapes."""

import pytest

from raysweep.report.writing import write_report
from tests.simulated_run import SHAPES, make_run


@pytest.fixture(params=SHAPES, scope="session")
def page_text(request, tmp_path_factory):
    folder, config, trials = make_run(tmp_path_factory.mktemp("shape"), **SHAPES[request.param])
    write_report(folder, config, trials)
    return folder.report_html.read_text(encoding="utf-8")
