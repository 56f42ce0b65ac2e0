"""`raysweep push`: uploads a trained model to a repository of the Hugging Face hub, private unless asked otherwise.

Only files on an allow-list are uploaded: those that transformers loads, as listed in the trial's record, and a card.
The card is the model's own, extended by what only a finished run knows (its perplexity on every level's test
documents) and by the licence of the texts, which their owner states.  The token comes from the hub's own lookup
(`hf auth login`, HF_TOKEN); it is neither accepted as an option nor printed.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raysweep.config.schema import Config
from raysweep.errors import ConfigError, InputError, StorageError
from raysweep.scheduling.records import read_record
from raysweep.scheduling.trials import START_MODEL, expand_trials, find_roles
from raysweep.storage.printable import shown
from raysweep.storage.run_folder import RunFolder
from raysweep.training.card import NOT_FOR

CARD = "README.md"
_FILE = re.compile(
    r"model/((generation_)?config\.json|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
    r"|tokenizer(_config)?\.json|special_tokens_map\.json)"
)
"""Files that may be pushed, in addition to the card."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{1,40}")
_HERE = 'folder = "."  # where this file lies'


@dataclass(frozen=True, kw_only=True, slots=True)
class HubModel:
    """The files to push to a repository."""

    repository: str
    """`USER/NAME`."""
    files: Mapping[str, Path]
    card: str

    def sizes(self) -> dict[str, int]:
        """Return the size of every file in bytes, the card first."""
        return {CARD: len(self.card.encode()), **{name: path.stat().st_size for name, path in self.files.items()}}


def prepare_model(folder: RunFolder, config: Config, model: str, repository: str, licence: str) -> HubModel:
    """Collect what would be pushed of a checked model, and send nothing.

    Args:
        licence: of the texts, by the hub's name for it, such as 'cc-by-nc-4.0' or 'other'.

    Raises:
        ConfigError: the name of the repository or of the licence is not valid on the hub.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(f"--to: found {shown(repository)}; must be USER/NAME, of letters, digits, '-', '_' and '.'")
    if not _LICENCE.fullmatch(licence):
        raise ConfigError(
            f"--licence: found {shown(licence)}; must be a name of the hub's, such as cc-by-nc-4.0 or other"
        )
    place = folder.trial(model)
    record = read_record(place)
    assert record is not None, "a sound model has a record"
    paths = [place.root / name for name in record.outputs if _FILE.fullmatch(name)]
    own = (place.model / CARD).read_text(encoding="utf-8")
    table = _evaluation(folder, config, model)
    card = hub_card(own, repository=repository, licence=licence, evaluation=table, is_synthetic=not config.data.path)
    return HubModel(repository=repository, files={path.name: path for path in paths}, card=card)


def hub_card(own: str, *, repository: str, licence: str, evaluation: str, is_synthetic: bool) -> str:
    """Turn the card in a model's folder into the hub's; raises InputError if it was changed since it was written."""
    front, scores = "---\n", "\n## Scores on validation examples\n"
    if not own.startswith(front) or scores not in own or _HERE not in own:
        raise InputError(f"{CARD} of the model: is not the card that raysweep wrote; train the model again")
    named = f"license: {licence}\n" + ("license_name: of-the-training-data\n" if licence == "other" else "")
    card = own.replace(front, front + named, 1).replace(scores, f"\n{evaluation}{scores}", 1)
    card = card.replace(_HERE, f'folder = "{repository}"')
    if NOT_FOR not in card:  # the model was trained before its card said so
        card += f"\n{NOT_FOR}"
    made = " They were generated from word lists, and tell nothing about learners." if is_synthetic else ""
    stated = f"The texts of the training are under `{licence}`, as those state who pushed this model.{made}"
    return f"{card}\n## Licence of the data\n\n{stated}\n"


def push_model(model: HubModel, *, is_public: bool) -> str:
    """Create the repository if it does not exist, commit all files at once, and return the commit's URL.

    Files that the repository already has are not sent again.

    Raises:
        ConfigError: there is no token, or the existing repository is not as private or public as was asked for.
        StorageError: the hub does not answer, or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if get_token() is None:
        raise ConfigError("push: no token of the hub is here; do `hf auth login`, or set HF_TOKEN")
    api = HfApi()
    files = [CommitOperationAdd(CARD, model.card.encode())]
    files += [CommitOperationAdd(name, str(path)) for name, path in model.files.items()]
    with _asking_the_hub():
        api.create_repo(model.repository, private=not is_public, exist_ok=True)
        is_private = bool(api.repo_info(model.repository).private)
    if is_private is is_public:
        visibility = "private" if is_private else "public"
        raise ConfigError(
            f"--to: {model.repository} is there already, and {visibility}; "
            f"{'leave out' if is_public else 'give'} --public, or name another"
        )
    with _asking_the_hub():
        return api.create_commit(model.repository, files, commit_message="Model and card by raysweep push").commit_url


@contextmanager
def _asking_the_hub() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of whatever library speaks to the hub
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise StorageError(f"push: the hub refuses, or does not answer ({shown(line, 160)})") from error


def _evaluation(folder: RunFolder, config: Config, model: str) -> str:
    """Make a table of perplexities on every level's test documents: this model's, the general and the start model's."""
    with folder.matrix.open(newline="", encoding="utf-8") as file:
        rows = {row.pop("model"): row for row in csv.DictReader(file)}
    levels = list(rows[model])
    general = next((name for name in find_roles(expand_trials(config), levels).general if name in rows), None)
    others = [(f"the general model, `{general}`", general), ("the start, before training", START_MODEL)]
    lines = [("**this model**", model), *((title, name) for title, name in others if name in rows and name != model)]
    return f"""\
## Evaluation on test documents

Perplexity (`{config.report.metric}`) on documents of each level that were kept from training; lower is better.

{_table(["", *levels])}
|---|{"---|" * len(levels)}
{chr(10).join(_table([title, *(f"{float(rows[name][level]):,.2f}" for level in levels)]) for title, name in lines)}
"""


def _table(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
