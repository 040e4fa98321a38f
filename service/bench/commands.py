"""The commands ``lethe bench …``."""

from statistics import median
from typing import Annotated

import typer
from typer import Option

from service.bench.canary_command import canary
from service.bench.output import progress, show
from service.bench.restart_command import restart
from service.bench.scoreboard_command import learners
from service.bench.serving_command import serving

__all__ = ["app"]

app = typer.Typer(help="Measure ratios on this machine, both sides in turns.", no_args_is_help=True)


app.command()(canary)
app.command()(restart)
app.command()(serving)
app.command()(learners)


@app.command()
def pipeline(
    *,
    threads: Annotated[int, Option(min=1, help="Threads that torch computes with, on both sides.")] = 1,
    learner: Annotated[str, Option(help="lethe learners lists them.")] = "finetune",
    broker: Annotated[
        str | None, Option(metavar="HOST:PORT", help="A Kafka cluster; without it, a broker in this process.")
    ] = None,
    turns: Annotated[int, Option(min=1, help="How often each side is measured.")] = 7,
    batches: Annotated[int, Option(min=10, help="Batches counted in a turn.")] = 200,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document, and nothing else.")] = False,
) -> None:
    """Compare a learner's speed through Kafka with its speed fed from memory."""
    from service.bench.pipeline import PipelineBench, PipelineSpeed, bench_pipeline

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


@app.command()
def checkpoint(
    *,
    learner: Annotated[str, Option(help="lethe learners lists them.")] = "finetune",
    turns: Annotated[int, Option(min=1, help="How often each side is measured.")] = 7,
    samples: Annotated[int, Option(min=1, help="Samples learned in a turn.")] = 8192,
    subjects: Annotated[int, Option(min=1, max=8, help="Subjects learned between two checkpoints.")] = 1,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document, and nothing else.")] = False,
) -> None:
    """Measure what writing checkpoints beside learning costs, at the default cadence."""
    from service.bench.checkpoint import CheckpointBench, CheckpointCost, bench_checkpoint

    cost = CheckpointCost()
    with progress() as bar:
        task = bar.add_task("warming up", total=turns)
        for cost in bench_checkpoint(CheckpointBench(learner, samples, subjects, turns)):
            bar.update(task, advance=1, description=f"{cost.seconds_lost:.3f} s lost a checkpoint so far")
    numbers = {
        "learner": learner,
        "subjects": subjects,
        "bytes": cost.size,
        "seconds_lost_per_checkpoint": cost.seconds_lost,
        "lower_quartile": cost.quartiles[0],
        "upper_quartile": cost.quartiles[1],
        "cpu_seconds": median(cost.cpu),
        "every_seconds": cost.every_seconds,
        "cost": cost.ratio,
        "cost_of_one_core": cost.cpu_ratio,
    }
    show(numbers, as_json)
