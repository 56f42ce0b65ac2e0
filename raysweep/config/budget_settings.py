"""What a run may spend, what that costs, and who is told of its end.  Never part of a fingerprint."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from raysweep.config.section import PositiveFloat, Section

Event = Literal["done", "failed", "budget"]


class PricesConfig(Section):
    """What an hour costs, for `plan` and for `budget.cost`."""

    currency: Annotated[str, Field(min_length=1)] = Field(
        "USD", description="shown beside amounts; nothing is converted"
    )
    gpu_hour: Annotated[float, Field(ge=0.0)] | None = Field(None, description="of one GPU of any kind")
    gpu_types: dict[str, Annotated[float, Field(ge=0.0)]] = Field(
        {}, description="of one GPU by its kind, such as {A100: 2.2}; goes before gpu_hour"
    )
    core_hour: Annotated[float, Field(ge=0.0)] | None = Field(
        None, description="of one CPU core, for trials without a GPU"
    )


class BudgetConfig(Section):
    """Caps on what the trainings may take, checked before and while they run; later runs of the folder add up."""

    gpu_hours: PositiveFloat | None = Field(None, description="GPU-hours of all trainings; half a GPU counts half")
    wall_hours: PositiveFloat | None = Field(None, description="hours in which trainings run")
    cost: PositiveFloat | None = Field(None, description="in prices.currency, at the prices given")
    start_anyway: bool = Field(False, description="start although the plan's estimate is above a cap; caps still hold")


class NotifyConfig(Section):
    """Who is told how a run ended."""

    command: tuple[str, ...] | None = Field(
        None, description="a program with its arguments; the message is its last argument and RAYSWEEP_* variables"
    )
    webhook: str | None = Field(None, description="a URL that gets the message as JSON by POST")
    on: Annotated[tuple[Event, ...], Field(min_length=1)] = Field(
        ("done", "failed", "budget"), description="what is told: done, failed, budget"
    )
    timeout_s: PositiveFloat = Field(10.0, description="seconds that the command or the webhook may take")

    @field_validator("command")
    @classmethod
    def _names_a_program(cls, command: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if command is not None and (not command or not command[0]):
            raise ValueError("must be a list that starts with a program, such as [notify-send]")
        return command

    @field_validator("webhook")
    @classmethod
    def _is_http(cls, webhook: str | None) -> str | None:
        if webhook is not None and not webhook.startswith(("http://", "https://")):
            raise ValueError("must start with https:// or http://")
        return webhook

    @model_validator(mode="after")
    def _tells_somebody(self) -> Self:
        if self.command is None and self.webhook is None:
            raise ValueError("give a command or a webhook")
        return self
