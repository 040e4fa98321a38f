"""The command ``lethe forget``: samples that are shown again are erased from what was learned."""

import json
import sys
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.markup import escape
from typer import Argument, Option

__all__ = ["forget_samples"]


def forget_samples(
    state: Annotated[Path, Argument(metavar="DIR", help="The state folder of a service that is stopped.")],
    samples: Annotated[
        list[Path],
        Argument(
            metavar="SAMPLES…",
            help="What to forget: PNGs (with --label), folders of LABEL/*.png, .npz files of x and y.",
        ),
    ],
    label: Annotated[int | None, Option(min=0, help="The label of each PNG that is named by itself.")] = None,
    drop_older: Annotated[
        bool, Option("--drop-older", help="Delete the older checkpoints, which still remember.")
    ] = False,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document, and nothing else.")] = False,
) -> None:
    """Erase samples from a learner that keeps sums (ridge, slda, ncm), as if it had never learned them."""
    from service.privacy.forget import forget

    done = forget(state, samples, label, drop_older=drop_older)
    remembering = [str(path) for path in done.remembering]
    if as_json:
        document = {"learner": done.learner, "samples": done.samples, "checkpoint": str(done.checkpoint)}
        json.dump(document | {"remembering": remembering}, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    console = Console(soft_wrap=True)
    console.print(f"{done.learner} has forgotten {done.samples} samples: {escape(str(done.checkpoint))}")
    for path in remembering:
        console.print(f"[yellow]still remembers them:[/] {escape(path)}")
    if remembering and not drop_older:
        console.print("--drop-older deletes the older checkpoints; those set aside are for you to delete")
