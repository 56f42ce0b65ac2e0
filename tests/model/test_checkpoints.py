"""Checkpoints survive what happens to files: kills, torn writes, bad disks, other work in the same place."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from raysweep.errors import TrainingError
from raysweep.model.checkpoints import Checkpoint, Checkpoints


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints", "work-1", "A1")


def at_step(step, best_step=0):
    model = {"weight": torch.full((3, 2), float(step))}
    optimizer = {"step.weight": torch.tensor(float(step)), "exp_avg.weight": torch.arange(6.0).view(3, 2) + step}
    return Checkpoint(step=step, state={"step": step, "best_step": best_step}, model=model, optimizer=optimizer)


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def folders(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_a_checkpoint_is_restored_exactly_as_saved(checkpoints):
    """Tensors to the bit, a scalar as a scalar, the state as plain values."""
    checkpoints.save(at_step(10))
    loaded = checkpoints.newest()
    assert (loaded.step, loaded.state) == (10, {"step": 10, "best_step": 0})
    for kind in ("model", "optimizer"):
        expected = getattr(at_step(10), kind)
        assert getattr(loaded, kind).keys() == expected.keys()
        assert all(torch.equal(getattr(loaded, kind)[name], expected[name]) for name in expected)


def test_a_training_without_checkpoints_starts_from_scratch(checkpoints):
    """A missing folder is not an error."""
    assert checkpoints.newest() is None


def test_the_last_two_steps_and_their_best_models_are_kept(checkpoints):
    """More would fill the disk; fewer would leave nothing behind a damaged one."""
    for step, best in [(10, 10), (20, 10), (30, 30), (40, 30)]:
        if step == best:
            checkpoints.save_best(best, {"weight": torch.ones(1) * best})
        checkpoints.save(at_step(step, best))
    assert folders(checkpoints) == ["best-00000030", "step-00000030", "step-00000040"]


@pytest.mark.parametrize(("keep", "kept"), [(1, [50]), (3, [30, 40, 50]), (9, [10, 20, 30, 40, 50])])
def test_the_configured_number_of_steps_is_kept_with_their_best_models(tmp_path, keep, kept):
    """The best model of each kept step is kept with it, and no other."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", "work-1", "A1", keep=keep)
    for step in (10, 20, 30, 40, 50):
        best = step - step % 20
        if step == best:
            checkpoints.save_best(best, {"weight": torch.ones(1) * best})
        checkpoints.save(at_step(step, best))
    bests = {step - step % 20 for step in kept} - {0}
    assert folders(checkpoints) == [f"best-{step:08d}" for step in sorted(bests)] + [
        f"step-{step:08d}" for step in kept
    ]


def test_the_last_intact_checkpoint_is_used_after_several_damaged_ones(tmp_path, caplog):
    """Three of four checkpoints are damaged in three ways; each damage is logged."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", "work-1", "A1", keep=4)
    for step in (10, 20, 30, 40):
        checkpoints.save(at_step(step))
    flip_a_byte(checkpoints.folder / "step-00000020" / "model.safetensors")
    (checkpoints.folder / "step-00000030" / "optimizer.safetensors").unlink()
    (checkpoints.folder / "step-00000040" / "checkpoint.json").write_text("")
    assert checkpoints.newest().step == 10
    for step in (20, 30, 40):
        assert f"A1: checkpoint of step {step} is damaged" in caplog.text


def test_a_best_model_is_kept_while_any_kept_step_refers_to_it(checkpoints):
    """Killed after a new best was written and before the next step was, the old step still finds its own."""
    checkpoints.save_best(10, {"weight": torch.ones(1) * 10})
    checkpoints.save(at_step(20, best_step=10))
    checkpoints.save_best(30, {"weight": torch.ones(1) * 30})
    assert checkpoints.newest().step == 20
    assert checkpoints.load_best(10)["weight"].item() == 10


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "checkpoint.json"])
@pytest.mark.parametrize(
    "damage", [flip_a_byte, lambda path: path.write_bytes(path.read_bytes()[:-3]), lambda path: path.unlink()]
)
def test_a_damaged_checkpoint_is_logged_and_the_previous_one_is_used(checkpoints, caplog, file, damage):
    """One flipped bit is enough, and the damage is logged."""
    for step in (10, 20):
        checkpoints.save(at_step(step))
    damage(checkpoints.folder / "step-00000020" / file)
    assert checkpoints.newest().step == 10
    assert "A1: checkpoint of step 20 is damaged" in caplog.text


def test_a_step_with_a_damaged_best_model_is_skipped(checkpoints):
    """Training could resume from the step, but its best model could not be written at the end."""
    checkpoints.save(at_step(10))
    checkpoints.save_best(20, {"weight": torch.ones(1)})
    checkpoints.save(at_step(20, best_step=20))
    flip_a_byte(checkpoints.folder / "best-00000020" / "model.safetensors")
    assert checkpoints.newest().step == 10
    with pytest.raises(TrainingError, match="is damaged"):
        checkpoints.load_best(20)


def test_a_training_with_only_damaged_checkpoints_starts_from_scratch_and_logs_it(checkpoints, caplog):
    """Work is lost, the result is right."""
    checkpoints.save(at_step(10))
    (checkpoints.folder / "step-00000010" / "checkpoint.json").write_text("{")
    assert checkpoints.newest() is None
    assert "starting from the first step" in caplog.text


def test_saving_a_damaged_step_again_replaces_it(checkpoints):
    """After falling back to step 10, step 20 comes again, and a damaged step 30 goes."""
    for step in (10, 20, 30):
        checkpoints.save(at_step(step))
    flip_a_byte(checkpoints.folder / "step-00000030" / "model.safetensors")
    assert checkpoints.newest().step == 20
    checkpoints.save(at_step(25))
    assert folders(checkpoints) == ["step-00000020", "step-00000025"]


def test_checkpoints_of_another_training_are_refused(checkpoints):
    """Going on from other settings or data would give a model that no config describes."""
    checkpoints.save(at_step(10))
    other = Checkpoints(checkpoints.folder, "work-2", "A1")
    with pytest.raises(TrainingError, match=r"belongs to other work \(work-1, not work-2.*--force A1"):
        other.newest()


def test_partial_checkpoints_of_a_killed_writer_are_removed(checkpoints):
    """A killed writer's folder has another name, so it is never read; a resumed training removes it."""
    checkpoints.save(at_step(10))
    shutil.copytree(checkpoints.folder / "step-00000010", checkpoints.folder / ".step-00000020.x1.part")
    assert checkpoints.newest().step == 10
    checkpoints.sweep()
    assert folders(checkpoints) == ["step-00000010"]


def test_checkpoints_contain_only_safetensors_and_json(checkpoints):
    """Nothing that can run code when it is loaded; any tool can read the tensors."""
    checkpoints.save(at_step(10))
    files = {path.suffix for path in checkpoints.folder.rglob("*") if path.is_file()}
    assert files == {".safetensors", ".json"}
    assert load_file(checkpoints.folder / "step-00000010" / "model.safetensors")["weight"][0, 0] == 10
