"""The commands of `raysweep`.

Heavy rooms are imported inside the command that needs them, so that `--help`, `plan`, `check` and
config errors answer at once.  Exit codes: 0 all done, 1 something failed, 2 the config or the input
is wrong, 130 interrupted.
"""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raysweep.errors import ConfigError, RaysweepError

if TYPE_CHECKING:  # pydantic is not needed to print a help page
    from raysweep.cli.settings import Settings

app = typer.Typer(
    name="raysweep",
    help="Is a language model per CEFR level worth it? From a CSV of learner texts to a decided experiment.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

bench_app = typer.Typer(help="Measure this machine; prints JSON.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bench_app, name="bench")

ConfigOption = Annotated[Path, typer.Option("--config", help="The file with the profiles.")]
ProfileOption = Annotated[str | None, typer.Option("--profile", help="Which profile; the file's default if absent.")]
NameOption = Annotated[str | None, typer.Option("--name", help="The run's name; the profile's if absent.")]
StorageOption = Annotated[str, typer.Option("--storage", help="Where run folders lie; a path that every node sees.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="path.to.key=value, laid over the profile; may be given several times."),
]
ForceOption = Annotated[
    list[str] | None,
    typer.Option("--force", help="A trial or stage to do again, with what depends on it; may be given several times."),
]
InlineOption = Annotated[bool, typer.Option("--inline", help="Work in this process, one piece at a time, without Ray.")]

DEFAULT_CONFIG = Path("experiments.yaml")
DEFAULT_STORAGE = "runs"


def main() -> None:
    """Run a command; a mistake of the user's ends in its message, not in a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except RaysweepError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoints", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output (head, less) has enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


@app.command()
def run(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    force: ForceOption = None,
    inline: InlineOption = False,
) -> None:
    """Do every stage that is not done: prepare, mask, train, evaluate, report."""
    _do_stages(_settings(config, profile, name, storage, set_), force, inline, stages=None)


@app.command()
def prepare(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    force: ForceOption = None,
) -> None:
    """Turn the CSV into documents, each with its split; set bad rows aside."""
    _do_stages(_settings(config, profile, name, storage, set_), force, True, stages=["prepare"])


@app.command()
def mask(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    force: ForceOption = None,
    inline: InlineOption = False,
) -> None:
    """Make the masked examples, on CPU workers."""
    _do_stages(_settings(config, profile, name, storage, set_), force, inline, stages=["mask"])


@app.command()
def train(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    force: ForceOption = None,
    inline: InlineOption = False,
) -> None:
    """Train the trials that are not done, concurrently."""
    _do_stages(_settings(config, profile, name, storage, set_), force, inline, stages=["train"])


@app.command()
def evaluate(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    force: ForceOption = None,
    inline: InlineOption = False,
) -> None:
    """Score every trained model on every level's test documents."""
    _do_stages(_settings(config, profile, name, storage, set_), force, inline, stages=["evaluate"])


@app.command()
def report(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    force: ForceOption = None,
) -> None:
    """Write the report from the saved scores."""
    _do_stages(_settings(config, profile, name, storage, set_), force, True, stages=["report"])


@app.command()
def plan(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    json: Annotated[bool, typer.Option("--json", help="For a program.")] = False,
) -> None:
    """Show the trials, what starts from what, and what a run would do."""
    from raysweep.cli.plan import print_plan

    print_plan(_settings(config, profile, name, storage, set_), as_json=json)


@app.command()
def check(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the file's JSON Schema, for editors.")] = False,
) -> None:
    """Say everything that is wrong with the config; nothing is run."""
    import json

    from raysweep.config.loading import check_file, config_schema

    if schema:
        print(json.dumps(config_schema(), indent=2))
        return
    if profile is None and not set_:
        for each, found in check_file(config).items():
            print(f"{config.name}: profile {each}: fine, {len(found.trials)} trials")
    else:
        settings = _settings(config, profile, name, storage, set_)
        print(f"{config.name}: profile {settings.profile}: fine, {len(settings.config.trials)} trials")


@app.command()
def sample(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    out: Annotated[Path, typer.Option("--out", help="The CSV to write.")] = Path("sample.csv"),
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Texts; data.sample.rows if absent.")] = None,
) -> None:
    """Write a synthetic corpus in the shape of EFCAMDAT."""
    from raysweep.corpus.sample import SYNTHETIC_NOTICE, write_sample

    found = _settings(config, profile, name, storage, set_).config
    count = rows or found.data.sample.rows
    write_sample(
        out,
        rows=count,
        seed=found.seed,
        level_shares=found.data.sample.level_shares,
        levels=found.data.levels,
    )
    print(f"{out}: {count:,} texts. {SYNTHETIC_NOTICE}")


@app.command()
def infill(
    text: Annotated[str | None, typer.Argument(help="A text with blanks; asked for if absent.")] = None,
    model: Annotated[Path, typer.Option("--model", help="A folder with a trained model.")] = Path("model"),
    samples: Annotated[int, typer.Option("--samples", min=1, help="Fillings to draw.")] = 3,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0: the likeliest token.")] = 1.0,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Draw from the k likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option("--top-p", min=0.0, max=1.0, help="Draw from the likeliest tokens of this mass.")
    ] = 0.95,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
) -> None:
    """Fill blanks: [blank], [word], [ngram], [sentence], [paragraph] or [document]."""
    from raysweep.cli.infill import fill_text, fill_texts_asked_for

    options: dict[str, Any] = {
        "samples": samples,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
    }
    if text is None:
        fill_texts_asked_for(model, **options)
    else:
        fill_text(model, text, **options)


@app.command()
def preview(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    level: Annotated[str | None, typer.Option("--level", help="Of this level only.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Examples to show.")] = 5,
) -> None:
    """Show masked examples of a run in colour: context, blanks, answers."""
    from raysweep.cli.preview import print_examples

    print_examples(_settings(config, profile, name, storage, set_), level=level, count=count)


@app.command("ilm-export")
def ilm_export(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    out: Annotated[Path, typer.Option("--out", help="The folder for the pickles.")] = Path("ilm"),
) -> None:
    """Write a run's masked examples as the original ILM code reads them."""
    from raysweep.cli.original import export_examples

    export_examples(_settings(config, profile, name, storage, set_), out)


@app.command("ilm-import")
def ilm_import(
    source: Annotated[Path, typer.Argument(help="The original's examples (.pkl) or texts (.txt).")],
    level: Annotated[str, typer.Option("--level", help="The level of all its documents.")],
    out: Annotated[Path, typer.Option("--out", help="The CSV to write.")] = Path("imported.csv"),
) -> None:
    """Turn the documents of the original ILM code's files into a CSV; no pickled code is run."""
    from raysweep.cli.original import import_texts

    import_texts(source, level, out)


@bench_app.command("mask")
def bench_mask(
    csv: Annotated[Path, typer.Option("--csv", help="A corpus.")],
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Its first rows; all if absent.")] = None,
    column: Annotated[str, typer.Option("--column", help="The column with the texts.")] = "text",
) -> None:
    """Time the making of examples on one core, beside what tokenising alone takes; prints JSON."""
    import json

    from raysweep.masking.benchmark import benchmark_masking, read_texts

    print(json.dumps(benchmark_masking(read_texts(csv, column, rows)), indent=2))


@bench_app.command("train")
def bench_train(
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1 …; a GPU if there is one.")] = None,
    config: Annotated[str, typer.Option("--config", help="micro, small, gpt2 or gpt2-medium.")] = "small",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Examples per step.")] = 8,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Timed steps.")] = 10,
    precision: Annotated[str, typer.Option("--precision", help="auto, fp32 or bf16.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="With torch.compile.")] = False,
    like: Annotated[str | None, typer.Option("--like", help="'original': also time the original's way.")] = None,
) -> None:
    """Time training steps on made-up examples in the shape of EFCAMDAT; prints JSON."""
    import json

    from raysweep.config.schema import SIZES
    from raysweep.training.benchmark import benchmark_training

    problems = []
    if config not in SIZES:
        problems.append(f"--config: found '{config}'; must be {', '.join(SIZES)}")
    if precision not in ("auto", "fp32", "bf16"):
        problems.append(f"--precision: found '{precision}'; must be auto, fp32 or bf16")
    if like not in (None, "original"):
        problems.append(f"--like: found '{like}'; must be 'original'")
    if problems:
        raise ConfigError(*problems)
    measured = benchmark_training(
        device=device,
        size=config,
        batch_size=batch_size,
        steps=steps,
        precision=precision,
        compiled=compiled,
        like_original=like is not None,
    )
    print(json.dumps(measured, indent=2))


@app.command()
def status(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it until the run ends.")] = False,
) -> None:
    """Show where a run stands; from another terminal too."""
    from raysweep.cli.view import print_status

    print_status(_settings(config, profile, name, storage, set_), watch=watch)


@app.command()
def doctor(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
) -> None:
    """Check this machine against what the config needs."""
    from raysweep.cli.doctor import examine

    if not examine(_settings(config, profile, name, storage, set_)):
        sys.exit(1)


def _settings(config: Path, profile: str | None, name: str | None, storage: str, set_: list[str] | None) -> "Settings":
    from raysweep.cli.settings import read_settings

    return read_settings(config, profile=profile, name=name, storage=storage, overrides=set_ or [])


def _do_stages(settings: "Settings", force: list[str] | None, inline: bool, *, stages: list[str] | None) -> None:
    from raysweep.cli.view import view_for
    from raysweep.pipeline.inline import InlineExecutor
    from raysweep.pipeline.lock import locked
    from raysweep.pipeline.run import STAGES, Run
    from raysweep.pipeline.work import Executor

    executor: Executor
    if inline:
        executor = InlineExecutor(settings.config.resources.cpus_per_trial)
    else:
        from raysweep.cluster.executor import RayExecutor

        executor = RayExecutor(settings.config.resources, settings.folder)
    with locked(settings.folder), view_for(settings) as view:
        try:
            work = Run(
                config=settings.config,
                profile=settings.profile,
                folder=settings.folder,
                executor=executor,
                listener=view,
                command=settings.command(),
                forced=force or [],
            )
            for stage in stages or STAGES:
                view.begin(stage)
                work.do(stage)
            lost = work.unfinished() if stages is None or "train" in stages else []
        finally:
            executor.close()
    for each in lost:
        print(f"{each.state}: {each.trial}: {each.reason}", file=sys.stderr)
    if lost:
        sys.exit(1)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
