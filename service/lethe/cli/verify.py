"""The command ``lethe verify``: compares what a learner knows with given samples."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer import Argument

from lethe.cli.options import AsJson, PluginLearner, Samples, SamplesLabel, write_json
from lethe.terminal import markup

__all__ = ["verify"]


def verify(
    state: Annotated[
        Path,
        Argument(metavar="STATE", help="A state folder, of which the newest checkpoint, or a checkpoint."),
    ],
    samples: Samples,
    label: SamplesLabel = None,
    learner: PluginLearner = None,
    as_json: AsJson = False,
) -> None:
    """Verify that a learner of sums (ridge, slda, ncm) knows exactly the given samples and nothing else.

    Its sums are computed anew and compared bit by bit. The service may run meanwhile.

    Exit status 1 if they differ.
    """
    from lethe.privacy.verify_sums import verify_sums

    verdict = verify_sums(state, samples, label, plugin=learner)
    if as_json:
        document = {
            "learner": verdict.learner,
            "checkpoint": str(verdict.checkpoint),
            "samples": verdict.samples,
        }
        sums = {"stored": verdict.stored, "computed": verdict.computed, "equal": verdict.equal}
        write_json(document | sums, indent=1)
    else:
        console = Console(soft_wrap=True)
        console.print(f"{verdict.stored}  {verdict.learner} in {markup(str(verdict.checkpoint))}")
        console.print(f"{verdict.computed}  computed from {verdict.samples} samples")
        if verdict.equal:
            console.print("[green]equal:[/] it knows these samples, each once, and nothing else")
        else:
            console.print("[red]not equal:[/] it knows other samples, or not all of these")
    if not verdict.equal:
        raise typer.Exit(1)
