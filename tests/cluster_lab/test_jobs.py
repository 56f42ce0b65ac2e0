"""Ray jobs from the user's own machine, which is no node: submitted, followed, stopped at a checkpoint, resumed."""

import pytest

from raysweep.scheduling.records import State, read_record
from raysweep.storage.run_folder import RunFolder
from tests.cluster_lab.lan_bucket import BUCKET, STORAGE
from tests.cluster_lab.namespaces import HERE

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1500)]
VARIABLES = "RAY_AUTH_MODE=token RAY_API_SERVER_ADDRESS=http://127.0.0.1:8265"
RUN = (
    f"python -m raysweep run --config job.yaml --name job --storage {STORAGE} "
    "--set resources.gpus_per_trial=0 --set evaluation.speed_repeats=0"
)


def submit(name, *options):
    return " ".join(["ray job submit --submission-id", name, *options, "--working-dir . --", RUN])


def test_a_ray_job_is_stopped_at_a_checkpoint_and_resumed(cloud, tmp_path):
    """It joins the cluster that it runs on without being told its address, and a stop loses no step."""
    text = (HERE / "sweep.yaml").read_text()
    (cloud.project / "job.yaml").write_text(text)
    cloud.laptop("ray get-auth-token --generate > ~/token.log && chmod 600 ~/.ray/auth_token", timeout=60)
    cloud.laptop(f"python -m raysweep cluster prepare --bucket {BUCKET} --ssh-from 172.31.0.2/32", timeout=60)
    cloud.laptop("ray up -y cluster.yaml > ~/up.log 2>&1 || { tail -c 3000 ~/up.log; exit 1; }", timeout=300)
    cloud.note("ray up")
    cloud.hold("all")
    tunnel = cloud.start("ray dashboard cluster.yaml", tmp_path / "tunnel.log")

    def fetched(place):
        cloud.bucket.download("runs/job", tmp_path / place)
        return RunFolder(tmp_path / place)

    try:
        until_open = (
            "for i in $(seq 200); do (echo > /dev/tcp/127.0.0.1/8265) 2> /dev/null && exit 0; sleep 0.3; done; exit 1"
        )
        cloud.laptop(f"bash -c '{until_open}'", timeout=120)
        cloud.laptop(submit("first", "--no-wait"), timeout=180, variables=VARIABLES)
        cloud.wait(lambda: cloud.bucket.host_of("all", "runs/job"), 400, "no checkpoint")
        cloud.note("a checkpoint")
        assert "Job 'first' was stopped" in cloud.laptop("ray job stop first", timeout=180, variables=VARIABLES)
        assert "SIGTERM" in cloud.laptop("ray job logs first", timeout=60, variables=VARIABLES)
        cloud.let_go("all")
        cloud.note("stopped")
        stopped = fetched("stopped").trial("all")
        assert read_record(stopped).state is State.STOPPED
        steps = stopped.metrics.read_text().count('"kind": "step"')
        assert stopped.checkpoints.joinpath(f"step-{steps:08d}", "checkpoint.json").exists(), "steps were lost"

        followed = cloud.laptop(submit("second"), timeout=700, variables=VARIABLES)
        cloud.note("resumed and done")
        assert "Job 'second' succeeded" in followed
        assert "all: done, 200 steps" in followed
    finally:
        tunnel.kill()
        tunnel.wait()
    folder = fetched("done")
    assert folder.report_html.exists()
    assert read_record(folder.trial("all")).failures == {}
    assert [lifecycle for _, lifecycle in cloud.started()] == ["on-demand"]
