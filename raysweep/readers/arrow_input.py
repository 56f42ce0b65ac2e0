"""Hands bytes to Arrow's readers, whose threads may outlive the call that reads them."""

import pyarrow as pa

MOST_COPIED = 64 << 20
"""Bytes of a file, or of a piece of one, above which more work follows than a thread needs to end."""


def arrow_input(data: bytes) -> pa.BufferReader:
    """Open bytes for one of Arrow's readers, as a copy in Arrow's own memory.

    A reader's threads may drop their last reference to the data after the reader has returned.  Dropping a Python
    object takes the GIL: a command that ends at that moment, for instance with an error in the file, was aborted by C++
    ("terminate called without an active exception", exit code 134).
    """
    if len(data) > MOST_COPIED:
        return pa.BufferReader(data)
    buffer = pa.allocate_buffer(len(data))
    with pa.FixedSizeBufferWriter(buffer) as writer:
        writer.write(data)
    return pa.BufferReader(buffer)
