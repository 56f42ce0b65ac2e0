"""Prices and caps: what trainings cost, and whether a run may start and continue within its budget.

What trainings use is added up in `spent.json` while they run, over all runs in a folder, so a
cap applies to the experiment and not to each attempt at it.  Scoring and the report are short and are
not counted.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from raysweep.config.budget_settings import BudgetConfig, PricesConfig
from raysweep.errors import InputError
from raysweep.storage.atomic_files import read_json, write_json
from raysweep.storage.run_folder import RunFolder

KEEP_EVERY_S = 5.0
"""Seconds of spending that a kill may lose."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What trainings have used, or are expected to use."""

    gpu_hours: float = 0.0
    wall_hours: float = 0.0
    cost: float = 0.0
    """At the prices of the time; 0 without prices."""

    @classmethod
    def read(cls, folder: RunFolder) -> Self:
        """Read what the run folder's trainings have used so far."""
        values = read_json(folder.spent) if folder.spent.exists() else {}
        names = {field.name for field in fields(cls)}
        if not (isinstance(values, dict) and values.keys() <= names and all(map(_is_amount, values.values()))):
            raise InputError(f"{folder.spent}: is damaged or was edited; delete it to count from 0 again")
        return cls(**values)

    def write(self, folder: RunFolder) -> None:
        """Write `spent.json`."""
        write_json(folder.spent, {name: round(value, 9) for name, value in asdict(self).items()})


def gpu_price(prices: PricesConfig, device: str) -> float | None:
    """Return the price of an hour of one GPU of this kind; None if none is given."""
    for kind, price in prices.gpu_types.items():
        if kind.lower() in device.lower():
            return price
    return prices.gpu_hour


def price_of(prices: PricesConfig, device: str, *, gpu_hours: float, core_hours: float) -> dict[str, Any] | None:
    """Return amount and currency; None if no price is given for the device."""
    price, hours = (prices.core_hour, core_hours) if device == "cpu" else (gpu_price(prices, device), gpu_hours)
    if price is None:
        return None
    return {"amount": round(price * hours, 4), "currency": prices.currency}


def refuse_start(budget: BudgetConfig, spent: Spent, expected: Spent, *, currency: str) -> list[str]:
    """List the reasons not to start: each cap that is reached, or that the remaining trainings will exceed."""
    problems = []
    for name, cap in _caps(budget).items():
        used, more = getattr(spent, name), getattr(expected, name)
        unit = _unit(name, currency)
        if used >= cap:
            problems.append(f"budget.{name}: {_figure(used)} of {cap:g} {unit} are used; raise it to go on")
        elif used + more > cap and not budget.start_anyway:
            so_far = f" besides {_figure(used)} used" if used else ""
            problems.append(
                f"budget.{name}: found {cap:g}; the plan expects {_figure(more)} {unit}{so_far}. "
                "raise it, or set budget.start_anyway: true to train until the cap"
            )
    return problems


def reached_cap(budget: BudgetConfig, spent: Spent, *, currency: str) -> str:
    """Return the reason why the trainings must stop now, 'budget: …'; '' if no cap is reached."""
    for name, cap in _caps(budget).items():
        used = getattr(spent, name)
        if used >= cap:
            return f"budget: {_figure(used)} of {cap:g} {_unit(name, currency)} are used (budget.{name})"
    return ""


class BudgetWatch:
    """Adds up what running trainings use, compares it with the budget, and writes it every few seconds."""

    def __init__(self, folder: RunFolder, budget: BudgetConfig, prices: PricesConfig, *, device: str) -> None:
        """Args: `device`, 'cpu' or a GPU's name, selects the price."""
        self._folder, self._budget, self._currency = folder, budget, prices.currency
        self._gpu_hour, self._core_hour = gpu_price(prices, device) or 0.0, prices.core_hour or 0.0
        self._spent: Spent | None = None
        self._counted_until = self._written_at = 0.0

    @property
    def spent(self) -> Spent | None:
        """What was used so far; None before the first call of `record_usage`, and after `close`."""
        return self._spent

    def record_usage(self, now: float, *, gpus: float, cores: float) -> str:
        """Add the usage since the last call; return the reason why trainings must stop now, or ''.

        Args:
            now: seconds of any clock.
            gpus, cores: in use since the last call; cores are those of trainings without a GPU.
        """
        if self._spent is None:
            self._spent, self._counted_until = Spent.read(self._folder), now
        hours, self._counted_until = (now - self._counted_until) / 3600, now
        self._spent = Spent(
            gpu_hours=self._spent.gpu_hours + gpus * hours,
            wall_hours=self._spent.wall_hours + (hours if gpus > 0 or cores > 0 else 0.0),
            cost=self._spent.cost + hours * (gpus * self._gpu_hour + cores * self._core_hour),
        )
        reason = reached_cap(self._budget, self._spent, currency=self._currency)
        if reason or now - self._written_at >= KEEP_EVERY_S:
            self._written_at = now
            self._spent.write(self._folder)
        return reason

    def close(self) -> None:
        """Write what was used, since no training runs any more; the time until the next call is not counted."""
        if self._spent is not None:
            self._spent.write(self._folder)
            self._spent = None


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0


def _caps(budget: BudgetConfig) -> Mapping[str, float]:
    caps = {"gpu_hours": budget.gpu_hours, "wall_hours": budget.wall_hours, "cost": budget.cost}
    return {name: cap for name, cap in caps.items() if cap is not None}


def _unit(name: str, currency: str) -> str:
    return {"gpu_hours": "GPU-hours", "wall_hours": "hours", "cost": currency}[name]


def _figure(value: float) -> str:
    return f"{value:,.2f}" if value >= 0.01 else f"{value:.2g}"
