"""Derives seeds that depend only on what is drawn, never on when or where it is drawn.

Every random choice in raysweep is made by a generator derived from the run's seed and names that identify
the choice (a document's id, a trial's name, a step's number).  So row order, number of
workers, restarts and machines cannot change a result.
"""

import hashlib

import numpy as np


def seed_for(*parts: int | str) -> int:
    """Derive a 63-bit seed from a sequence of names and numbers; equal parts give equal seeds everywhere.

    Parts are typed and length-prefixed, so ("ab", "c") and ("a", "bc"), or 1 and "1", give different seeds.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = str(part).encode("utf-8", "surrogatepass")
        digest.update(f"{type(part).__name__}{len(data)}:".encode() + data)
    return int.from_bytes(digest.digest(), "little") >> 1


def generator_for(*parts: int | str) -> np.random.Generator:
    """Create a NumPy generator (PCG64) seeded with `seed_for(*parts)`."""
    return np.random.Generator(np.random.PCG64(seed_for(*parts)))
