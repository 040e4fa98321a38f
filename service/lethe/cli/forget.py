"""The command ``lethe forget``: erases samples from a stopped learner."""

from typing import Annotated

from rich.console import Console
from typer import Option

from lethe.cli.options import AsJson, PluginLearner, Samples, SamplesLabel, StateFolder, write_json
from lethe.errors import InvalidSetting
from lethe.files.terminal import markup

__all__ = ["forget"]


def forget(
    state: StateFolder,
    samples: Samples,
    label: SamplesLabel = None,
    at: Annotated[
        list[str] | None,
        Option(
            metavar="PARTITION:OFFSET", help="Where the record of each sample was; for experts. Repeatable."
        ),
    ] = None,
    learner: PluginLearner = None,
    trust_labels: Annotated[
        bool, Option("--trust-labels", help="Also forget samples that the learner assigns to another class.")
    ] = False,
    drop_older: Annotated[
        bool, Option("--drop-older", help="Delete older checkpoints, which still contain the samples.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Erase samples from a learner of sums (ridge, slda, ncm, experts), as if they had never been learned.

    The service must be stopped. experts also needs the places of the records, by --at or as array at of the
    .npz, once it has found several regimes.
    """
    from lethe.privacy.unlearn import forget as unlearn

    done = unlearn(
        state,
        samples,
        label,
        drop_older=drop_older,
        plugin=learner,
        trust_labels=trust_labels,
        at=[_place(text) for text in at or []],
    )
    remembering = [str(path) for path in done.remembering]
    if as_json:
        document = {"learner": done.learner, "samples": done.samples, "checkpoint": str(done.checkpoint)}
        write_json(document | {"remembering": remembering}, indent=1)
        return
    console = Console(soft_wrap=True)
    console.print(f"{done.learner} has forgotten {done.samples} samples: {markup(str(done.checkpoint))}")
    for path in remembering:
        console.print(f"[yellow]still contains them:[/] {markup(path)}")
    if remembering and not drop_older:
        console.print("--drop-older deletes older checkpoints; delete those that were moved aside yourself")


def _place(text: str) -> tuple[int, int]:
    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise InvalidSetting(f"--at {text} is not PARTITION:OFFSET, such as 0:117")
    return int(partition), int(offset)
