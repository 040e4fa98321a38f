"""The command ``lethe bench pipeline``."""

from typing import Annotated

from typer import Option

from lethe.cli.bench.output import progress, show
from lethe.cli.options import AsJson, Broker, Learner, Threads, Turns

__all__ = ["pipeline"]


def pipeline(
    *,
    threads: Threads = 1,
    learner: Learner = "finetune",
    broker: Broker = None,
    turns: Turns = 7,
    batches: Annotated[
        int | None, Option(metavar="N", min=10, help="Batches in one measurement. [default: 12,800 samples]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a learner's speed through Kafka with its speed from memory."""
    from lethe.experiments.bench.pipeline import PipelineBench, PipelineSpeed, bench_pipeline

    bench = PipelineBench(learner, threads, broker, batches, turns)
    speed = PipelineSpeed()
    with progress() as bar:
        task = bar.add_task("filling the topic", total=turns)
        for speed in bench_pipeline(bench):
            bar.update(task, advance=1, description=f"ratio so far {speed.ratio:.3f}")
    numbers = {
        "broker": broker or "embedded",
        "learner": learner,
        "memory": sum(speed.memory) / turns,
        "kafka": sum(speed.kafka) / turns,
        "ratio": speed.ratio,
        "threads": threads,
    }
    show(numbers, as_json)
