"""The command ``lethe bench learners``."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Option

from service.bench.output import progress
from service.settings import EvaluationSettings

__all__ = ["learners"]


def learners(
    *,
    scenario: Annotated[
        list[str] | None,
        Option(
            help="A shipped scenario's name, or a YAML file; repeatable.", show_default="mnist-to-fashion"
        ),
    ] = None,
    learner: Annotated[
        list[str] | None,
        Option(help="lethe learners lists them; repeatable.", show_default="all of Lethe's own"),
    ] = None,
    seeds: Annotated[int, Option(min=1, help="How often each learns, from another seed.")] = 3,
    samples: Annotated[int | None, Option(min=1, help="At most so many of each segment.")] = None,
    oracle_boundaries: Annotated[bool, Option(help="Learners are told of the switches.")] = False,
    option: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=VALUE", help="An option of the learners, each of which must have it; repeatable."
        ),
    ] = None,
    validation: Annotated[
        bool, Option(help="Measure on 10,000 training images of each data set that the stream then lacks.")
    ] = False,
    evaluate_every: Annotated[
        int, Option(min=1, help="Samples between two evaluations of each probe's subset.")
    ] = EvaluationSettings().every,
    own_joint: Annotated[bool, Option(help="Learn each shuffled stream too: how far below it?")] = False,
    beside: Annotated[
        list[Path] | None,
        Option("--with", help="Scores of another run's --json, shown beside and not measured again."),
    ] = None,
    csv: Annotated[Path | None, Option(help="Write every score here, as soon as it is known.")] = None,
    html: Annotated[Path | None, Option(help="Write plots here.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document, and nothing else.")] = False,
) -> None:
    """Compare learners on scenarios, over several seeds, from memory: accuracy, forgetting, speed, size."""
    from producers.scenario import load_scenario
    from service.bench.score_files import check_alike, known, read_scores, write_csv
    from service.bench.scoreboard import Bench, bench_learners
    from service.bench.scoreboard_table import WIDTH, scoreboard_table
    from service.bench.scores import summarise
    from service.flags import read_pairs
    from service.learners import LEARNERS, find

    names = learner or list(LEARNERS)
    options = read_pairs("--option", option or [])
    for name in names:
        find(name).Options.of(options)  # refused now, not after an hour
    scores = read_scores(beside or [])
    scenarios = [load_scenario(name) for name in scenario or ["mnist-to-fashion"]]
    for file in (csv, html):
        if file is not None:  # refused now, too
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    bench = Bench(
        scenarios,
        names,
        seeds,
        samples,
        oracle=oracle_boundaries,
        own_joint=own_joint,
        options=options,
        validation=validation,
        evaluate_every=evaluate_every,
        known=known(scores, own_joint),
    )
    with progress() as bar:
        task = bar.add_task("learning", total=bench.steps)
        for score in bench_learners(bench):
            scores[score.key] = score
            if csv is not None:
                write_csv(scores.values(), csv)  # each time: what took an hour outlives an interrupt
            check_alike(scores.values())
            done = f"{score.learner} on {score.scenario}: ACC {score.acc:.3f}"
            bar.update(task, advance=1, description=done)
    summaries = summarise([*scores.values()])
    if as_json:
        measured = [asdict(score) for score in scores.values()]
        json.dump({"scores": measured, "summaries": [asdict(s) for s in summaries]}, sys.stdout)
        sys.stdout.write("\n")
    else:
        Console(width=None if sys.stdout.isatty() else WIDTH).print(scoreboard_table(summaries))
    if html is not None:
        from service.bench.scoreboard_page import write_page

        write_page(summaries, html)
