"""Make reports without the PDFs of their figures."""

import pytest


@pytest.fixture(autouse=True, scope="package")
def figures_without_pdf():
    """Drawing them takes as long as all evidence; tests/report draws and reads them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raysweep.report.writing.figure_pdf", lambda figure: b"%PDF-")
        yield
