"""The command ``lethe subtract``: takes what one service has learned off another."""

from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Argument, Option

from lethe.cli.options import AsJson, NewFolder, PluginLearner, StateFolder, write_json
from lethe.files.terminal import markup

__all__ = ["subtract"]


def subtract(
    state: StateFolder,
    other: Annotated[Path, Argument(metavar="OTHER", help="State folder of which everything is unlearned.")],
    out: NewFolder,
    learner: PluginLearner = None,
    trust_erasures: Annotated[
        bool,
        Option(
            "--trust-erasures", help="Samples erased from DIR were erased from OTHER, too, or never in it."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take the sums of one service (ridge, slda, ncm) off those of another that contains them.

    The result is, bit for bit, what the other would know if it had never learned these records. They are not
    read again. Both services must be stopped.
    """
    from lethe.privacy.subtract import subtract_state

    done = subtract_state(state, other, out, learner, trust_erasures=trust_erasures)
    if as_json:
        document = {"learner": done.learner, "samples": done.samples, "checkpoint": str(done.checkpoint)}
        write_json(document | {"sums": done.sums}, indent=1)
        return
    console = Console(soft_wrap=True)
    console.print(f"{done.learner} has unlearned {done.samples:,} samples: {markup(str(done.checkpoint))}")
    console.print(f"{done.sums}  SHA-256 of its sums")
