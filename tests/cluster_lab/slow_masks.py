"""A mask function that takes its time, so that a stage can be interrupted in its middle."""

import os
import time

from raysweep.masking.vocabulary import Kind


def one_word(text, hierarchy, generator):
    """Blank one word, after a while; MASK_SECONDS tells how long."""
    time.sleep(float(os.environ.get("MASK_SECONDS", "0")))
    words = [word for paragraph in hierarchy[2] for sentence in paragraph[2] for word in sentence[2]]
    offset, length = words[int(generator.integers(len(words)))]
    return [[(Kind.WORD, offset, length)]]
