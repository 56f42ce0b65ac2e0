"""A trial's use of resources: every second in which it held slots counts once, under one purpose."""

import pytest

from raysweep.scheduling import attempts, records
from raysweep.scheduling.attempts import PARTS, slot_seconds
from raysweep.scheduling.ledger import write_ledger
from raysweep.scheduling.records import State
from raysweep.storage.atomic_files import read_json, write_json
from raysweep.storage.run_folder import RunFolder, TrialFolder


def begin(at, slots=1.0, last_written_at=None):
    return {"what": "begin", "at": at, "slots": slots, "unit": "gpu", "last_written_at": last_written_at}


def start(at, **kept):
    return {"what": "start", "at": at, "kept": kept}


def end(at, how, **kept):
    return {"what": "end", "at": at, "how": how, "kept": kept}


def over(at):
    return {"what": "over", "at": at}


UNDISTURBED = [begin(0), start(10), end(110, "done", data=5, step=75, evaluation=10, checkpoint=4), over(113)]
WORKER_KILLED = [
    *[begin(0), start(10, step=0), over(60)],  # 50 s in which 30 s of steps reached a checkpoint
    *[begin(60), start(70, step=30), end(150, "done", step=100), over(151)],
]
COMMAND_KILLED = [
    *[begin(0), start(10)],
    *[begin(1000, last_written_at=60), start(1010, step=30), end(1090, "done", step=100), over(1091)],
]
ERROR = [begin(0), start(10), end(40, "error", step=20), over(41)]
NEVER_THERE = [begin(0), over(30)]

CASES = {
    "undisturbed": (UNDISTURBED, [80, 10, 4, 6, 13, 0]),
    "its worker was killed": (WORKER_KILLED, [100, 0, 0, 10, 21, 20]),
    "the command was killed, and run again much later": (COMMAND_KILLED, [100, 0, 0, 10, 21, 20]),
    "an error": (ERROR, [20, 0, 0, 0, 11, 10]),
    "no worker ever came": (NEVER_THERE, [0, 0, 0, 0, 0, 30]),
}


@pytest.mark.parametrize("name", CASES)
def test_each_second_of_an_attempt_has_exactly_one_category(name):
    """Lost steps are wasted; steps in a checkpoint from which a later attempt resumes are not."""
    events, expected = CASES[name]
    assert list(slot_seconds(events).values()) == expected
    assert tuple(slot_seconds(events)) == PARTS


@pytest.mark.parametrize("name", ["undisturbed", "its worker was killed", "an error", "no worker ever came"])
def test_categories_sum_to_the_time_held(name):
    """No time is counted twice or omitted."""
    events, _ = CASES[name]
    assert sum(slot_seconds(events).values()) == events[-1]["at"]


def test_a_trial_on_half_a_gpu_counts_half():
    """The unit is slot-seconds, so that trials packed onto one GPU add up to it."""
    half = [begin(0, slots=0.5), *UNDISTURBED[1:]]
    assert slot_seconds(half)["useful"] == 40


def test_a_killed_attempt_of_an_older_version_counts_until_its_last_write():
    """Earlier versions noted the last write as `last_sign`."""
    again = {"what": "begin", "at": 1000, "slots": 1.0, "unit": "gpu", "last_sign": 200}
    assert slot_seconds([begin(0), start(10), again, over(1000)])["wasted"] == 190


def test_time_between_a_kill_and_the_next_command_is_not_counted(tmp_path):
    """Between the kill, whose time nobody recorded, and the next command, no GPU was held."""
    folder = TrialFolder(tmp_path / "A1")
    records.begin(folder, trial="A1", fingerprint="x", identity={}, now=folder_time(folder) - 5)
    again = records.begin(folder, trial="A1", fingerprint="x", identity={}, now=folder_time(folder) + 3600)
    assert again.failures == {"lost process": 1}
    assert again.attempts == 2
    assert 5 <= again.busy_seconds < 60
    ended = records.end(folder, again, State.DONE, now=again.started_at + 7)
    assert ended.ledger["wasted"] < 60 + 7


def folder_time(folder):
    """Return the current time according to the disk."""
    attempts_file = folder.root / "clock"
    folder.root.mkdir(parents=True, exist_ok=True)
    attempts_file.touch()
    return attempts_file.stat().st_mtime


def test_kept_steps_are_read_from_the_newest_intact_checkpoint(tmp_path):
    """Only the record is read; a record damaged by a kill does not count."""
    folder = TrialFolder(tmp_path)
    for step, seconds in ((100, 1.0), (200, 2.0)):
        write_json(
            folder.checkpoints / f"step-{step:08d}" / "checkpoint.json", {"state": {"seconds": {"step": seconds}}}
        )
    torn = folder.checkpoints / "step-00000300" / "checkpoint.json"
    torn.parent.mkdir()
    torn.write_text('{"state":')
    assert attempts.kept_seconds(folder) == {"step": 2.0}
    assert attempts.kept_seconds(TrialFolder(tmp_path / "none")) == {}


def test_a_damaged_event_is_left_out(tmp_path):
    """Its time is then charged to another part; `status` and the report do without it."""
    run = RunFolder(tmp_path)
    attempts.note(run.trial("A1"), "begin", now=0.0, slots=1, unit="gpu")
    attempts.note(run.trial("A1"), "over", now=2.0, state="done")
    with run.trial("A1").attempts.open("ab") as file:
        file.write(b'{"what": "begin", "at": 1.0}\n{"what": "bagin"}\n[]\n\xff\n')
    assert write_ledger(run, ["A1"])["trials"]["A1"]["attempts"] == 1


def test_the_ledger_sums_trials_and_lists_searches_separately(tmp_path):
    """The search's samples belong to its trial's cost."""
    run = RunFolder(tmp_path)
    for folder, useful in ((run.trial("A1"), 3.0), (TrialFolder(run.trial("B1").root / "samples" / "00"), 5.0)):
        record = records.begin(folder, trial="x", fingerprint="x", identity={}, slots=1, unit="gpu", now=0.0)
        attempts.note(folder, "start", now=1.0, kept={})
        attempts.note(folder, "end", now=1.0 + useful, how="done", kept={"step": useful})
        records.end(folder, record, State.DONE, now=1.0 + useful)
    write_ledger(run, ["A1", "B1", "never begun"])
    ledger = read_json(run.ledger)
    assert ledger["unit"] == "gpu"
    assert ledger["total"] == {**dict.fromkeys(PARTS, 0.0), "useful": 8.0, "starting": 2.0}
    assert ledger["searches"]["B1"]["useful"] == 5.0
    assert set(ledger["trials"]) == {"A1", "B1"}
    assert ledger["trials"]["A1"]["attempts"] == 1
