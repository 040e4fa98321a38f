"""The command ``lethe verify``: compares what a learner knows with samples or with a topic."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from typer import Argument, Option

from lethe.cli.options import AsJson, OptionalSamples, PluginLearner, SamplesLabel, write_json
from lethe.errors import InvalidSetting
from lethe.files.terminal import markup

__all__ = ["verify"]


def verify(
    state: Annotated[
        Path,
        Argument(metavar="STATE", help="A state folder, of which the newest checkpoint, or a checkpoint."),
    ],
    samples: OptionalSamples = None,
    label: SamplesLabel = None,
    bootstrap_servers: Annotated[
        str | None,
        Option(metavar="HOST:PORT", help="Cluster to read the learned records from, instead of SAMPLES."),
    ] = None,
    topic: Annotated[
        str | None, Option(metavar="NAME", help="Topic that holds them. Default: the one that was learned.")
    ] = None,
    without: Annotated[
        list[Path] | None,
        Option(metavar="SAMPLES", help="Records of the topic that were forgotten; repeatable."),
    ] = None,
    learner: PluginLearner = None,
    as_json: AsJson = False,
) -> None:
    """Verify that a learner of sums (ridge, slda, ncm, experts) knows exactly the given samples.

    Its sums are computed anew and compared bit by bit: from samples in files, or from the topic, at the
    offsets that the learner has read. The service may run meanwhile.

    Exit status 1 if they differ, 2 if they cannot be compared, such as when records were purged.
    """
    from lethe.privacy.verify_sums import verify_sums, verify_topic
    from lethe.settings import Settings

    if bool(samples) == (bootstrap_servers is not None):
        raise InvalidSetting("give either SAMPLES or --bootstrap-servers, to compare with one of them")
    if bootstrap_servers is None:
        if topic or without:
            raise InvalidSetting("--topic and --without need --bootstrap-servers")
        verdict = verify_sums(state, samples or [], label, plugin=learner)
    else:
        # the cluster's security options are those of LETHE_STREAM__SECURITY
        stream = Settings.read({"stream": {"bootstrap_servers": bootstrap_servers}}).stream
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("reading the topic", total=None)
            verdict = verify_topic(
                state,
                stream,
                topic,
                without or [],
                label,
                plugin=learner,
                on_read=lambda done, of: bar.update(task, completed=done, total=of),
            )
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
        console.print(f"{verdict.computed}  computed from {verdict.samples:,} samples")
        if verdict.equal:
            console.print("[green]equal:[/] it knows these samples, each once, and nothing else")
        else:
            console.print("[red]not equal:[/] it knows other samples, or not all of these")
            if verdict.erased and not without:
                console.print(f"{verdict.erased:,} samples were forgotten: name them with --without")
    if not verdict.equal:
        raise typer.Exit(1)
