"""The cost of trainings and searches: hours from the ledger, costs from tokens, and the search itself."""

import numpy as np
import pytest

from raysweep.report.writing import write_report
from raysweep.scheduling import attempts
from raysweep.scheduling.capacity import ResourceRequest, gpus_of_trial
from raysweep.scheduling.ledger import write_ledger
from raysweep.storage.digests import read_sealed, write_sealed
from tests.report.rendering import tables_of
from tests.simulated_run import make_config


def hours_of(folder, config, trials, name):
    """Return a trial's hours in the report, after the sweep has written its ledger."""
    write_ledger(folder, list(trials))
    (row,) = (row for row in write_report(folder, config, trials)["trainings"] if row["trial"] == name)
    return row["hours"], row["hours_of"]


def hold(folder, resources, seconds, *, slots=None):
    """Record an attempt that holds what the scheduler grants on one GPU, for some time."""
    request = ResourceRequest(cpus=1, gpus=gpus_of_trial(resources, None, gpus=1))
    folder.attempts.unlink(missing_ok=True)
    attempts.note(
        folder, "begin", now=0.0, slots=request.slots if slots is None else slots, unit="gpu", last_written_at=None
    )
    attempts.note(folder, "over", now=seconds, state="done")


@pytest.mark.parametrize(("together", "hours"), [(1, 1.0), (4, 0.25)])
def test_a_trial_that_shares_a_gpu_counts_its_share(make_run, together, hours):
    """Four trials on one GPU for an hour are one GPU-hour, by the scheduler's requests."""
    config = make_config(resources={"trials_per_gpu": together})
    folder, config, trials = make_run(config)
    hold(folder.trial("all"), config.resources, 3600.0)
    assert hours_of(folder, config, trials, "all") == (pytest.approx(hours), "GPU")


def test_a_searched_trial_counts_its_samples_and_not_its_wall_time(make_run):
    """Three samples take half an hour on a quarter of a GPU; the search itself waits two hours and holds nothing."""
    config = make_config(resources={"trials_per_gpu": 4})
    folder, config, trials = make_run(config)
    hold(folder.trial("A1"), config.resources, 7200.0, slots=0.0)
    for number in range(3):
        hold(folder.trial("A1").sample(number), config.resources, 1800.0)
    assert hours_of(folder, config, trials, "A1") == (pytest.approx(3 * 0.5 / 4), "GPU")


def searched(make_run):
    """Make a run with a search for A1: the second sample won, the third was stopped at half of its steps."""
    space = {"learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}, "batch_size": {"choices": (8, 16)}}
    config = make_config()
    values = config.model_dump(by_alias=True, exclude_none=True)
    values["trials"]["A1"]["search"] = {"samples": 3, "space": space}
    folder, config, trials = make_run(type(config).model_validate(values))
    record = read_sealed(folder.trial("A1").record, fix="")
    tokens = record["result"]["tokens"]
    tried = [
        {"sample": 0, "settings": {"learning_rate": 2e-4, "batch_size": 8}, "loss": 2.9, "tokens": 1000},
        {"sample": 1, "settings": {"learning_rate": 5e-4, "batch_size": 16}, "loss": 2.5, "tokens": tokens},
        {"sample": 2, "settings": {"learning_rate": 1e-5, "batch_size": 8}, "loss": 3.5, "stopped_at": 200},
        {"sample": 3, "settings": {"learning_rate": 9e-4, "batch_size": 8}, "loss": None},
    ]
    tried = [{"stopped_at": None, "tokens": None, "busy_seconds": 1.0, **sample} for sample in tried]
    search = {"metric": "infill", "sample": 1, "settings": tried[1]["settings"], "tried": tried, "busy_seconds": 3.0}
    write_sealed(folder.trial("A1").record, {**record, "result": {**record["result"], "search": search}})
    return write_report(folder, config, trials), tokens


def test_a_search_is_reported_with_space_samples_and_winner(make_run):
    """The report shows what was varied, in which ranges, and the result."""
    evidence, _ = searched(make_run)
    tables = tables_of(evidence)
    assert [[cell.text for cell in row] for row in tables["searches"].rows] == [
        ["A1", "batch_size", "8, 16", "16"],
        ["A1", "learning_rate", "1e-05 to 0.001, logarithmic", "0.0005"],
    ]
    rows = [[cell.text for cell in row] for row in tables["search_samples"].rows]
    assert rows[1] == ["A1", "1", "batch_size 16; learning_rate 0.0005", "2.500", "kept"]
    assert [row[-1] for row in rows] == ["done", "kept", "stopped at step 200", "failed"]


def test_the_hours_of_a_strategy_are_its_tokens_at_the_median_speed(make_run):
    """A training slowed by its neighbours costs what its tokens cost; searches count in full."""
    evidence, tokens = searched(make_run)
    rows = {row["trial"]: row for row in evidence["trainings"]}
    assert rows["A1"]["tokens_tried"] == 1000 + tokens + tokens // 2
    compared = [row["step_seconds"] / row["tokens"] for row in rows.values()]
    rate = float(np.median(compared))
    cost = {way["name"]: way["cost"] for way in evidence["strategies"]}
    assert cost["general"]["hours"] == pytest.approx(rate * rows["all"]["tokens"] / 3600, rel=1e-6)
    own = sum(rows[level]["tokens_tried"] for level in evidence["levels"])
    assert cost["specialised"]["hours"] == pytest.approx(rate * own / 3600, rel=1e-6)
