"""The queue: which requests share a batch, which are refused, and what happens at the end."""

import threading
from concurrent.futures import CancelledError

import pytest

from raysweep.serving.request_batches import BusyError, RequestBatches


def test_queued_requests_with_one_key_form_a_batch_in_order():
    """A batch has a maximum size; other requests wait for their turn."""
    calls = []

    def work(key, payloads):
        calls.append((key, list(payloads)))
        return [payload * 10 for payload in payloads]

    batches = RequestBatches(work, most_together=3)
    asked = [batches.ask(key, number) for number, key in enumerate("abaaab")]
    batches.start()
    assert [answer.result(60) for answer in asked] == [0, 10, 20, 30, 40, 50]
    batches.stop()
    assert calls == [("a", [0, 2, 3]), ("b", [1, 5]), ("a", [4])]


def test_a_full_queue_refuses_and_an_error_reaches_every_request_of_the_batch():
    """The queue continues after the error."""

    def work(key, payloads):
        if key == "bad":
            raise ZeroDivisionError
        return payloads

    batches = RequestBatches(work, most_waiting=3)
    first, second, third = (batches.ask(key, 1) for key in ("bad", "bad", "good"))
    with pytest.raises(BusyError, match="3 requests wait already"):
        batches.ask("good", 2)
    batches.start()
    for answer in (first, second):
        with pytest.raises(ZeroDivisionError):
            answer.result(60)
    assert third.result(60) == 1
    batches.stop()


def test_a_cancelled_request_frees_its_place_in_the_queue():
    """Otherwise a client that reloads its page would keep others out."""
    batches = RequestBatches(lambda key, payloads: payloads, most_waiting=1)
    batches.ask("a", 1).cancel()
    answer = batches.ask("a", 2)
    batches.start()
    assert answer.result(60) == 2
    batches.stop()


def test_shutdown_answers_the_current_batch_and_gives_up_the_queue():
    """No request waits for ever; a cancelled request is left out."""
    begun, may_end, seen = threading.Event(), threading.Event(), []

    def work(key, payloads):
        seen.extend(payloads)
        begun.set()
        may_end.wait(60)
        return payloads

    batches = RequestBatches(work)
    cancelled, current, later = (batches.ask(key, key) for key in "xab")
    cancelled.cancel()
    batches.start()
    assert begun.wait(60)
    later.add_done_callback(lambda _: may_end.set())
    batches.stop()
    assert current.result(0) == "a"
    with pytest.raises(CancelledError):
        later.result(0)
    with pytest.raises(BusyError):
        batches.ask("a", 1)
    assert seen == ["a"]
