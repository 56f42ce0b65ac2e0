"""Checks the pretrained GPT-2 that trials start from, before the run begins, without loading torch.

`read_start` reads the folder's config, its tokenizer and the headers of its weights, in milliseconds; `start_digest`
reads every weight.  The digest identifies the start: the same weights in another folder, on the hub or in other shards
are the same start, and other weights in the same folder are another start.  A start from the hub is the snapshot in
Hugging Face's local cache; it is downloaded only when a run needs it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from raysweep.config.error_messages import show
from raysweep.config.fingerprints import fingerprint
from raysweep.config.schema import Config
from raysweep.config.training_settings import GPT2_TOKENIZER, SCRATCH, ModelConfig
from raysweep.errors import InputError
from raysweep.masking.tokenizer_folder import CONFIG_FILE as TOKENIZER_CONFIG
from raysweep.masking.vocabulary import Vocabulary, gpt2
from raysweep.model.remembered_digests import FileStates, recall_digests, remember_digests
from raysweep.model.start_config import CONFIG_FILE, StartConfig, read_start_config
from raysweep.model.start_tokenizer import TOKENIZER_FILES, named_vocabulary, read_tokens, shortened
from raysweep.model.weight_files import INDEX_FILE, WEIGHTS_FILE, StoredTensor, digest_finite, read_tensors

_PREFIX = "transformer."
_BUFFER = re.compile(r"h\.\d+\.(attn|crossattention)\.(bias|masked_bias)\Z")
"""Attention masks that older versions of transformers saved with the weights."""
_LAYER = re.compile(r"h\.(\d+)\.")
_HEAD = "lm_head.weight"
START_OPTION = "model.start"
"""The option that names a start, for messages; `raysweep.load_model` has an argument instead."""
_HUB_FILES = [CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE, "model-*-of-*.safetensors", *TOKENIZER_FILES, TOKENIZER_CONFIG]


@dataclass(frozen=True, kw_only=True, slots=True)
class StartFolder:
    """A folder with a Hugging Face GPT-2 that raysweep can read."""

    place: str
    """The prefix of messages about it."""
    config: StartConfig
    vocabulary: Vocabulary
    """The tokens of its tokenizer, followed by the infilling tokens."""
    tensors: Mapping[str, StoredTensor]
    """The weights, by their names without `transformer.`."""
    has_infilling_tokens: bool
    """Whether the tokens after its tokenizer's are the seven infilling tokens, so that their weights are kept."""
    notes: tuple[str, ...]
    """Properties that are unusual but allowed."""


def check_start(config: Config, *, may_download: bool = False) -> str:
    """Check the configured start completely; returns a description of it, with its digest.

    Args:
        may_download: download a hub model that is not in the local cache; otherwise such a model is not checked.

    Raises:
        InputError: trials cannot start from it; the message names the place, the value found and the fix.
    """
    model = config.model
    if model.start == SCRATCH:
        _ = named_vocabulary(model.tokenizer)
        return f"from scratch, size {model.size}"
    folder = find_folder(model.start) if may_download else local_folder(model.start) or cached_snapshot(model.start)
    if folder is None:
        return f"hub model {model.start}, to be downloaded at the start"
    start = read_start(folder, place_of(model.start), vocabulary=named_vocabulary(model.tokenizer))
    refuse_long_examples(start, config.masking.max_tokens)
    digest = digest_start(start)
    what = f"folder {model.start}" if local_folder(model.start) else f"hub model {model.start}, in the local cache"
    return "; ".join([f"{what}, digest {digest}", *start.notes])


def model_identity(model: ModelConfig) -> dict[str, object]:
    """Identify what the trials without a parent start from, as JSON fields: the start's content, never its path."""
    if model.start == SCRATCH:
        return model.model_dump(mode="json", exclude={"tokenizer"})
    return {"start": start_digest(model.start, model.tokenizer), "dropout": model.dropout}


def start_digest(start: str, tokenizer: str = GPT2_TOKENIZER) -> str:
    """Compute the digest of a start; '' for 'scratch'.  A hub model that is not in the cache is downloaded.

    Args:
        tokenizer: `model.tokenizer`.

    Raises:
        InputError: the start cannot be read, is not a GPT-2, or a weight is not finite.
    """
    if start == SCRATCH:
        return ""
    return digest_start(read_start(find_folder(start), place_of(start), vocabulary=named_vocabulary(tokenizer)))


def find_folder(start: str, option: str = START_OPTION) -> Path:
    """Return the folder of a start that is a path, or the snapshot of a hub model, which is downloaded if necessary.

    Args:
        option: the option that named the start, for messages.

    Raises:
        InputError: there is no such folder, or the hub cannot be reached.
    """
    return local_folder(start, option) or cached_snapshot(start, option) or _download(start, option)


def read_start(folder: Path, place: str, *, vocabulary: Vocabulary | None) -> StartFolder:
    """Read a folder's config, tokenizer and the headers of its weights.

    Args:
        place: the prefix of messages.
        vocabulary: the vocabulary that the start must have; None accepts its own, or GPT-2's if it has no tokenizer.

    Raises:
        InputError: the folder has no GPT-2 with this vocabulary, or its parts do not fit together.
    """
    try:
        config = read_start_config(folder, place)
        stored = read_tensors(folder, place)
        wanted, extra, has_infilling = read_tokens(folder, place, vocabulary)
    except OSError as error:
        raise InputError(f"{place}: {error.strerror or error} ({error.filename}); make it readable") from error
    tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in stored.items()}
    if len(tensors) != len(stored):
        raise InputError(f"{place}: its weights hold a name twice, with and without '{_PREFIX}'; save the model anew")
    if config.vocab_size < wanted.own_size:
        here = f"{place}: {CONFIG_FILE}: vocab_size: found {config.vocab_size}"
        raise InputError(f"{here}; must be at least {wanted.own_size:,}, which are the tokens of its tokenizer")
    shapes = config.tensor_shapes()
    _compare_weights(shapes, tensors, config, place)
    unused = sorted(name for name in tensors.keys() - shapes.keys() if name != _HEAD and not _BUFFER.match(name))
    keeps = config.vocab_size == wanted.size and has_infilling
    return StartFolder(
        place=place,
        config=config,
        tensors={name: tensor for name, tensor in tensors.items() if name in shapes or name == _HEAD},
        vocabulary=wanted,
        has_infilling_tokens=keeps,
        notes=tuple(_notes(config, wanted, extra, keeps=keeps, unused=unused)),
    )


def digest_start(start: StartFolder) -> str:
    """Compute the digest of the start's content, which does not depend on folders, file names or sharding.

    Raises:
        InputError: a weight is not finite, or the output layer contradicts the config.
    """
    files = tuple(sorted({tensor.file for tensor in start.tensors.values()}))
    states = FileStates.of(files)
    if (recalled := recall_digests(states, list(start.tensors))) is not None:
        digests = dict(recalled)
    else:
        digests = dict(_digest_tensors(tuple(start.tensors.items()), states.states, start.place))
        remember_digests(states, dict(digests))
    head = digests.pop(_HEAD) if start.config.tie_word_embeddings and _HEAD in digests else None
    if head is not None and head != digests["wte.weight"]:
        raise InputError(
            f"{start.place}: its output layer ('{_HEAD}') differs from its embeddings, which its config.json ties; "
            "set tie_word_embeddings: false in it"
        )
    return fingerprint(
        {
            "config": start.config.model_dump(mode="json", exclude={"initializer_range", "quantization_config"}),
            "tensors": digests,
            "has_infilling_tokens": start.has_infilling_tokens,
            **({} if start.vocabulary is gpt2() else {"tokenizer": start.vocabulary.digest}),
        }
    )


def refuse_long_examples(start: StartFolder, max_tokens: int) -> None:
    """Raise InputError if the longest example has more tokens than the model has positions."""
    if (positions := start.config.n_positions) < max_tokens:
        raise InputError(
            f"{start.place}: it has {positions} positions, but examples have up to {max_tokens} tokens; "
            f"set masking.max_tokens: {positions} or start from a longer model"
        )


def cached_snapshot(name: str, option: str = START_OPTION) -> Path | None:
    """Return the folder of a hub model in the local cache; None if its config or weights are missing there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True, allow_patterns=_HUB_FILES))
    except HFValidationError as error:
        scratch = "'scratch', " if option == START_OPTION else ""
        raise InputError(
            f"{place_of(name, option)}: neither a folder nor a name on the hub; must be {scratch}a folder with a "
            "Hugging Face GPT-2, or a hub name ('gpt2')"
        ) from error
    except LocalEntryNotFoundError:
        return None
    has_weights = (folder / WEIGHTS_FILE).is_file() or (folder / INDEX_FILE).is_file()
    return folder if has_weights and (folder / CONFIG_FILE).is_file() else None


def place_of(start: str, option: str = START_OPTION) -> str:
    """Return the prefix of messages about a start; a long path is cut to its end."""
    return f"{option} '{shortened(start)}'"


def local_folder(start: str, option: str = START_OPTION) -> Path | None:
    """Return a start's folder, None if it can only be a hub name; raises InputError if no folder is at its path."""
    folder = Path(start).expanduser() if start.startswith("~/") else Path(start)
    try:
        if folder.is_dir():
            return folder
        is_path = folder.is_absolute() or start.startswith((".", "~")) or start.count("/") > 1 or folder.exists()
    except OSError as error:
        raise InputError(f"{place_of(start, option)}: {error.strerror}; must be a folder, or a hub name") from error
    if is_path:
        raise InputError(
            f"{place_of(start, option)}: no such folder; give a folder with a Hugging Face GPT-2, or a hub name"
        )
    return None


def refuse_unreachable_hub(start: str) -> str:
    """Check that a start is on this machine, or that the hub has it.

    Returns:
        '' for a start on this machine, otherwise a remark that the hub can be reached.

    Raises:
        InputError: the hub has no such model or cannot be reached; the message says how to copy the model here.
    """
    if start == SCRATCH or local_folder(start) or cached_snapshot(start):
        return ""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(start, CONFIG_FILE), timeout=10)
    except Exception as error:  # the libraries that access the hub raise many kinds of errors
        raise InputError(
            f"{place_of(start)}: not in the local cache, and the hub does not answer ({type(error).__name__}). Where "
            f"there is a network: `hf download {start} --local-dir {start.rpartition('/')[2]}`; copy that folder "
            f"here, and give it with --set model.start=./{start.rpartition('/')[2]}"
        ) from error
    return " (the hub can be reached)"


def _download(name: str, option: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (OSError, ValueError) as error:
        fault = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise InputError(
            f"{place_of(name, option)}: not in the local cache, and cannot be downloaded ({fault}); must be a folder, "
            "or a hub name that can be reached"
        ) from error


def _compare_weights(
    shapes: dict[str, tuple[int, ...]], tensors: Mapping[str, StoredTensor], config: StartConfig, place: str
) -> None:
    layers = {int(match[1]) for name in tensors if (match := _LAYER.match(name))}
    if layers and len(layers) != config.n_layer:
        raise InputError(
            f"{place}: its weights have {len(layers)} layers, its config.json says n_layer: {config.n_layer}; "
            "copy both from the same model"
        )
    if lacking := sorted(shapes.keys() - tensors.keys()):
        advice = "set tie_word_embeddings: true in its config.json" if lacking == [_HEAD] else "save the model anew"
        raise InputError(f"{place}: {len(lacking)} weights are missing ({lacking[0]}, …); {advice}")
    for name, shape in (shapes | ({_HEAD: shapes["wte.weight"]} if _HEAD in tensors else {})).items():
        if tensors[name].shape != shape:
            raise InputError(
                f"{place}: weight '{name}' has the shape {tensors[name].shape}; by its config.json it must be {shape}: "
                "copy both from the same model"
            )
    if unknown := sorted(
        name for name in tensors.keys() - shapes.keys() if name.startswith("h.") and not _BUFFER.match(name)
    ):
        raise InputError(f"{place}: {len(unknown)} weights are none of a GPT-2 ({show(unknown[0])}, …)")


def _notes(
    config: StartConfig, vocabulary: Vocabulary, extra: Mapping[int, str] | None, *, keeps: bool, unused: list[str]
) -> list[str]:
    notes = []
    if extra is None:
        notes.append("no tokenizer in the folder, so its tokens are taken to be GPT-2's")
    if config.vocab_size > vocabulary.own_size and not keeps:
        names = ", ".join(show(token) for token in list((extra or {}).values())[:3])
        some = f" ({names})" if names else ""
        whose = "GPT-2's" if vocabulary is gpt2() else "its tokenizer's"
        notes.append(f"its {config.vocab_size - vocabulary.own_size:,} tokens beyond {whose} are not used{some}")
    if unused:
        notes.append(f"{len(unused)} weights of other tasks are not used ({show(unused[0])})")
    return notes


@cache
def _digest_tensors(
    tensors: tuple[tuple[str, StoredTensor], ...],
    states: tuple[tuple[str, int, int, int, int], ...],  # noqa: ARG001 - a changed file invalidates the cached digests
    place: str,
) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, f"{tensor.dtype} {list(tensor.shape)} {digest_finite(tensor, place)}")
        for name, tensor in sorted(tensors)
    )
