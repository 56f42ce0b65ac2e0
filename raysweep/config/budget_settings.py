"""Settings of budgets, prices and notifications; never part of a fingerprint."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from raysweep.config.section import PositiveFloat, Section, Timeout

Event = Literal["done", "failed", "budget"]


class PricesConfig(Section):
    """Prices per hour, for `plan` and for `budget.cost`."""

    currency: Annotated[str, Field(min_length=1)] = Field(
        "USD", description="shown after amounts; nothing is converted"
    )
    gpu_hour: Annotated[float, Field(ge=0.0)] | None = Field(
        None, description="price of an hour of one GPU of any kind"
    )
    gpu_types: dict[str, Annotated[float, Field(ge=0.0)]] = Field(
        {}, description="price by kind of GPU, such as {A100: 2.2}; takes precedence over gpu_hour"
    )
    core_hour: Annotated[float, Field(ge=0.0)] | None = Field(
        None, description="price of an hour of one CPU core, for trials without a GPU"
    )


class BudgetConfig(Section):
    """Limits on the total of all trainings of a run folder, checked before and during the run."""

    gpu_hours: PositiveFloat | None = Field(None, description="GPU-hours of all trainings; half a GPU counts half")
    wall_hours: PositiveFloat | None = Field(None, description="hours during which trainings run")
    cost: PositiveFloat | None = Field(None, description="in prices.currency")
    start_anyway: bool = Field(
        False, description="start although the plan's estimate exceeds a limit; trainings still stop at the limit"
    )


class NotifyConfig(Section):
    """Notifications about the end of a run."""

    command: tuple[str, ...] | None = Field(
        None,
        description="a program with its arguments, which may contain ${NAME} as in webhook; "
        "it gets the message as its last argument and in RAYSWEEP_* variables",
    )
    webhook: str | None = Field(
        None, description="a URL to which the message is sent as JSON by POST; ${NAME} is an environment variable"
    )
    on: Annotated[tuple[Event, ...], Field(min_length=1)] = Field(
        ("done", "failed", "budget"), description="events that are notified: done, failed, budget"
    )
    timeout_s: Timeout = Field(10.0, description="seconds that the command or the webhook may take")

    @field_validator("command")
    @classmethod
    def _names_a_program(cls, command: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if command is not None and (not command or not command[0]):
            raise ValueError("must be a list that starts with a program, such as [notify-send]")
        return command

    @field_validator("webhook")
    @classmethod
    def _is_http(cls, webhook: str | None) -> str | None:
        if webhook is not None and not webhook.startswith(("http://", "https://", "${")):
            raise ValueError("must start with https:// or http://, or be a ${NAME} from the environment")
        return webhook

    @model_validator(mode="after")
    def _has_a_receiver(self) -> Self:
        if self.command is None and self.webhook is None:
            raise ValueError("give a command or a webhook")
        return self
