"""The command ``lethe merge``: adds what several services have learned."""

from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Argument

from lethe.cli.options import AsJson, NewFolder, PluginLearner, write_json
from lethe.files.terminal import markup

__all__ = ["merge"]


def merge(
    states: Annotated[
        list[Path], Argument(metavar="STATE...", help="State folders of services that read one topic.")
    ],
    out: NewFolder,
    learner: PluginLearner = None,
    as_json: AsJson = False,
) -> None:
    """Add the sums of services (ridge, slda, ncm) that learned different records of one topic.

    The result is, bit for bit, what one service that learned all of it would know; lethe run continues from
    there. The services must be stopped.
    """
    from lethe.privacy.merge import merge_states

    done = merge_states(states, out, learner)
    if as_json:
        document = {"learner": done.learner, "samples": done.samples, "checkpoint": str(done.checkpoint)}
        write_json(document | {"sums": done.sums}, indent=1)
        return
    console = Console(soft_wrap=True)
    console.print(f"{done.learner} of {done.samples:,} samples: {markup(str(done.checkpoint))}")
    console.print(f"{done.sums}  SHA-256 of its sums")
