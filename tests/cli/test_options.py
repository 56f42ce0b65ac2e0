"""The names of the commands and of their options are fixed, since scripts rely on them."""

import pytest
from typer.main import get_command

from raysweep.cli.app import app

RUN = "--config --profile --name --storage"
SETTINGS = f"{RUN} --set"
OPTIONS = {
    "run": (
        f"{SETTINGS} --skip-empty --quiet/-q --force --inline --fail-fast/--keep-going --allow-leaks --dry-run --extend"
    ),
    "prepare": f"{SETTINGS} --skip-empty --quiet/-q --force",
    "mask": f"{SETTINGS} --skip-empty --quiet/-q --force --inline",
    "train": f"{SETTINGS} --extend --skip-empty --quiet/-q --force --inline --fail-fast/--keep-going",
    "evaluate": f"{SETTINGS} --skip-empty --quiet/-q --force --inline --allow-leaks",
    "report": f"{SETTINGS} --skip-empty --quiet/-q --force --allow-leaks",
    "plan": f"{SETTINGS} --skip-empty --json --gpus --calibrate --force --power --effect --extend",
    "check": f"{SETTINGS} --schema",
    "status": f"{SETTINGS} --skip-empty --watch --json",
    "runs": "--storage --json",
    "doctor": f"{SETTINGS} --json",
    "preview": f"{SETTINGS} --level --count",
    "logs": f"trial {RUN} --lines --follow",
    "diff": f"first second {RUN} --json",
    "clean": f"{RUN} --dry-run",
    "check-run": RUN,
    "bundle": f"{RUN} --out --sign",
    "verify": "zip_ --key",
    "try": f"{RUN} --host --port --token",
    "serve": f"{RUN} --replicas --host --port --token",
    "push": f"{RUN} --model --to --licence/--license --public --dry-run",
    "sample": f"{SETTINGS} --out --rows --force",
    "init": "corpus --out --yes --force --set",
    "infill": (
        "text --model --name --storage --all-levels --csv --out --force --column --reference --learner-likeness "
        "--classifier --samples --temperature --top-k --top-p --seed --first-word --min-words --max-words --forbid "
        "--json"
    ),
    "score": (
        "corpus --name --out --storage --model --tokens --layout --format --text-column --id-column --set --inline "
        "--force"
    ),
    "classify": "corpus --name --on --out --storage --folds --resamples --set --inline --force",
    "ilm-export": f"{SETTINGS} --out",
    "ilm-import": "source --level --out --force",
    "cluster check": "--bucket file --quota",
    "cluster prepare": "--bucket --region --ssh-from file",
    "cluster kuberay": "--image --workers --storage --profile --csv --dockerfile",
    "cluster watch-spot": "",
    "bench mask": "--csv --rows --column --like",
    "bench score": "--device --config --tokenizer --documents --like",
    "bench train": (
        "--device --config --tokenizer --batch-size --steps --precision --compile --packing --micro-batch "
        "--window-batches --like"
    ),
}


def commands():
    top = dict(get_command(app).commands)
    for group in ("bench", "cluster"):
        top |= {f"{group} {name}": command for name, command in top.pop(group).commands.items()}
    return top


def test_the_list_of_commands_is_unchanged():
    """Removing a command breaks someone's script."""
    assert set(commands()) == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_options_of_each_command_are_unchanged(name):
    """Each option has all its spellings; the order is free."""
    taken = [
        "/".join([*option.opts, *option.secondary_opts]) if option.param_type_name == "option" else option.name
        for option in commands()[name].params
    ]
    assert sorted(taken) == sorted(OPTIONS[name].split())
