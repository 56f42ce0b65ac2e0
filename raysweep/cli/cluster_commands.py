"""`raysweep cluster`: what cluster.yaml needs beside Ray's own commands."""

import typer

from raysweep.storage.printable import say

app = typer.Typer(help="What a cluster needs beside Ray's own commands.", no_args_is_help=True, rich_markup_mode=None)


@app.command("watch-spot")
def watch_spot() -> None:
    """Wait for EC2's notice that it takes this spot instance, and tell Ray; cluster.yaml starts it on workers."""
    from raysweep.cluster.spot_watch import drain_this_node, watch_spot_notices

    watch_spot_notices(drain_this_node, say)
