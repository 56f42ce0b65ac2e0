"""The book of a sweep without Ray: what is released when, what the records say, how a search goes."""

import pytest

from raysweep.config.training_settings import SearchConfig
from raysweep.pipeline.capacity import Capacity, ResourceRequest
from raysweep.pipeline.search_rounds import ROUND
from raysweep.pipeline.sweep_state import Book
from raysweep.scheduling.failures import Failure
from raysweep.scheduling.outcomes import Failed, Finished, Stopped
from raysweep.scheduling.records import State, read_record
from raysweep.scheduling.stop_requests import requested_stop
from raysweep.storage.run_folder import RunFolder
from tests.sweep_tasks import Remembering, make_task

LOSSES = [3.0, 2.0, 1.5, 2.5, 1.0, 4.0]
SEARCH = SearchConfig(samples=6, space={"learning_rate": {"low": 1e-4, "high": 1e-2}})


class Dictated:
    """Suggestions that are written down beforehand, with all that was told before each was drawn."""

    def __init__(self, rates=None):
        self.rates = rates or [1e-3 * (sample + 1) for sample in range(len(LOSSES))]
        self.told = {}
        self.known = []

    def ask(self):
        self.known.append(dict(self.told))
        return {"learning_rate": self.rates[len(self.known) - 1]}

    def tell(self, sample, loss):
        self.told[sample] = loss


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def open_book(tasks, *, cpus=2, gpus=0, share=0, suggestions=None, **how):
    needs = {task.job.trial: ResourceRequest(cpus=1, gpus=share) for task in tasks}
    return Book(
        tasks,
        needs=needs,
        capacity=Capacity(cpus=cpus, gpus=gpus),
        listener=Remembering(),
        suggestions=lambda task: suggestions,
        **how,
    )


def released(book):
    """The names of all that may start now; they start."""
    names = []
    while (unit := book.release()) is not None:
        book.begin(unit.name)
        names.append(unit.name)
    return names


def done(loss=1.0):
    return Finished(result={"steps": 3, "best_step": 3, "best_losses": {"infill": loss}})


def leave_model(run, name):
    folder = run.trial("A1").root / "samples" / name[-2:] / "model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.txt").write_text(name)


def run_samples(book, run, *, order=min, failing=()):
    """Carry the search of A1 out, the samples of each moment ending in the order given."""
    started, running = [], released(book)
    while running:
        started += running
        while running:
            name = order(running)
            running.remove(name)
            leave_model(run, name)
            sample = int(name[-2:])
            book.end(name, Failed(message="out of memory") if sample in failing else done(LOSSES[sample]))
            more = released(book)
            started += more
            running += more
    return started


def test_no_more_trials_run_than_there_are_cores(run):
    """Two cores, one each; the general model goes first because a fine-tune waits for it."""
    book = open_book(
        [make_task(run, "A1"), make_task(run, "B1"), make_task(run, "all"), make_task(run, "x", parent="all")]
    )
    assert released(book) == ["all", "A1"]
    book.end("A1", done())
    assert released(book) == ["B1"]


def test_a_record_is_in_place_before_its_child_is_released(run):
    """A child that starts must find its parent done, whoever looks."""
    book = open_book([make_task(run, "all"), make_task(run, "all-A1", parent="all")])
    released(book)
    assert read_record(run.trial("all")).state is State.RUNNING
    book.end("all", done())
    assert read_record(run.trial("all")).state is State.DONE
    assert released(book) == ["all-A1"]


def test_a_driver_that_never_started_is_a_failure_with_its_reason(run):
    """Tune reports its loss without ever having reported a start."""
    book = open_book([make_task(run, "A1")])
    assert book.release().name == "A1"
    book.end("A1", Failed(message="the process that drives it was lost: no memory"))
    record = read_record(run.trial("A1"))
    assert record.state is State.FAILED
    assert record.reason.startswith("the process that drives it was lost: no memory")
    assert book.is_over


def test_what_runs_when_the_sweep_stops_is_recorded_as_stopped(run):
    """What waits keeps no record: it was never begun."""
    book = open_book([make_task(run, "A1"), make_task(run, "B1")], cpus=1)
    released(book)
    book.stop("interrupted")
    record = read_record(run.trial("A1"))
    assert (record.state, record.reason) == (State.STOPPED, "interrupted")
    assert read_record(run.trial("B1")) is None


def test_a_search_draws_its_samples_in_rounds(run):
    """A later round knows the results of all earlier ones, in the samples' order."""
    suggestions = Dictated()
    book = open_book([make_task(run, "A1", search=SEARCH)], cpus=8, suggestions=suggestions)
    started = run_samples(book, run)
    assert started == [f"A1/samples/{sample:02d}" for sample in range(6)]
    assert suggestions.known == [{}] * ROUND + [dict(enumerate(LOSSES[:ROUND]))] * 2


def test_what_a_search_tries_does_not_depend_on_how_many_trials_run_at_once(run, tmp_path):
    """One core or eight, ends in order or reversed: the same settings with the same knowledge."""
    knowledge = []
    for cpus, order in ((1, min), (8, max), (3, max)):
        suggestions = Dictated()
        place = RunFolder(tmp_path / f"{cpus}")
        book = open_book([make_task(place, "A1", search=SEARCH)], cpus=cpus, suggestions=suggestions)
        run_samples(book, place, order=order)
        knowledge.append(suggestions.known)
    assert knowledge[0] == knowledge[1] == knowledge[2]


def test_the_best_sample_is_the_trial_s_model_and_its_result(run):
    """Sample 4 has the lowest loss; a child may start only after that."""
    tasks = [make_task(run, "A1", search=SEARCH), make_task(run, "A1-B1", parent="A1")]
    book = open_book(tasks, suggestions=Dictated())
    assert run_samples_then(book, run) == ["A1-B1"]
    record = read_record(run.trial("A1"))
    assert record.state is State.DONE
    assert record.result["best_losses"] == {"infill": 1.0}
    assert record.result["search"]["sample"] == 4
    assert record.result["search"]["settings"] == {"learning_rate": 5e-3}
    assert (run.trial("A1").model / "model.txt").read_text() == "A1/samples/04"


def run_samples_then(book, run):
    """All samples of A1; returns what started of other trials."""
    others, running = [], released(book)
    while samples := [name for name in running if "/samples/" in name]:
        running.remove(samples[0])
        leave_model(run, samples[0])
        book.end(samples[0], done(LOSSES[int(samples[0][-2:])]))
        more = released(book)
        running += more
        others += [name for name in more if "/samples/" not in name]
    return others


def test_samples_that_fail_cost_only_themselves(run):
    """The best of the others is chosen, and Optuna learns that those were bad."""
    suggestions = Dictated()
    book = open_book([make_task(run, "A1", search=SEARCH)], suggestions=suggestions)
    run_samples(book, run, failing={2, 4})
    record = read_record(run.trial("A1"))
    assert record.result["search"]["sample"] == 1
    assert suggestions.told == {0: 3.0, 1: 2.0, 2: None, 3: 2.5}
    assert [each["loss"] for each in record.result["search"]["tried"]] == [3.0, 2.0, None, 2.5, None, 4.0]


def test_a_search_fails_if_all_its_samples_do(run):
    """The first sample's reason is told; the children are blocked."""
    tasks = [make_task(run, "A1", search=SEARCH), make_task(run, "A1-B1", parent="A1")]
    book = open_book(tasks, suggestions=Dictated())
    run_samples(book, run, failing=set(range(6)))
    record = read_record(run.trial("A1"))
    assert record.state is State.FAILED
    assert record.reason.startswith("all 6 samples of its search failed; the first: out of memory")
    assert read_record(run.trial("A1-B1")).state is State.BLOCKED
    assert book.is_over


def test_settings_that_no_training_may_have_fail_their_sample_alone(run):
    """A range of the config may reach outside of what the schema allows."""
    suggestions = Dictated(rates=[1e-3, -1.0, 1e-3, 1e-3, 1e-3, 1e-3])
    book = open_book([make_task(run, "A1", search=SEARCH)], suggestions=suggestions)
    started = run_samples(book, run)
    assert "A1/samples/01" not in started
    assert suggestions.told[1] is None
    assert read_record(run.trial("A1")).state is State.DONE


def test_finished_samples_of_an_interrupted_search_are_not_trained_again(run):
    """The same rounds are drawn again, and what is done with the same settings is told at once."""
    task = make_task(run, "A1", search=SEARCH)
    book = open_book([task], cpus=1, suggestions=Dictated())
    for name in ("A1/samples/00", "A1/samples/01"):
        assert released(book) == [name]
        leave_model(run, name)
        book.end(name, done(LOSSES[int(name[-2:])]))
    released(book)
    book.stop("interrupted")
    assert read_record(run.trial("A1")).state is State.STOPPED

    again = Dictated()
    assert run_samples(open_book([task], cpus=1, suggestions=again), run)[0] == "A1/samples/02"
    assert again.told == dict(enumerate(LOSSES[:ROUND]))
    assert read_record(run.trial("A1")).result["search"]["sample"] == 4


def test_a_sample_with_other_settings_is_trained_anew(run):
    """A changed range draws other settings; the old sample's result says nothing about them."""
    task = make_task(run, "A1", search=SEARCH)
    run_samples(open_book([task], suggestions=Dictated()), run)
    other = Dictated(rates=[2e-3, *[1e-3 * (sample + 1) for sample in range(1, 6)]])
    assert run_samples(open_book([task], suggestions=other), run) == ["A1/samples/00"]


def test_a_halt_asks_what_runs_to_stop_and_starts_nothing_more(run):
    """At a budget's cap: each training saves a checkpoint; its record says why, and the next run goes on."""
    book = open_book([make_task(run, "all"), make_task(run, "A1"), make_task(run, "all-A1", parent="all")], cpus=2)
    assert released(book) == ["all", "A1"]
    book.halt("budget: 1 of 1 GPU hours are used")
    assert requested_stop(run.trial("all")) == "budget: 1 of 1 GPU hours are used"
    book.end("all", Stopped(reason="budget: 1 of 1 GPU hours are used", steps=2))
    book.end("A1", done())
    assert released(book) == []
    assert book.is_over
    record = read_record(run.trial("all"))
    assert (record.state, record.reason) == (State.STOPPED, "budget: 1 of 1 GPU hours are used")
    assert read_record(run.trial("A1")).state is State.DONE
    assert read_record(run.trial("all-A1")) is None


def test_a_training_that_starts_late_is_asked_to_stop_too(run):
    """It was released before the halt, and its driver took its time."""
    book = open_book([make_task(run, "A1")])
    assert book.release().name == "A1"
    book.halt("interrupted")
    book.begin("A1")
    assert requested_stop(run.trial("A1")) == "interrupted"


def failed(kind, message="it broke"):
    return Failed(message=message, failure=Failure(kind))


def test_a_lost_worker_goes_on_and_each_loss_is_counted_and_said(run):
    """Bounded by resources.max_failures; the record keeps the count by kind."""
    book = open_book([make_task(run, "A1")], max_failures=1)
    released(book)
    book.end("A1", failed("lost worker"))
    assert read_record(run.trial("A1")).state is State.PENDING
    assert released(book) == ["A1"]
    record = read_record(run.trial("A1"))
    assert (record.attempts, record.failures) == (2, {"lost worker": 1})
    book.end("A1", failed("lost worker", "its worker was lost"))
    record = read_record(run.trial("A1"))
    assert (record.state, record.failures) == (State.FAILED, {"lost worker": 2})
    assert record.reason.startswith("its worker was lost (2 times, resources.max_failures: 1; log: ")
    assert book.is_over


def test_a_training_that_ran_out_of_memory_beside_others_is_tried_alone(run):
    """It waits for the others to end, and nothing overtakes it or starts beside it."""
    book = open_book([make_task(run, name) for name in ("A1", "A2", "B1", "B2")], cpus=2)
    assert released(book) == ["A1", "A2"]
    book.end("A1", failed("out of memory"))
    assert released(book) == []
    book.end("A2", done())
    assert released(book) == ["A1"]
    book.end("A1", failed("out of memory"))
    assert read_record(run.trial("A1")).reason.startswith("it broke (alone too; log: ")
    assert released(book) == ["B1", "B2"]


def test_a_training_that_shared_a_gpu_gets_one_for_itself(run):
    """Others go on, on the other GPUs."""
    book = open_book([make_task(run, name) for name in ("A1", "A2", "B1", "B2")], cpus=9, gpus=2, share=0.5)
    assert released(book) == ["A1", "A2", "B1", "B2"]
    book.end("A1", failed("out of memory"))
    assert released(book) == []
    book.end("A2", done())
    assert released(book) == ["A1"]
    assert (book.need("A1").gpus, book.need("B1").gpus) == (1.0, 0.5)


def test_a_loss_that_is_not_finite_gets_one_more_try(run):
    """From the last checkpoint, which is sound; the message names the batch both times."""
    book = open_book([make_task(run, "A1"), make_task(run, "x", parent="A1")])
    released(book)
    message = "A1: the loss is not finite at step 3 (documents 4, 7)"
    book.end("A1", failed("not finite", message))
    assert released(book) == ["A1"]
    book.end("A1", failed("not finite", message))
    record = read_record(run.trial("A1"))
    assert record.reason.startswith(message)
    assert record.failures == {"not finite": 2}
    assert read_record(run.trial("x")).state is State.BLOCKED


def test_with_fail_fast_the_first_failure_stops_the_others_at_a_checkpoint(run):
    """Without it one bad model costs its own fine-tunes only."""
    book = open_book([make_task(run, name) for name in ("A1", "A2", "B1")], fail_fast=True)
    assert released(book) == ["A1", "A2"]
    book.end("A1", failed("error"))
    assert requested_stop(run.trial("A2")) == "--fail-fast: A1 failed"
    assert released(book) == []
    book.end("A2", Stopped(reason="--fail-fast: A1 failed", steps=2))
    assert book.is_over
    assert read_record(run.trial("A2")).state is State.STOPPED


def test_what_was_to_go_on_when_the_sweep_halted_is_recorded_as_stopped(run):
    """A lost worker is not replaced any more, and nothing runs without end."""
    book = open_book([make_task(run, "A1")], max_failures=1)
    released(book)
    book.halt("interrupted (Ctrl-C)")
    book.end("A1", failed("lost worker"))
    assert released(book) == []
    assert book.is_over
    book.stop("interrupted (Ctrl-C)")
    assert read_record(run.trial("A1")).state is State.STOPPED
