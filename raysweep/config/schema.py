"""The schema of experiments.yaml: every setting, its unit, its default and its bounds.

Records are frozen and strict: a number in quotes is text, and an unknown key is an error.  A
profile is a `Config`; `loading.py` converts a file to one, or to a list of exact errors.
"""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from raysweep.config.budget_settings import BudgetConfig, NotifyConfig, PricesConfig
from raysweep.config.classification_settings import ClassificationConfig
from raysweep.config.control_settings import ControlsConfig
from raysweep.config.corpora_settings import Corpora
from raysweep.config.data_settings import DataConfig, MaskingConfig
from raysweep.config.evaluation_settings import EvaluationConfig, ReportConfig
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.config.section import Distinct, Section, Seed
from raysweep.config.tracker_settings import TrackerName
from raysweep.config.training_settings import EntryConfig, ModelConfig, TrainingConfig, TrialConfig


class SequentialSeedsConfig(Section):
    """Sequential seeds: every claim is tested after each seed, and training stops for claims that are settled."""

    max: Annotated[int, Field(ge=3, le=20)] = Field(description="most seeds of each training")
    stop: Literal["sequential"]


# The tags are named like pydantic's branches of a union, which messages leave out.
Seeds = Annotated[
    Annotated[int, Field(ge=1, le=1000), Tag("int")] | Annotated[SequentialSeedsConfig, Tag("dict[seeds]")],
    Discriminator(lambda value: "dict[seeds]" if isinstance(value, dict | SequentialSeedsConfig) else "int"),
]


class Config(Section):
    """A profile of experiments.yaml."""

    seed: Seed = Field(0, description="seed of splits, masks and statistics")
    seeds: Seeds = Field(
        1,
        description="number of trainings of every trial without its own seeds; the first has the trial's name. "
        "{max: 5, stop: sequential} trains seed after seed, and stops for claims that are settled",
    )
    data: DataConfig = DataConfig()
    corpora: Annotated[Corpora, Field(max_length=100)] = Field(
        {}, description="other corpora by name; every model is scored on their documents too"
    )
    masking: MaskingConfig = MaskingConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    trials: Annotated[dict[str, TrialConfig], Field(min_length=1, max_length=1000)]
    controls: ControlsConfig = ControlsConfig()
    resources: ResourcesConfig = ResourcesConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    classification: ClassificationConfig | None = Field(
        None,
        description="predict levels from perplexities after the evaluation; {} for the defaults; skipped if absent",
    )
    report: ReportConfig = ReportConfig()
    budget: BudgetConfig = BudgetConfig()
    prices: PricesConfig = PricesConfig()
    notify: NotifyConfig | None = None
    track: Annotated[tuple[TrackerName, ...], Distinct] = Field(
        (), description="trackers in addition to TensorBoard: mlflow (a local store), wandb (offline)"
    )

    def seeds_of(self, trial: EntryConfig) -> tuple[int, ...]:
        """Return the seeds with which an entry is trained."""
        most = self.seeds.max if isinstance(self.seeds, SequentialSeedsConfig) else self.seeds
        return tuple(range(most)) if trial.seeds is None else trial.seeds

    @property
    def sequential_seeds(self) -> int | None:
        """The most seeds of each training, if seeds are sequential; otherwise None."""
        return self.seeds.max if isinstance(self.seeds, SequentialSeedsConfig) else None


class ConfigFile(Section):
    """The whole file: named profiles, one of them the default."""

    default: str = Field(description="the profile used without --profile")
    profiles: Annotated[dict[str, Config], Field(min_length=1)]
