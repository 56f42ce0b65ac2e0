"""An executor whose workers have their own disks, without Ray: does what `cluster` does, in this process."""

import os
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from raysweep.cluster.staged_tasks import make_staged_shard, score_staged_model, score_staged_part
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.pipeline.sweep_watch import open_sweep
from raysweep.pipeline.training_attempt import run_attempt
from raysweep.scheduling.capacity import Capacity, ResourceRequest
from raysweep.staging.worker_place import WorkerPlace
from raysweep.storage.run_files import claim_of


@contextmanager
def on_disk(folder):
    """Use the disk of a worker."""
    before = os.environ["RAYSWEEP_STAGING"]
    os.environ["RAYSWEEP_STAGING"] = str(folder)
    try:
        yield
    finally:
        os.environ["RAYSWEEP_STAGING"] = before


class RemoteDiskExecutor(InlineExecutor):
    """Executes each task on the disk that `next_disk` names."""

    def __init__(self, disks):
        super().__init__()
        self.staging, self._disks, self._count = None, list(disks), 0
        self.should_stop = None

    def next_disk(self):
        self._count += 1
        return on_disk(self._disks[self._count % len(self._disks)])

    def mask(self, tasks, listener):
        self.staging.push()
        summaries = []
        for task in tasks:
            function, documents = "raysweep.masking.mask_shard:mask_shard", claim_of(task.documents)
            with self.next_disk():
                outcome = make_staged_shard(function, task, None, self.staging.ticket, documents)
            _raise(outcome)
            summaries.append(outcome)
        if tasks:
            self.staging.collect(tasks[0].folder)
        return summaries

    def score(self, tasks, listener):
        self.staging.push()
        for task in tasks:
            with self.next_disk():
                function = "raysweep.evaluation.scoring:score_model"
                _raise(score_staged_model(function, task, None, self.staging.ticket, device="cpu"))
        for folder in sorted({task.record.parent for task in tasks}):
            self.staging.collect(folder)

    def score_texts(self, tasks, listener):
        self.staging.push()
        for task in tasks:
            with self.next_disk():
                function = "raysweep.inference.text_parts:score_part"
                scores = score_staged_part(function, task.read(), None, self.staging.ticket, device="cpu")
            _raise(scores)
            yield task, task.write(scores)

    def train(self, tasks, listener):
        from raysweep.training import loop

        request = ResourceRequest(cpus=1, gpus=0.0)
        with open_sweep(
            tasks,
            requests={task.job.trial: request for task in tasks},
            capacity=Capacity.used_by([request]),
            listener=listener,
            budget=None,
        ) as watch:
            state = watch.state
            while (training := state.release()) is not None:
                self.staging.push()
                state.begin(training.name)
                with self.next_disk():
                    place = WorkerPlace.of(self.staging.ticket)
                    job = place.localise(training.job)
                    place.fetch(job.examples, Path(job.start))
                    with place.training_in(job.folder):
                        outcome = run_attempt(
                            loop.train,
                            job,
                            on_evaluation=partial(state.evaluate, training.name),
                            should_stop=self.should_stop,
                        )
                self.staging.collect(training.folder.root)
                state.end(training.name, outcome)


def _raise(outcome):
    if isinstance(outcome, Exception):
        raise outcome
