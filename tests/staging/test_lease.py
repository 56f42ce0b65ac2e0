"""One process at a time works in a run, whichever process dies or loses contact with the store."""

import os
import threading
import time
from types import SimpleNamespace

import pytest

from raysweep.errors import LockedError
from raysweep.pipeline.lock import is_locked, last_holder
from raysweep.staging import lease as leases
from raysweep.staging.lease import read_lease, read_token, take_lease
from raysweep.storage.run_files import LEASE
from raysweep.storage.run_folder import RunFolder


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    """Fractions of seconds, except for the minute in which a live process may be too slow to renew."""
    for name, value in {"RENEW_EVERY_S": 0.3, "_LOOK_EVERY_S": 0.1, "_SETTLE_S": 0.5}.items():
        monkeypatch.setattr(leases, name, value)


def take(bucket, disk="here", messages=None):
    return take_lease(bucket, disk=disk, say=(messages if messages is not None else []).append)


def test_a_second_process_is_refused_while_the_first_renews_its_lease(bucket):
    """It watches the lease until it changes, and names the holder."""
    first, over = take(bucket), threading.Event()

    def renew():
        while not over.wait(0.05):
            first.renew_if_due()

    thread = threading.Thread(target=renew)
    thread.start()
    messages = []
    with pytest.raises(LockedError, match=rf"tiny: process {os.getpid()} on .*is working in this folder\. Wait for it"):
        take(bucket, "elsewhere", messages)
    over.set()
    thread.join()
    assert "watching for up to 60 s whether it is alive" in messages[0]
    assert not first.is_lost


def test_a_released_lease_is_acquired_at_once(bucket):
    """It also tells whose it was, so that the next holder knows whether the bucket is as it left it."""
    first = take(bucket)
    assert read_token(bucket) == first.token
    first.release()
    assert read_token(bucket) == ""
    messages = []
    second = take(bucket, "elsewhere", messages)
    assert messages == [], "it is not watched"
    assert (first.previous, second.previous) == ("", first.token)


def test_an_expired_lease_of_a_dead_process_is_taken_over(bucket, monkeypatch):
    """If the dead process was only asleep, it notices and writes nothing more."""
    monkeypatch.setattr(leases, "EXPIRES_S", 1.5)
    first = take(bucket)
    began = time.monotonic()
    second = take(bucket, "elsewhere")
    assert time.monotonic() - began >= 1.4
    assert second.previous == first.token
    first._renewed_at -= 1
    first.renew_if_due()
    assert first.is_lost
    first.release()
    first.renew_if_due()
    assert read_token(bucket) == second.token


def test_a_lease_of_a_dead_process_on_the_same_disk_is_taken_over_at_once(bucket):
    """The kernel's lock on the local folder has shown that it is gone."""
    take(bucket)
    messages = []
    take(bucket, messages=messages)
    assert messages == []


def test_only_one_of_two_simultaneous_processes_acquires_the_lease(bucket):
    """The condition of the write decides, however close they are."""
    ends, start = [], threading.Barrier(6)

    def begin(number):
        start.wait()
        try:
            ends.append(take(bucket, f"disk {number}"))
        except LockedError as error:
            ends.append(error)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    winner = None
    while any(thread.is_alive() for thread in threads):
        if winner := winner or next((end for end in ends if not isinstance(end, LockedError)), None):
            winner.renew_if_due()
        time.sleep(0.05)
    (winner,) = [end for end in ends if not isinstance(end, LockedError)]
    assert read_token(bucket) == winner.token


@pytest.mark.parametrize("fault", ["ignores_conditions", "lacks_conditions"])
def test_a_store_without_conditional_writes_is_detected(bucket, gate, fault, monkeypatch):
    """The lease is then written, and read again after a wait; the later of two writers holds it.

    Both see the released lease, and each waits until the other has written.
    """
    setattr(gate, fault, True)
    first = take(bucket)
    assert not first.has_conditions
    first._renewed_at -= 1
    first.renew_if_due()
    assert not first.is_lost
    ends = []

    def begin(disk):
        try:
            ends.append(take(bucket, disk))
        except LockedError as error:
            ends.append(error)

    first.release()
    seen, written, put_first = threading.Barrier(2), threading.Barrier(2), leases._put_first
    monkeypatch.setattr(leases, "_put_first", lambda *lease: (seen.wait(60), put_first(*lease))[1])
    monkeypatch.setattr(leases, "time", SimpleNamespace(**{**vars(time), "sleep": lambda seconds: written.wait(60)}))
    threads = [threading.Thread(target=begin, args=(disk,)) for disk in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(not isinstance(end, LockedError) for end in ends) == 1
    first.is_lost = False
    first._renewed_at -= 1
    first.renew_if_due()
    assert first.is_lost


def test_readers_see_the_holder_of_the_lease(bucket, tmp_path):
    """`status` reads the fetched lease, not the kernel's lock."""
    folder = RunFolder(tmp_path)
    lease_file = tmp_path / LEASE
    assert read_lease(lease_file) is None
    lease = take(bucket)

    def fetch():
        bucket.download("lease.json", bucket.find("lease.json"), lease_file)

    fetch()
    assert is_locked(folder)
    assert last_holder(folder)["pid"] == os.getpid()
    os.utime(lease_file, (time.time() - 100,) * 2)
    assert not is_locked(folder)
    lease.release()
    fetch()
    assert not is_locked(folder)
    lease_file.write_text("{}")
    assert read_lease(lease_file) is None
