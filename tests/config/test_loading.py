"""experiments.yaml is refused with everything that is wrong with it, each at its place with its fix."""

import json
import re
from pathlib import Path

import pytest
import yaml

from raysweep.config.loading import check_file, config_schema, dump_config, load_config, parse_config
from raysweep.errors import ConfigError

ROOT = Path(__file__).parents[2]

GOOD = """
default: small
profiles:
  small:
    training: {learning_rate: 1e-3, steps: 40}
    trials:
      A1: {levels: [A1]}
      B2: {levels: [B2], steps: 80}
      all: {levels: [A1, A2, B1, B2, C1]}
      all-B2: {from: all, levels: [B2], learning_rate: 5e-4}
"""


@pytest.fixture
def write(tmp_path):
    def write_file(text):
        path = tmp_path / "experiments.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def problems_of(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(path, None, overrides)
    return list(caught.value.problems)


def test_trials_inherit_the_training_section_and_override_it(write):
    """`training:` says it once for all; what a trial says itself wins."""
    _, config = load_config(write(GOOD))
    assert config.trials["A1"].steps == 40
    assert config.trials["B2"].steps == 80
    assert config.trials["all-B2"].learning_rate == 5e-4
    assert config.trials["all-B2"].parent == "all"


def test_numbers_in_exponent_notation_without_a_point_are_numbers(write):
    """YAML 1.1 reads 1e-3 as text, which no researcher expects."""
    _, config = load_config(write(GOOD))
    assert config.training.learning_rate == 0.001


def test_yaml_boolean_words_are_read_as_strings(write):
    """A level or an alias may be called NO or on."""
    _, config = load_config(write(GOOD), None, ["data.level_aliases={no: A1, on: B1}"])
    assert config.data.level_aliases == {"no": "A1", "on": "B1"}


def test_the_resolved_config_loads_as_itself(write):
    """config.yaml in the run folder is the whole truth about the run."""
    import yaml

    _, config = load_config(write(GOOD))
    assert parse_config(yaml.safe_load(dump_config(config))) == config


BROKEN_SETTINGS = {
    "trials.B2.learning_rate=-3e-4": (
        "--set trials.B2.learning_rate: found -0.0003; must be above 0 "
        "(at its peak; GPT-2 fine-tunes usually take 1e-5 to 5e-4)"
    ),
    "trials.B2.batchsize=3": "--set trials.B2: unknown field 'batchsize'; did you mean 'batch_size'?",
    "trials.B2.form=all": "--set trials.B2: unknown field 'form'; did you mean 'from'?",
    "dta.csv=x": "--set: unknown field 'dta'; did you mean 'data'?",
    "resources.pack=4": "--set resources: unknown field 'pack'; it is now called 'trials_per_gpu'",
    "training.steps=many": "--set training.steps: found 'many'; must be a whole number (optimiser steps)",
    "training.steps=0": "--set training.steps: found 0; must be at least 1 (optimiser steps)",
    "training.batch_size=2.5": ("--set training.batch_size: found 2.5; must be a whole number (examples per batch)"),
    "training.clip_norm=true": (
        "--set training.clip_norm: found true; must be a number (the gradient norm is clipped to this)"
    ),
    "trials.A1.warmup_steps=40": "--set trials.A1.warmup_steps: found 40; must be below the trial's steps (40)",
    "trials.A1={levels: [A1], precision: fp32_onednn, compile: true}": (
        "--set trials.A1: precision fp32_onednn cannot be compiled; set compile: false, or precision: fp32"
    ),
    "training.schedule=step": "--set training.schedule: found 'step'; must be 'constant', 'linear' or 'cosine'",
    "trials.B2.levels=[B3]": (
        "--set trials.B2.levels: found 'B3'; known levels are A1, A2, B1, B2, C1. Add it to data.levels"
    ),
    "trials.B2.levels=B2": "--set trials.B2.levels: found 'B2'; must be a list (levels whose documents it trains on)",
    "trials.B2.levels=[]": (
        "--set trials.B2.levels: found []; must be a list or mapping with at least 1 entry "
        "(levels whose documents it trains on)"
    ),
    "trials.B2.seeds=[0, 0]": "--set trials.B2.seeds: 0 is given twice",
    "trials.B2.from=al": "--set trials.B2.from: no trial 'al'; did you mean 'all'?",
    "trials.all.from=all-B2": "--set trials: a cycle: all → all-B2 → all",
    "trials={}": "--set trials: found {}; must be a list or mapping with at least 1 entry",
    "trials.start={levels: [A1]}": "--set trials.start: the name is raysweep's own; choose another",
    "data.split={train: 0.9}": "--set data.split: train, valid and test add up to 1.1; must add up to 1",
    "data.levels=[A1, A1, B2]": "--set data.levels: 'A1' is given twice",
    "data.level_aliases={X: Z9}": ("--set data: level_aliases.X: 'Z9' is not one of the levels A1, A2, B1, B2, C1"),
    "masking.document=1.5": (
        "--set masking.document: found 1.5; must be at most 1 (probability that the whole document is one span)"
    ),
    "evaluation.examples_per_document=99": (
        "--set evaluation.examples_per_document: found 99; must be at most masking.examples_per_document (16)"
    ),
    "resources.gpus_per_trial=some": (
        "--set resources.gpus_per_trial: found 'some'; must be a number or 'auto' "
        "(GPUs of one trial, possibly a fraction; auto: 1 if the cluster has any, otherwise 0)"
    ),
    "trials.A1.search={samples: 3, space: {learning_rate: {low: 1, high: 0.1}}}": (
        "--set trials.A1.search.space.learning_rate: low (1) must be below high (0.1)"
    ),
    "trials.A1.search={samples: 3, space: {learning_rat: {low: 0.1, high: 1}}}": (
        "--set trials.A1.search.space: 'learning_rat' is not a training setting"
    ),
    "trials.A1={levels: [A1], precision: fp32_onednn, search: {space: {compile: {choices: [false, true]}}}}": (
        "--set trials.A1.search.space.compile: precision fp32_onednn cannot be compiled; "
        "set compile: false, or precision: fp32"
    ),
    "trials.A1={levels: [A1], compile: true, search: {space: {precision: {choices: [bf16, fp32_onednn]}}}}": (
        "--set trials.A1.search.space.precision: precision fp32_onednn cannot be compiled; "
        "set compile: false, or precision: fp32"
    ),
    "trials.A1.search={space: {precision: {choices: [fp32_onednn, bf16]}, compile: {choices: [false, true]}}}": (
        "--set trials.A1.search.space: precision fp32_onednn cannot be compiled; set compile: false, or precision: fp32"
    ),
    "trials.A1.search={space: {weight_decay: {low: 0, high: 1}, batch_size: {low: 4, high: 8}}}": (
        "--set trials.A1.search.space.weight_decay: found the bounds 0 and 1, between which only whole numbers are "
        "drawn; write 0.0 and 1.0, or list whole numbers in choices"
    ),
    "training.warmup_steps=60": ("--set training.warmup_steps: found 60; must be below the steps of trial 'A1' (40)"),
    "trials.A1={levels: [A1], warmup_steps: 20, search: {space: {steps: {low: 20, high: 40}}}}": (
        "--set trials.A1.search.space.steps: found 20; must be above the trial's warmup_steps (20)"
    ),
    "trials.A1={levels: [A1], search: {space: {warmup_steps: {choices: [0, 40]}}}}": (
        "--set trials.A1.search.space.warmup_steps: found 40; must be below the trial's steps (40)"
    ),
    "trials.A1.search={space: {steps: {choices: [90, 30]}, warmup_steps: {low: 0, high: 30}}}": (
        "--set trials.A1.search.space.warmup_steps: found 30; must be below the fewest steps of its search (30)"
    ),
    "trials.A1.search={space: {learning_rate: {low: 0.1, high: 1}}, asha: {}}": (
        "--set trials.A1.search.asha.grace_evaluations: found 1 and evaluate_every 500, so samples would first be "
        "compared at step 500; must be before their last step (40). Lower evaluate_every, or leave asha out"
    ),
    "trials.A1.search={space: {steps: {choices: [20, 21]}, evaluate_every: {choices: [7, 9]}}, asha: "
    "{grace_evaluations: 3}}": (
        "--set trials.A1.search.asha.grace_evaluations: found 3 and evaluate_every 7, so samples would first be "
        "compared at step 21; must be before their last step (21). Lower evaluate_every, or leave asha out"
    ),
    "steps": "--set steps: must read path.to.key=value, such as training.steps=200",
    "training.steps.more=3": '--set training.steps: found {"more": 3}; must be a whole number (optimiser steps)',
}


@pytest.mark.parametrize("override", BROKEN_SETTINGS)
def test_a_wrong_setting_is_reported_with_place_value_and_fix(write, override):
    """Each error gives exactly one line, compared word for word."""
    assert problems_of(write(GOOD), override) == [BROKEN_SETTINGS[override]]


def test_a_searched_setting_is_compared_instead_of_its_fixed_value(write):
    """The trial has none of the fixed values of what it searches."""
    trial = "{levels: [A1], warmup_steps: 100, search: {space: {%s: {low: 0, high: 39}}}}"
    load_config(write(GOOD), None, ["trials.A1=" + trial % "warmup_steps"])
    load_config(write(GOOD), None, ["trials.A1=" + (trial % "steps").replace("0, high: 39", "101, high: 200")])


@pytest.mark.parametrize("searching", ["all", "B2"])
def test_a_control_that_matches_examples_needs_a_fixed_number_of_them(write, searching):
    """It was matched to the steps that the trial has without its search."""
    search = [f"trials.{searching}.search.space={{batch_size: {{choices: [4, 8]}}, steps: {{low: 40, high: 80}}}}"]
    load_config(write(GOOD), None, [*search, "controls.size_matched=true"])
    other = [f"trials.all-{searching}.search.space.batch_size.choices=[4, 8]"] if searching == "B2" else []
    load_config(
        write(GOOD),
        None,
        [*other, "trials.B2.search.space.clip_norm={low: 1.0, high: 2.0}", "controls.compute_matched=true"],
    )
    assert problems_of(write(GOOD), *search, "controls.compute_matched=true", "controls.exposure_matched=true") == [
        f"--set controls.{kind}: cannot see as many examples as trial '{searching}' does, which searches steps and "
        f"batch_size; leave it out of trials.{searching}.search.space, or set this to false"
        for kind in ("compute_matched", "exposure_matched")
    ]


ONE_TRIAL = "default: a\nprofiles: {a: {trials: {%s}}}"
BROKEN_FILES = {
    "profiles: [": "experiments.yaml: line 1, column 12: expected the node content, but found '<stream end>'",
    "- x": "experiments.yaml: found [\"x\"]; must be a mapping with 'default' and 'profiles'",
    "default: a\nprofiles: {}": "experiments.yaml: profiles: found {}; must be a mapping of profiles",
    "default: b\nprofiles: {a: {trials: {A1: {levels: [A1]}}}}": (
        "experiments.yaml: profiles: no profile 'b'; known are a"
    ),
    "default: a\nprofiles: {a: 3}": "experiments.yaml: found 3; must be a mapping of settings",
    "default: a\nprofiles:\n  a: {seed: 1, seed: 2}": (
        "experiments.yaml: line 3, column 16: the key 'seed' is given twice"
    ),
    ONE_TRIAL % "a/b: {levels: [A1]}": (
        "experiments.yaml: trials: found the name 'a/b'; must start with a letter or digit, then also . _ + -"
    ),
    ONE_TRIAL % "A1: {steps: 3}": "experiments.yaml: trials.A1.levels: is missing; must be given",
}


@pytest.mark.parametrize("text", BROKEN_FILES)
def test_a_wrong_file_is_reported_with_its_line(write, text):
    """For a file that is not YAML, or not a config, the message says where the mistake is and what should be there."""
    assert problems_of(write(text)) == [BROKEN_FILES[text]]


def test_a_missing_config_file_is_reported_with_how_to_give_one(tmp_path):
    """This is the first error that a new user meets."""
    path = tmp_path / "experiments.yaml"
    expected = f"{path}: no such file; give it with --config, or work in the folder that holds it"
    assert problems_of(path) == [expected]


def test_all_mistakes_are_reported_at_once(write):
    """Nobody wants to fix a file one error per run."""
    problems = problems_of(write(GOOD), "training.steps=0", "trials.B2.batchsize=3", "data.levels=[A1, A1]")
    assert len(problems) == 3


def test_a_mistake_in_training_is_reported_once(write):
    """Every trial inherits it, but it is a single error."""
    assert len(problems_of(write(GOOD.replace("steps: 40", "steps: -1")))) == 1


def test_check_validates_every_profile(write):
    """A mistake in the profile that is not used today is found today."""
    text = GOOD + "  other: {trials: {A1: {levels: [A9]}}}\n"
    with pytest.raises(ConfigError) as caught:
        check_file(write(text))
    assert list(caught.value.problems) == [
        "experiments.yaml: profiles.other.trials.A1.levels: found 'A9'; "
        "known levels are A1, A2, B1, B2, C1. Add it to data.levels"
    ]


def test_the_shipped_config_is_valid_and_plans_the_experiment():
    """Both profiles: five models per level, a general one, five fine-tunes of a tenth of the level's steps."""
    configs = check_file(ROOT / "experiments.yaml")
    assert set(configs) == {"local", "efcamdat"}
    for config in configs.values():
        assert len(config.trials) == 11
    trials = configs["efcamdat"].trials
    assert {name: trial.steps for name, trial in trials.items() if trial.parent is None} == {
        "C1": 10_000, "B2": 20_000, "B1": 30_000, "A2": 40_000, "A1": 50_000, "all": 60_000
    }  # fmt: skip
    for level in ("A1", "A2", "B1", "B2", "C1"):
        assert trials[f"all-{level}"].parent == "all"
        assert trials[f"all-{level}"].steps == trials[level].steps // 10
    for trial in trials.values():
        assert (trial.batch_size, trial.learning_rate, trial.seeds) == (8, 5e-5, None)


def test_no_number_in_the_shipped_config_has_an_underscore():
    """Editors that read YAML 1.2 take `20_000` for text."""
    tokens = yaml.scan((ROOT / "experiments.yaml").read_text(encoding="utf-8"))
    values = [token.value for token in tokens if isinstance(token, yaml.ScalarToken) and token.plain]
    assert "20000" in values
    assert not [value for value in values if re.fullmatch(r"[-+.eE\d]*\d_[-+.eE\d_]*", value)]


def test_the_shipped_schema_is_generated_by_the_code():
    """Editors complete from experiments.schema.json; `raysweep check --schema` writes it."""
    assert json.loads((ROOT / "experiments.schema.json").read_text(encoding="utf-8")) == config_schema()


TWO_LEVELS = "default: a\nprofiles: {a: {data: {levels: [A1, A1-seed1]}, controls: {%s}, trials: {%s}}}"
SAME_NAMES = {
    (TWO_LEVELS % ("", "A1: {levels: [A1]}, A1-seed1: {levels: [A1], seeds: [0]}")).replace(
        "{a: {", "{a: {seeds: 2, "
    ): ("trials.A1-seed1: gives the name 'A1-seed1', and seeds gives it too; rename one"),
    TWO_LEVELS % ("", "A1: {levels: [A1], seeds: [0, 1]}, A1-seed1: {levels: [A1]}"): (
        "trials.A1-seed1: gives the name 'A1-seed1', and trials.A1.seeds gives it too; rename one"
    ),
    TWO_LEVELS % ("", "A1: {levels: [A1]}, a1: {levels: [A1]}"): (
        "trials.a1: gives the name 'a1', and trials.A1 gives 'A1', the same on disks that ignore case; rename one"
    ),
    TWO_LEVELS
    % (
        "step_matched: true",
        "all: {levels: [A1, A1-seed1]}, x: {levels: [A1], seeds: [0, 1]}, y: {levels: [A1-seed1]}",
    ): (
        "controls.step_matched for level A1-seed1: gives the name 'control-steps-A1-seed1', "
        "and controls.step_matched for level A1 gives it too; rename one"
    ),
    TWO_LEVELS % ("", "Control-Size-A1: {levels: [A1]}"): (
        "trials.Control-Size-A1: the name is raysweep's own; choose another"
    ),
}


@pytest.mark.parametrize("text", SAME_NAMES)
def test_two_trials_of_the_same_name_are_refused(write, text):
    """The second would take the place of the first without a word: seeds and controls make names too."""
    assert problems_of(write(text)) == [f"experiments.yaml: {SAME_NAMES[text]}"]


ABSURD = {
    "report.hypotheses.specialisation.margin=0.95": "found 0.95; must be at least 1",
    "report.hypotheses.sufficiency.margin=0.9": "found 0.9; must be at least 1",
    "report.hypotheses.transfer.margin=1.02": "found 1.02; must be at most 1",
    "report.resamples=200000000": "found 200000000; must be at most 1,000,000 (bootstrap resamples)",
    "data.sample.rows=1000000000": "found 1000000000; must be at most 10,000,000 (documents to generate)",
    "training.batch_size=1000000": "found 1000000; must be at most 65,536 (examples per batch)",
    "training.steps=9000000000": "found 9000000000; must be at most 1,000,000,000 (optimiser steps)",
    "trials.A1.search={samples: 1000000, space: {steps: {choices: [1]}}}": "must be at most 10,000 (trainings to try)",
    "resources.mask_workers=1000000": "found 1000000; must be at most 4,096",
    f"trials.A1.seeds={list(range(1001))}": "must be a list or mapping with at most 1,000 entries",
    "notify={webhook: 'http://h', timeout_s: 1e300}": "must be at most 86,400",
    "training.learning_rate=.inf": "found '.inf'; must be a number",
    "training.learning_rate=1e999": "found Infinity; must be a finite number",
    "trials.A1.search={space: {steps: {low: -5, high: 9}}}": "search.space.steps: found -5; must be at least 1",
    "trials.A1.search={space: {steps: {low: 1.0, high: 9.0}}}": "search.space.steps: found 1.0; must be a whole number",
    "data.levels=[A1, a1]": "'A1' and 'a1' differ in upper and lower case alone",
    "data.level_aliases={A1: B1}": "level_aliases.A1: found 'B1'; 'A1' is itself one of the levels",
    ".".join("a" * 50) + "=1": "must be names with a dot between them, at most 40",
    "training..steps=1": "found the path 'training..steps'",
    "training.steps=!!int foo": "the value is not YAML (line 1, column 1: found 'foo'; must be a whole number)",
    "training.steps=\x1b[31m": "must hold no control characters",
    "x" * 100_000: "must read path.to.key=value",
}


@pytest.mark.parametrize("override", ABSURD, ids=lambda override: override[:30])
def test_absurd_values_are_refused_by_the_schema(write, override):
    """They are refused before they use memory, and messages repeat little of them."""
    problems = problems_of(write(GOOD), override)
    assert any(ABSURD[override] in problem for problem in problems), problems
    assert all(len(problem) < 300 for problem in problems)


def test_setting_one_of_two_aliased_sections_does_not_change_the_other(write):
    """An anchor and its alias are one object in memory, and two sections of the file."""
    text = (
        GOOD
        + "      A1-b: &x {levels: [A1], search: {space: {steps: &r {low: 1, high: 5}, keep: *r}}}\n      A1-c: *x\n"
    )
    _, config = load_config(write(text), None, ["trials.A1-b.search.space.steps.high=9"])
    ranges = [config.trials[name].search.space[field].high for name in ("A1-b", "A1-c") for field in ("steps", "keep")]
    assert ranges == [9, 5, 5, 5]


@pytest.mark.parametrize("kind", ["folder", "pipe", "UTF-16", "long"])
def test_paths_that_are_not_regular_files_are_not_read_as_configs(tmp_path, kind):
    """Reading a pipe would wait forever."""
    import os

    path = tmp_path / "experiments.yaml"
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "UTF-16": lambda: path.write_bytes(GOOD.encode("utf-16")),
        "long": lambda: path.write_bytes(b" " * (5 << 20)),
    }[kind]()
    expected = {
        "folder": "is a folder; must be a file",
        "pipe": "is a pipe or a device; must be a file",
        "UTF-16": "line 1: found the byte 0xFF; must be UTF-8",
        "long": "found 5,242,880 bytes; must be at most 1,048,576",
    }
    (problem,) = problems_of(path)
    assert expected[kind] in problem
