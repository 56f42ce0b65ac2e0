"""Writing prompts in the report: what the intervals cover, and what cannot be separated."""

import pytest

from raysweep.config.loading import dump_config
from raysweep.publishing.bundle import write_bundle
from raysweep.publishing.verify import verify_bundle
from raysweep.report.writing import write_report
from tests.simulated_run import make_config


@pytest.mark.parametrize("prompts", [0, 1, 5])
def test_the_report_states_which_prompts_its_intervals_cover(make_run, prompts):
    """Cases: unknown prompts, one per level, or several that no two levels share."""
    folder, config, trials = make_run(make_config(resamples=300), prompts=prompts)
    evidence = write_report(folder, config, trials)
    assert evidence["prompts"]["by_level"] == (dict.fromkeys(evidence["levels"], prompts) if prompts else {})
    covered = {finding["prompts"] for finding in evidence["findings"]}
    assert covered == ({5, 25} if prompts == 5 else {0})
    warnings = " ".join(evidence["answer"]["warnings"])
    assert ("No two levels share a writing prompt" in warnings) is (prompts > 0)
    assert ("answer one writing prompt" in warnings) is (prompts == 1)
    fits = evidence["prompts"]["fits"]
    assert [fit["other"] for fit in fits] == (["specialised", "transfer"] if prompts == 5 else [])
    page = folder.report_html.read_text(encoding="utf-8")
    assert ("Writing prompts" in page) is (prompts > 0)
    assert ("mixed_models" in page) is (prompts == 5)


def test_prompts_are_numbered_in_a_bundle_and_give_the_same_intervals(make_run, tmp_path):
    """`verify` fits the mixed models again."""
    folder, config, trials = make_run(make_config(resamples=200), prompts=5)
    folder.config.write_text(dump_config(config), encoding="utf-8")
    write_report(folder, config, trials)
    write_bundle(folder, tmp_path / "evidence.zip")
    assert verify_bundle(tmp_path / "evidence.zip").differences == ()
