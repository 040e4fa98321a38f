"""The command ``lethe bench serving``."""

from statistics import fmean
from typing import Annotated

from typer import Option

from service.bench.output import progress, show

__all__ = ["serving"]


def serving(
    *,
    learner: Annotated[str, Option(help="lethe learners lists them.")] = "finetune",
    threads: Annotated[int, Option(min=1, help="Threads that torch computes with.")] = 2,
    rate: Annotated[float, Option(min=5, help="Predictions asked for a second.")] = 20.0,
    broker: Annotated[
        str | None, Option(metavar="HOST:PORT", help="A Kafka cluster; without it, a broker in this process.")
    ] = None,
    rounds: Annotated[int, Option(min=1, help="How often each side is measured, at least.")] = 40,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document, and nothing else.")] = False,
) -> None:
    """Measure what the page, the metrics and predictions cost learning, and how fast a prediction is."""
    from service.bench.serving import ServingBench, ServingCost, bench_serving

    cost = ServingCost()
    with progress() as bar:
        task = bar.add_task("filling the topic", total=rounds)
        for cost in bench_serving(ServingBench(learner, threads, rate, broker, rounds)):
            done = f"speed while asked {cost.asked.value:.3f} so far"
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
