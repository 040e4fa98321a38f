"""The command ``lethe bench serving``."""

from statistics import fmean
from typing import Annotated

from typer import Option

from lethe.cli.bench.output import progress, show
from lethe.cli.options import AsJson, Broker, Learner, Threads

__all__ = ["serving"]


def serving(
    *,
    learner: Learner = "finetune",
    threads: Threads = 2,
    rate: Annotated[float, Option(metavar="N", min=5, help="Predictions per second.")] = 20.0,
    broker: Broker = None,
    rounds: Annotated[
        int, Option(metavar="N", min=1, help="Minimum number of measurements of each side.")
    ] = 40,
    as_json: AsJson = False,
) -> None:
    """Measure how page, metrics and predictions slow learning down, and the latency of predictions."""
    from lethe.experiments.bench.serving import ServingBench, ServingCost, bench_serving

    cost = ServingCost()
    with progress() as bar:
        task = bar.add_task("filling the topic", total=rounds)
        for cost in bench_serving(ServingBench(learner, threads, rate, broker, rounds)):
            done = f"relative speed with predictions {cost.asked.value:.3f} so far"
            bar.update(task, completed=len(cost.speeds["asked"]), description=done)
    numbers = {
        "learner": learner,
        "threads": threads,
        "alone": fmean(cost.speeds["alone"]),
        "watched": fmean(cost.speeds["watched"]),
        "asked": fmean(cost.speeds["asked"]),
        "ratio_while_watched": cost.watched.value,
        "standard_error_watched": cost.watched.error,
        "ratio_while_asked": cost.asked.value,
        "standard_error_asked": cost.asked.error,
        "requests": len(cost.latencies),
        "p50_ms": 1000 * cost.latency(0.5),
        "p99_ms": 1000 * cost.latency(0.99),
    }
    show(numbers, as_json)
