"""Whether a run may start, and go on, within its caps: pure, over what was spent and what is foretold.

What trainings take is added up in `spent.json` while they run, over all runs of a folder, so that a
cap holds for the experiment and not for each attempt at it.  Scoring and the report are not counted:
they are short, and without them the hours spent would say nothing.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from raysweep.config.budget_settings import BudgetConfig, PricesConfig
from raysweep.planning.prices import gpu_price
from raysweep.storage.atomic_files import read_json, write_json
from raysweep.storage.run_folder import RunFolder

KEEP_EVERY_S = 5.0
"""What a kill may lose of the account."""
WAYS_ON = "raise it, or set budget.start_anyway: true to train until the cap"


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What trainings have taken."""

    gpu_hours: float = 0.0
    wall_hours: float = 0.0
    cost: float = 0.0
    """At the prices of the time; 0 without prices."""

    def plus(self, other: "Spent") -> "Spent":
        """Both together."""
        return Spent(
            gpu_hours=self.gpu_hours + other.gpu_hours,
            wall_hours=self.wall_hours + other.wall_hours,
            cost=self.cost + other.cost,
        )

    @classmethod
    def read(cls, folder: RunFolder) -> Self:
        """What the run folder's trainings have taken so far."""
        return cls(**read_json(folder.spent)) if folder.spent.exists() else cls()

    def write(self, folder: RunFolder) -> None:
        """Put it in place, by rename."""
        write_json(folder.spent, {name: round(value, 9) for name, value in asdict(self).items()})


def refuse_start(budget: BudgetConfig, spent: Spent, expected: Spent, *, currency: str) -> list[str]:
    """Why the trainings must not start: every cap that is used up, or that they are expected to go over.

    Args:
        expected: what the trainings that are left will take.
    """
    problems = []
    for name, cap in _caps(budget).items():
        used, more = getattr(spent, name), getattr(expected, name)
        unit = _unit(name, currency)
        if used >= cap:
            problems.append(f"budget.{name}: {_figure(used)} of {cap:g} {unit} are used; raise it to go on")
        elif used + more > cap and not budget.start_anyway:
            so_far = f" besides {_figure(used)} used" if used else ""
            problems.append(f"budget.{name}: found {cap:g}; the plan expects {_figure(more)} {unit}{so_far}. {WAYS_ON}")
    return problems


def reached_cap(budget: BudgetConfig, spent: Spent, *, currency: str) -> str:
    """Why the trainings must stop now: 'budget: …'; '' while every cap holds."""
    for name, cap in _caps(budget).items():
        used = getattr(spent, name)
        if used >= cap:
            return f"budget: {_figure(used)} of {cap:g} {_unit(name, currency)} are used (budget.{name})"
    return ""


class SpendingMeter:
    """Adds up what runs, moment by moment; whoever asks gets the total of all runs of the folder."""

    def __init__(self, before: Spent, *, now: float, gpu_hour: float, core_hour: float) -> None:
        """Args: prices of an hour, 0 where there are none; `now` in seconds of any clock."""
        self._spent, self._at = before, now
        self._gpu_hour, self._core_hour = gpu_hour, core_hour

    @property
    def spent(self) -> Spent:
        """Up to the last look."""
        return self._spent

    def tick(self, now: float, *, gpus: float, cores: float) -> Spent:
        """Count the time since the last look, in which so many GPUs, or cores without one, were in use."""
        hours = (now - self._at) / 3600
        self._at = now
        is_busy = gpus > 0 or cores > 0
        self._spent = self._spent.plus(
            Spent(
                gpu_hours=gpus * hours,
                wall_hours=hours if is_busy else 0.0,
                cost=hours * (gpus * self._gpu_hour + cores * self._core_hour),
            )
        )
        return self._spent


class BudgetWatch:
    """A run's budget while trainings go on: looked into every moment, kept on disk every few seconds."""

    def __init__(self, folder: RunFolder, budget: BudgetConfig, prices: PricesConfig, *, device: str) -> None:
        """Args: `device` says which price holds: 'cpu', or a GPU's name."""
        self._folder, self._budget, self._currency = folder, budget, prices.currency
        self._gpu_hour, self._core_hour = gpu_price(prices, device) or 0.0, prices.core_hour or 0.0
        self._meter: SpendingMeter | None = None
        self._kept_at = 0.0

    def record_usage(self, now: float, *, gpus: float, cores: float) -> str:
        """Count the time since the last look; why trainings must stop now, or ''.

        Args:
            now: seconds of any clock.
            gpus, cores: in use since the last look; cores of trainings without a GPU.
        """
        if self._meter is None:
            before = Spent.read(self._folder)
            self._meter = SpendingMeter(before, now=now, gpu_hour=self._gpu_hour, core_hour=self._core_hour)
        spent = self._meter.tick(now, gpus=gpus, cores=cores)
        reason = reached_cap(self._budget, spent, currency=self._currency)
        if reason or now - self._kept_at >= KEEP_EVERY_S:
            self._kept_at = now
            spent.write(self._folder)
        return reason

    def close(self) -> None:
        """No training runs any more: keep what was spent; time until the next look is nobody's."""
        if self._meter is not None:
            self._meter.spent.write(self._folder)
            self._meter = None


def _caps(budget: BudgetConfig) -> Mapping[str, float]:
    caps = {"gpu_hours": budget.gpu_hours, "wall_hours": budget.wall_hours, "cost": budget.cost}
    return {name: cap for name, cap in caps.items() if cap is not None}


def _unit(name: str, currency: str) -> str:
    return {"gpu_hours": "GPU-hours", "wall_hours": "hours", "cost": currency}[name]


def _figure(value: float) -> str:
    return f"{value:,.2f}" if value >= 0.01 else f"{value:.2g}"
