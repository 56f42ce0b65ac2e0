"""The schema of experiments.yaml: every setting, its unit, its default and its bounds.

Records are frozen and strict: a number in quotes is text, an unknown key is an error.  A
profile is a `Config`; `loading.py` turns a file into one, or into a list of exact errors.
"""

from typing import Annotated

from pydantic import Field

from raysweep.config.budget_settings import BudgetConfig, NotifyConfig, PricesConfig
from raysweep.config.control_settings import ControlsConfig
from raysweep.config.data_settings import DataConfig, MaskingConfig
from raysweep.config.evaluation_settings import EvaluationConfig, ReportConfig
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.config.section import Distinct, Section, Seed
from raysweep.config.tracker_settings import TrackerName
from raysweep.config.training_settings import EntryConfig, ModelConfig, TrainingConfig, TrialConfig


class Config(Section):
    """A profile of experiments.yaml."""

    seed: Seed = Field(0, description="seed of splits, masks and statistics")
    seeds: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="trainings of every trial that names no seeds of its own; the first is known by the trial's name"
    )
    data: DataConfig = DataConfig()
    masking: MaskingConfig = MaskingConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    trials: Annotated[dict[str, TrialConfig], Field(min_length=1, max_length=1000)]
    controls: ControlsConfig = ControlsConfig()
    resources: ResourcesConfig = ResourcesConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    report: ReportConfig = ReportConfig()
    budget: BudgetConfig = BudgetConfig()
    prices: PricesConfig = PricesConfig()
    notify: NotifyConfig | None = None
    track: Annotated[tuple[TrackerName, ...], Distinct] = Field(
        (), description="where the trainings are shown besides TensorBoard: mlflow (a local store), wandb (offline)"
    )

    def seeds_of(self, trial: EntryConfig) -> tuple[int, ...]:
        """The seeds that an entry is trained with."""
        return tuple(range(self.seeds)) if trial.seeds is None else trial.seeds


class ConfigFile(Section):
    """The whole file: named profiles, one of them the default."""

    default: str = Field(description="the profile used without --profile")
    profiles: Annotated[dict[str, Config], Field(min_length=1)]
