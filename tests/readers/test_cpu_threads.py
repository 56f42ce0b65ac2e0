"""Work in threads: in order, with errors at their place, and without waiting for what nobody takes."""

from threading import Event

import pyarrow as pa
import pytest

from raysweep.readers.cpu_threads import map_in_threads


@pytest.fixture
def two_threads(monkeypatch):
    """Whatever this machine has."""
    monkeypatch.setattr(pa, "cpu_count", lambda: 2)


def test_unread_results_are_not_waited_for(two_threads):
    """Garbage collection ends a generator in any thread, also in one that holds a lock of `threading`."""
    goes_on, ended = Event(), Event()

    def work(number):
        if number:
            goes_on.wait(60)
            ended.set()
        return number

    results = map_in_threads(work, range(9))
    assert next(results) == 0
    results.close()
    assert not ended.is_set()
    goes_on.set()
    assert ended.wait(60)


def test_a_worker_error_is_raised_in_order_after_all_threads_have_ended(two_threads):
    """The files that the threads read may be removed then."""
    running = set()

    def work(number):
        running.add(number)
        if number == 2:
            raise ValueError(number)
        running.discard(number)
        return number

    results = map_in_threads(work, range(9))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="2"):
        next(results)
    assert running == {2}
