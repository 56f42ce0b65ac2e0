"""The state of a sweep without Ray: what is released when, what the records say, how a search proceeds."""

import pytest

from raysweep.config.training_settings import SearchConfig
from raysweep.pipeline.sweep_state import SweepState
from raysweep.scheduling.capacity import Capacity, ResourceRequest
from raysweep.scheduling.failures import Failure
from raysweep.scheduling.outcomes import Failed, Finished, Stopped
from raysweep.scheduling.records import State, read_record
from raysweep.scheduling.retries import Retries
from raysweep.scheduling.stop_requests import requested_stop
from raysweep.scheduling.successive_halving import SEARCH_ROUND
from raysweep.storage.run_folder import RunFolder
from tests.sweep_tasks import RecordingListener, make_task

LOSSES = [3.0, 2.0, 1.5, 2.5, 1.0, 4.0]
SEARCH = SearchConfig(samples=6, space={"learning_rate": {"low": 1e-4, "high": 1e-2}})


class FixedSuggestions:
    """Suggestions fixed beforehand, with a record of everything that was told before each was drawn."""

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


def open_state(tasks, *, cpus=2, gpus=0, share=0, suggestions=None, **how):
    requests = {task.job.trial: ResourceRequest(cpus=1, gpus=share) for task in tasks}
    return SweepState(
        tasks,
        requests=requests,
        capacity=Capacity(cpus=cpus, gpus=gpus),
        listener=RecordingListener(),
        suggestions=lambda task: suggestions,
        **how,
    )


def released(state):
    """Start all trainings that may start now; return their names."""
    names = []
    while (training := state.release()) is not None:
        state.begin(training.name)
        names.append(training.name)
    return names


def done(loss=1.0):
    return Finished(result={"steps": 3, "best_step": 3, "best_losses": {"infill": loss}})


def leave_model(run, name):
    folder = run.trial("A1").root / "samples" / name[-2:] / "model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.txt").write_text(name)


def run_samples(state, run, *, order=min, failing=()):
    """Execute the search of A1, with the samples that run at the same time ending in the given order."""
    started, running = [], released(state)
    while running:
        started += running
        while running:
            name = order(running)
            running.remove(name)
            leave_model(run, name)
            sample = int(name[-2:])
            state.end(name, Failed(message="out of memory") if sample in failing else done(LOSSES[sample]))
            more = released(state)
            started += more
            running += more
    return started


def test_no_more_trials_run_than_cores_are_available(run):
    """Two cores, one each; the general model goes first because a fine-tune waits for it."""
    state = open_state(
        [make_task(run, "A1"), make_task(run, "B1"), make_task(run, "all"), make_task(run, "x", parent="all")]
    )
    assert released(state) == ["all", "A1"]
    state.end("A1", done())
    assert released(state) == ["B1"]


def test_the_parents_record_is_written_before_its_child_is_released(run):
    """A child that starts must find its parent done, whoever checks."""
    state = open_state([make_task(run, "all"), make_task(run, "all-A1", parent="all")])
    released(state)
    assert read_record(run.trial("all")).state is State.RUNNING
    state.end("all", done())
    assert read_record(run.trial("all")).state is State.DONE
    assert released(state) == ["all-A1"]


def test_a_driver_that_never_started_is_recorded_as_a_failure_with_its_reason(run):
    """Tune reports its loss without ever having reported a start."""
    state = open_state([make_task(run, "A1")])
    assert state.release().name == "A1"
    state.end("A1", Failed(message="the process that drives it was lost: no memory"))
    record = read_record(run.trial("A1"))
    assert record.state is State.FAILED
    assert record.reason.startswith("the process that drives it was lost: no memory")
    assert state.is_over


@pytest.mark.parametrize("first", [done(), Failed(message="out of memory"), Stopped(reason="budget", steps=2)])
def test_ending_a_finished_training_again_keeps_its_record(run, first):
    """Tune ends it again if the terminal is gone; that once counted an attempt that never ran, and lost the result."""
    state = open_state([make_task(run, "A1"), make_task(run, "x", parent="A1")])
    released(state)
    lines = state._listener.lines
    state._listener.lines = None  # nothing can be said
    with pytest.raises(AttributeError):
        state.end("A1", first)
    state._listener.lines = lines
    before = read_record(run.trial("A1"))
    state.end("A1", Failed(message="Input/output error"))
    assert read_record(run.trial("A1")) == before
    assert before.attempts == 1
    assert state.is_over
    state.mark_stopped("the sweep ended")
    assert read_record(run.trial("A1")) == before


def test_trainings_running_when_the_sweep_stops_are_recorded_as_stopped(run):
    """Waiting trials have no record, since they were never begun."""
    state = open_state([make_task(run, "A1"), make_task(run, "B1")], cpus=1)
    released(state)
    state.mark_stopped("interrupted")
    record = read_record(run.trial("A1"))
    assert (record.state, record.reason) == (State.STOPPED, "interrupted")
    assert read_record(run.trial("B1")) is None


def test_a_search_draws_its_samples_in_rounds(run):
    """A later round knows the results of all earlier ones, in the samples' order."""
    suggestions = FixedSuggestions()
    state = open_state([make_task(run, "A1", search=SEARCH)], cpus=8, suggestions=suggestions)
    started = run_samples(state, run)
    assert started == [f"A1/samples/{sample:02d}" for sample in range(6)]
    assert suggestions.known == [{}] * SEARCH_ROUND + [dict(enumerate(LOSSES[:SEARCH_ROUND]))] * 2


def test_sampled_settings_do_not_depend_on_concurrency(run, tmp_path):
    """With one core or eight, and with ends in order or reversed, the same settings are drawn from the same results."""
    knowledge = []
    for cpus, order in ((1, min), (8, max), (3, max)):
        suggestions = FixedSuggestions()
        place = RunFolder(tmp_path / f"{cpus}")
        state = open_state([make_task(place, "A1", search=SEARCH)], cpus=cpus, suggestions=suggestions)
        run_samples(state, place, order=order)
        knowledge.append(suggestions.known)
    assert knowledge[0] == knowledge[1] == knowledge[2]


def test_the_best_sample_becomes_the_trials_model_and_result(run):
    """Sample 4 has the lowest loss; a child may start only after it was chosen."""
    tasks = [make_task(run, "A1", search=SEARCH), make_task(run, "A1-B1", parent="A1")]
    state = open_state(tasks, suggestions=FixedSuggestions())
    assert run_samples_then(state, run) == ["A1-B1"]
    record = read_record(run.trial("A1"))
    assert record.state is State.DONE
    assert record.result["best_losses"] == {"infill": 1.0}
    assert record.result["search"]["sample"] == 4
    assert record.result["search"]["settings"] == {"learning_rate": 5e-3}
    assert (run.trial("A1").model / "model.txt").read_text() == "A1/samples/04"


def run_samples_then(state, run):
    """Run all samples of A1; return the other trials that started."""
    others, running = [], released(state)
    while samples := [name for name in running if "/samples/" in name]:
        running.remove(samples[0])
        leave_model(run, samples[0])
        state.end(samples[0], done(LOSSES[int(samples[0][-2:])]))
        more = released(state)
        running += more
        others += [name for name in more if "/samples/" not in name]
    return others


def test_failed_samples_do_not_fail_the_search(run):
    """The best of the others is chosen, and Optuna learns that the failed ones were bad."""
    suggestions = FixedSuggestions()
    state = open_state([make_task(run, "A1", search=SEARCH)], suggestions=suggestions)
    run_samples(state, run, failing={2, 4})
    record = read_record(run.trial("A1"))
    assert record.result["search"]["sample"] == 1
    assert suggestions.told == {0: 3.0, 1: 2.0, 2: None, 3: 2.5}
    assert [sample["loss"] for sample in record.result["search"]["tried"]] == [3.0, 2.0, None, 2.5, None, 4.0]


def test_a_search_fails_if_all_its_samples_fail(run):
    """The first sample's reason is reported; the children are blocked."""
    tasks = [make_task(run, "A1", search=SEARCH), make_task(run, "A1-B1", parent="A1")]
    state = open_state(tasks, suggestions=FixedSuggestions())
    run_samples(state, run, failing=set(range(6)))
    record = read_record(run.trial("A1"))
    assert record.state is State.FAILED
    assert record.reason.startswith("all 6 samples of its search failed; the first: out of memory")
    assert read_record(run.trial("A1-B1")).state is State.BLOCKED
    assert state.is_over


def test_invalid_sampled_settings_fail_only_their_sample(run):
    """A range in the config may include values that the schema does not allow."""
    suggestions = FixedSuggestions(rates=[1e-3, -1.0, 1e-3, 1e-3, 1e-3, 1e-3])
    state = open_state([make_task(run, "A1", search=SEARCH)], suggestions=suggestions)
    started = run_samples(state, run)
    assert "A1/samples/01" not in started
    assert suggestions.told[1] is None
    assert read_record(run.trial("A1")).state is State.DONE


def test_finished_samples_of_an_interrupted_search_are_reused(run):
    """The same rounds are drawn again, and results with the same settings are used at once."""
    task = make_task(run, "A1", search=SEARCH)
    state = open_state([task], cpus=1, suggestions=FixedSuggestions())
    for name in ("A1/samples/00", "A1/samples/01"):
        assert released(state) == [name]
        leave_model(run, name)
        state.end(name, done(LOSSES[int(name[-2:])]))
    released(state)
    state.mark_stopped("interrupted")
    assert read_record(run.trial("A1")).state is State.STOPPED

    again = FixedSuggestions()
    assert run_samples(open_state([task], cpus=1, suggestions=again), run)[0] == "A1/samples/02"
    assert again.told == dict(enumerate(LOSSES[:SEARCH_ROUND]))
    assert read_record(run.trial("A1")).result["search"]["sample"] == 4


def test_a_sample_with_changed_settings_is_retrained(run):
    """A changed range draws other settings, about which the old sample's result says nothing."""
    task = make_task(run, "A1", search=SEARCH)
    run_samples(open_state([task], suggestions=FixedSuggestions()), run)
    other = FixedSuggestions(rates=[2e-3, *[1e-3 * (sample + 1) for sample in range(1, 6)]])
    assert run_samples(open_state([task], suggestions=other), run) == ["A1/samples/00"]


def test_a_halt_requests_running_trainings_to_stop_and_starts_no_more(run):
    """At a budget's cap, each training saves a checkpoint, its record says why, and the next run continues."""
    state = open_state([make_task(run, "all"), make_task(run, "A1"), make_task(run, "all-A1", parent="all")], cpus=2)
    assert released(state) == ["all", "A1"]
    state.halt("budget: 1 of 1 GPU hours are used")
    assert requested_stop(run.trial("all")) == "budget: 1 of 1 GPU hours are used"
    state.end("all", Stopped(reason="budget: 1 of 1 GPU hours are used", steps=2))
    state.end("A1", done())
    assert released(state) == []
    assert state.is_over
    record = read_record(run.trial("all"))
    assert (record.state, record.reason) == (State.STOPPED, "budget: 1 of 1 GPU hours are used")
    assert read_record(run.trial("A1")).state is State.DONE
    assert read_record(run.trial("all-A1")) is None


def test_a_training_that_starts_after_the_halt_is_also_asked_to_stop(run):
    """It was released before the halt, but its driver was slow to start."""
    state = open_state([make_task(run, "A1")])
    assert state.release().name == "A1"
    state.halt("interrupted")
    state.begin("A1")
    assert requested_stop(run.trial("A1")) == "interrupted"


def failed(kind, message="it broke"):
    return Failed(message=message, failure=Failure(kind))


def test_a_lost_worker_is_retried_and_counted_and_logged(run):
    """Bounded by resources.max_failures; the record keeps the count by kind."""
    state = open_state([make_task(run, "A1")], retries=Retries(1))
    released(state)
    state.end("A1", failed("lost worker"))
    assert read_record(run.trial("A1")).state is State.PENDING
    assert released(state) == ["A1"]
    record = read_record(run.trial("A1"))
    assert (record.attempts, record.failures) == (2, {"lost worker": 1})
    state.end("A1", failed("lost worker", "its worker was lost"))
    record = read_record(run.trial("A1"))
    assert (record.state, record.failures) == (State.FAILED, {"lost worker": 2})
    assert record.reason.startswith("its worker was lost (2 times, resources.max_failures: 1; log: ")
    assert state.is_over


def test_a_training_that_ran_out_of_memory_beside_others_is_retried_alone(run):
    """It waits for the others to end, and nothing overtakes it or starts beside it."""
    state = open_state([make_task(run, name) for name in ("A1", "A2", "B1", "B2")], cpus=2)
    assert released(state) == ["A1", "A2"]
    state.end("A1", failed("out of memory"))
    assert released(state) == []
    state.end("A2", done())
    assert released(state) == ["A1"]
    state.end("A1", failed("out of memory"))
    assert read_record(run.trial("A1")).reason.startswith("it broke (with nothing beside it too; log: ")
    assert released(state) == ["B1", "B2"]


def test_a_training_that_ran_out_of_memory_on_a_shared_gpu_is_retried_on_its_own_gpu(run):
    """Others continue on the other GPUs."""
    state = open_state([make_task(run, name) for name in ("A1", "A2", "B1", "B2")], cpus=9, gpus=2, share=0.5)
    assert released(state) == ["A1", "A2", "B1", "B2"]
    state.end("A1", failed("out of memory"))
    assert released(state) == []
    state.end("A2", done())
    assert released(state) == ["A1"]
    assert (state.request_of("A1").gpus, state.request_of("B1").gpus) == (1.0, 0.5)


def test_a_non_finite_loss_is_retried_once(run):
    """From the last checkpoint, which is sound; the message names the batch both times."""
    state = open_state([make_task(run, "A1"), make_task(run, "x", parent="A1")])
    released(state)
    message = "A1: the loss is not finite at step 3 (documents 4, 7)"
    state.end("A1", failed("not finite", message))
    assert released(state) == ["A1"]
    state.end("A1", failed("not finite", message))
    record = read_record(run.trial("A1"))
    assert record.reason.startswith(message)
    assert record.failures == {"not finite": 2}
    assert read_record(run.trial("x")).state is State.BLOCKED


def test_fail_fast_stops_other_trainings_at_a_checkpoint(run):
    """Without it, one bad model costs only its own fine-tunes."""
    state = open_state([make_task(run, name) for name in ("A1", "A2", "B1")], fail_fast=True)
    assert released(state) == ["A1", "A2"]
    state.end("A1", failed("error"))
    assert requested_stop(run.trial("A2")) == "--fail-fast: A1 failed"
    assert released(state) == []
    state.end("A2", Stopped(reason="--fail-fast: A1 failed", steps=2))
    assert state.is_over
    assert read_record(run.trial("A2")).state is State.STOPPED


def test_a_retry_pending_when_the_sweep_halts_is_recorded_as_stopped(run):
    """A lost worker is not replaced any more, and nothing runs forever."""
    state = open_state([make_task(run, "A1")], retries=Retries(1))
    released(state)
    state.halt("interrupted (Ctrl-C)")
    state.end("A1", failed("lost worker"))
    assert released(state) == []
    assert state.is_over
    state.mark_stopped("interrupted (Ctrl-C)")
    assert read_record(run.trial("A1")).state is State.STOPPED


def test_repeatedly_preempted_trainings_are_retried_with_increasing_delay(run):
    """Without a limit, since it is not the training's fault.  Meanwhile others run, and the sweep is not over."""
    now = [1000.0]
    state = open_state([make_task(run, "A1")], retries=Retries(0, clock=lambda: now[0]))
    waits = []
    assert released(state) == ["A1"]
    for _ in range(9):
        state.end("A1", Failed(message="its node was taken away", failure=Failure.PREEMPTED))
        lost = now[0]
        while not released(state):
            assert not state.is_over
            now[0] += 1.0
        waits.append(now[0] - lost)
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300, 300]
    assert "in 300 s at the earliest (9 times)" in state._listener.lines[-2]
