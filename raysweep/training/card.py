"""Writes the model card: what a model was trained on and how, its scores, and how to infill with it."""

from collections.abc import Mapping
from pathlib import Path

from raysweep.config.scored_metrics import perplexity
from raysweep.config.training_settings import SCRATCH
from raysweep.training.job import TrainingJob

USE = """\
```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file lies
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder).eval()

text = "Last summer I<|infill_ngram|> with my family.<|startofinfill|>"
prompt = tokenizer(text, return_tensors="pt")
with torch.no_grad():  # ends at <|endofinfill|>, after the first answer
    ids = model.generate(**prompt, max_new_tokens=32, do_sample=True, top_p=0.95)
answer = tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
print(answer)
```"""


_PRODUCTS = {"fp32": "float32", "fp32_onednn": "float32 (by oneDNN)", "bf16": "bfloat16"}
_TF32 = "TF32 (float32 of which the GPU reads 10 bits of the fraction)"

NOT_FOR = """\
## What it must not be used for

- To grade, place or select learners, or to decide anything else about a person: perplexity is no validated measure of
  proficiency.
- To tell who wrote a text, or whether a person or a machine did.
- To pass generated texts off as texts of learners, in a corpus or a study.
- To teach or correct a language: the model writes the mistakes that it has learnt.
- To recover passages of the training texts, or anything about those who wrote them.
"""


def model_card(
    job: TrainingJob,
    *,
    parameters: int,
    examples: int,
    step: int,
    steps: int,
    losses: Mapping[str, float],
    precision: str,
    has_tf32: bool,
) -> str:
    """Write the card as Markdown; the same job and scores give the same text.

    Args:
        step: the step of the exported weights, out of `steps` done.
        examples: number of examples in the train split of the job's levels.
        losses: nats per token on validation examples, by part.
        precision: precision of the matrix products, as in `TrainingResult`.
        has_tf32: whether float32 products were computed in TF32.
    """
    settings = job.settings
    products = _TF32 if precision == "fp32" and has_tf32 else _PRODUCTS[precision]
    scores = "\n".join(f"| {part} | {loss:.4f} | {perplexity(loss):,.2f} |" for part, loss in losses.items())
    start = _start(job)
    levels = ", ".join(job.levels)
    if job.documents is not None:
        levels += f" (a random part of their documents, as many as {job.documents.size_of} has)"
    if job.examples_per_level is not None:
        levels += " (repeated by level, as examples_per_level says)"
    return f"""\
---
library_name: transformers
language: {job.language}
pipeline_tag: text-generation
tags: [gpt2, text-infilling, learner-corpus]
---
# {job.trial}

A GPT-2 ({parameters:,} parameters) that fills blanks in texts of language learners, in the language `{job.language}`, \
trained by raysweep.

## Data

Levels {levels}: {examples:,} masked examples of the train split, at most {job.max_tokens} tokens each.

## Training

Start: {start}. Step {step:,} of {steps:,} had the lowest validation loss; these are its weights.
Task `{settings.task}`, {settings.batch_size} × {settings.accumulation} examples a step, AdamW at a learning rate of \
{settings.learning_rate:g} ({settings.schedule}, {settings.warmup_steps} warm-up steps), weight decay \
{settings.weight_decay:g}, dropout {job.model.dropout:g}, matrix products in {products}, seed \
{job.seed}. Fingerprint `{job.fingerprint}`.

## Scores on validation examples

| loss | nats per token | perplexity |
|---|---|---|
{scores}

## How to infill

Each blank is one of `<|infill_document|>`, `<|infill_paragraph|>`, `<|infill_sentence|>`, `<|infill_ngram|>` and
`<|infill_word|>`. After `<|startofinfill|>` the model writes the answers in the order of the blanks, each ended by
`<|endofinfill|>`.

{USE}

{NOT_FOR}
## Licence and limits

The weights carry no licence of their own: what may be done with them follows from the corpus they were trained on
and from the model they started from. They were trained on learners' texts, so they reproduce learners' mistakes, and
may repeat passages of the texts.
"""


def _start(job: TrainingJob) -> str:
    """Describe the start without paths, so that the card does not depend on the location of the run or the start."""
    if job.start == SCRATCH:
        return f"random weights (size `{job.model.size}`)"
    if job.parent is not None:
        return f"the model of trial `{job.parent}`"
    source = "" if Path(job.start).is_dir() else f", `{job.start}` of the Hugging Face hub"
    return f"a pretrained GPT-2{source} (digest of its content: `{job.start_digest}`)"
