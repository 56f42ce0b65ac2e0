"""The model card says what a model is made of and what may be done with it, without being asked."""

import math
from dataclasses import replace

import pytest

from raysweep.training.card import model_card

LOSSES = {"context": 3.0, "infill": 2.5, "infill_textonly": 2.75}


def card_of(job, precision="fp32_onednn", *, has_tf32=False):
    return model_card(
        job,
        parameters=1_234_567,
        examples=4_321,
        step=8,
        steps=12,
        losses=LOSSES,
        precision=precision,
        has_tf32=has_tf32,
    )


def test_a_model_card_has_data_settings_scores_and_licence_note(make_job):
    """A reader who finds the folder on a disk needs numbers with their units, and no path of our machine."""
    job = make_job(learning_rate=3e-4, warmup_steps=7, accumulation=2, weight_decay=0.01, schedule="cosine")
    card = card_of(job)
    assert card.startswith("---\nlibrary_name: transformers\n")
    for expected in (
        "# A1\n",
        "1,234,567 parameters",
        "Levels A1: 4,321 masked examples of the train split, at most 64 tokens each.",
        "Step 8 of 12 had the lowest validation loss",
        "Task `ilm`, 4 × 2 examples a step, AdamW at a learning rate of 0.0003 (cosine, 7 warm-up steps), "
        "weight decay 0.01, dropout 0.1, matrix products in float32 (by oneDNN), seed 0. Fingerprint `work-1`.",
        f"| infill | 2.5000 | {math.exp(2.5):.2f} |",
        "## What it must not be used for\n\n- To grade, place or select learners",
        "## Licence and limits",
        "the corpus they were trained on\nand from the model they started from",
    ):
        assert expected in card, expected
    assert str(job.folder) not in card


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"start": "scratch"}, "Start: random weights (size `micro`)."),
        (
            {"start": "gpt2", "start_digest": "12ab"},
            "GPT-2, `gpt2` of the Hugging Face hub (digest of its content: `12ab`).",
        ),
        ({"start_digest": "12ab"}, "Start: a pretrained GPT-2 (digest of its content: `12ab`)."),
        ({"parent": "all"}, "Start: the model of trial `all`."),
    ],
)
def test_a_model_card_states_the_start(make_job, small_start, fields, expected):
    """The start's licence holds for what was made of it; its path is nobody's business."""
    card = card_of(make_job(fields=fields))
    assert expected in card
    assert str(small_start) not in card


def test_a_model_card_states_the_configured_language(make_job):
    """A hub finds models by it."""
    card = card_of(replace(make_job(), language="de"))
    assert "\nlanguage: de\n" in card.split("---\n")[1]
    assert "texts of language learners, in the language `de`, trained by raysweep" in card


@pytest.mark.parametrize(
    ("precision", "has_tf32", "expected"),
    [("fp32", False, "float32,"), ("fp32", True, "TF32 (float32 of which"), ("bf16", True, "bfloat16,")],
)
def test_a_model_card_states_tf32_products(make_job, precision, has_tf32, expected):
    """A thousandth of a weight is not what a reader takes for float32."""
    assert f"matrix products in {expected}" in card_of(make_job(), precision, has_tf32=has_tf32)
