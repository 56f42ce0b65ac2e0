"""cluster.yaml as it is, from `ray up` to `ray down`, on machines that come, lose their power, and are taken away."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from raysweep.scheduling.attempts import read_events
from raysweep.scheduling.records import State, read_record
from raysweep.storage.run_folder import RunFolder
from tests.cluster_lab.lan_bucket import BUCKET, STORAGE, digests
from tests.cluster_lab.namespaces import HERE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1600)]
RUN = (
    "cd ~/raysweep && python -m raysweep run --config sweep.yaml --name sweep "
    f"--storage {STORAGE} --set resources.address=auto"
)


def test_a_sweep_on_changing_workers_equals_a_local_sweep_byte_for_byte(alone, cloud, tmp_path):
    """A worker is power-cut, and another has a spot notice, each in the middle of a training; all is in the bucket."""
    shutil.copy(HERE / "sweep.yaml", cloud.project)
    cloud.laptop("ray get-auth-token --generate > ~/token.log && chmod 600 ~/.ray/auth_token", timeout=300)
    cloud.laptop(f"python -m raysweep cluster prepare --bucket {BUCKET} --ssh-from 172.31.0.2/32", timeout=300)
    cloud.note("token and account")
    cloud.laptop("ray up -y cluster.yaml > ~/up.log 2>&1 || { tail -c 3000 ~/up.log; exit 1; }", timeout=900)
    cloud.note("ray up")
    assert [lifecycle for _, lifecycle in cloud.started()] == ["on-demand"]
    cloud.hold("A1", "all")
    output = tmp_path / "exec.log"
    command = cloud.start(f"ray exec cluster.yaml '{RUN}'", output)

    def runs_until(condition, seconds, what):
        def check():
            assert command.poll() is None, f"the command ended by itself:\n{output.read_text()[-4000:]}"
            return condition()

        cloud.wait(check, seconds, what)

    def cut_power(trial, host):
        cloud.lab.cut_power(host)
        cloud.let_go(trial)

    blows = {"A1": cut_power, "all": cloud.give_notice}
    dealt = []

    def interrupt(trial, blow, host):
        blow(trial, host)
        done = f"runs/sweep/trials/{trial}/training.json"
        assert done not in cloud.bucket.list(), f"{trial} was done before it could be interrupted"
        cloud.note(f"{trial} is interrupted")

    def deal_blows():
        # A notice takes as long as the other training has left to do, so neither waits for the other.
        for trial in [trial for trial in ("A1", "all") if trial in blows]:
            if host := cloud.bucket.host_of(trial):
                dealt.append(pool.submit(interrupt, trial, blows.pop(trial), host))
        done = [blow.result() for blow in dealt if blow.done()]
        return len(done) == 2

    with ThreadPoolExecutor(max_workers=2) as pool:
        runs_until(deal_blows, 900, "not both trainings have a checkpoint")
    cloud.wait(lambda: command.poll() is not None, 900, "the run has not ended")
    cloud.note("the run ends")
    assert command.returncode == 0, output.read_text()[-4000:]
    # `ray exec` made a terminal for it, whose other end is a file.
    assert "\x1b[2K" not in output.read_text(), "the live view filled the log"

    # Nothing of the head's disk is looked at.
    cloud.bucket.download("runs/sweep", tmp_path / "bucket" / "sweep")
    folder = RunFolder(tmp_path / "bucket" / "sweep")
    spot = {name for name, lifecycle in cloud.started() if lifecycle == "spot"}
    for trial in ("all", "A1", "all-A1"):
        record = read_record(folder.trial(trial))
        assert record.state is State.DONE
        assert {event["host"] for event in read_events(folder.trial(trial)) if event["what"] == "start"} <= spot
    assert read_record(folder.trial("all")).failures == {"preempted": 1}
    assert read_record(folder.trial("A1")).failures == {"lost worker": 1}
    for trial in ("all", "A1"):
        starts = [event for event in read_events(folder.trial(trial)) if event["what"] == "start"]
        assert [bool(event["kept"]) for event in starts] == [False, True], "the second attempt resumed"
    assert folder.report_html.exists()

    one_machine, process = alone
    assert process.wait(600) == 0
    assert digests(folder.root) == digests(one_machine)
    assert len(digests(folder.root)) >= 3 + 4 + 1
    cloud.note("compared with one machine")

    cloud.laptop("ray down -y cluster.yaml > ~/down.log 2>&1", timeout=300)
    cloud.wait(lambda: cloud.running() == [], 120, "an instance is left")
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout.split()
    assert [name for name in left if name.startswith(f"{cloud.lab.prefix}-i")] == []
    cloud.note("ray down")
