"""The learning rate of each step: a straight warm-up, then constant, linear or cosine decay.  Pure."""

import math

from raysweep.config.training_settings import TrainingConfig


def learning_rate(step: int, settings: TrainingConfig) -> float:
    """The learning rate of a step; the first step is 1, the last `settings.steps`.

    Warm-up rises to the peak at step `warmup_steps`.  Decay starts at the peak and would reach zero one
    step after the last, so no step is wasted on a rate of zero.
    """
    return settings.learning_rate * _factor(step, settings)


def _factor(step: int, settings: TrainingConfig) -> float:
    if step <= settings.warmup_steps:
        return step / settings.warmup_steps
    done = (step - settings.warmup_steps - 1) / (settings.steps - settings.warmup_steps)
    match settings.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - done
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * done))
