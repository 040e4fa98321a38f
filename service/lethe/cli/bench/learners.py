"""The command ``lethe bench learners``."""

import sys
from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Option

from lethe.cli.bench.output import progress
from lethe.cli.options import AsJson, LearnersOptions, write_json
from lethe.errors import InvalidSetting
from lethe.settings import EvaluationSettings

__all__ = ["learners"]


def learners(
    *,
    scenario: Annotated[
        list[str] | None,
        Option(
            help="A built-in scenario's name, or a YAML file: ./NAME.yaml; repeatable.",
            show_default="mnist-to-fashion",
        ),
    ] = None,
    learner: Annotated[
        list[str] | None,
        Option(help="A learner's name; repeatable. See lethe learners.", show_default="all built-in ones"),
    ] = None,
    seeds: Annotated[
        int, Option(metavar="N", min=1, help="Runs of each learner, each with its own seed.")
    ] = 3,
    samples: Annotated[
        int | None, Option(metavar="N", min=1, help="Maximum records of each segment.")
    ] = None,
    oracle_boundaries: Annotated[
        bool, Option("--oracle-boundaries", help="Pass the segments' boundaries to the learners.")
    ] = False,
    option: LearnersOptions = None,
    validation: Annotated[
        bool,
        Option(
            "--validation",
            help="Evaluate on 10,000 training images of each data set, left out of the stream.",
        ),
    ] = False,
    evaluate_every: Annotated[
        int, Option(metavar="N", min=1, help="Samples between two evaluations on each probe's subset.")
    ] = EvaluationSettings().every,
    own_joint: Annotated[
        bool, Option("--own-joint", help="Also run every learner on the shuffled stream, and report the gap.")
    ] = False,
    beside: Annotated[
        list[Path] | None,
        Option("--with", help="A --json file of another run; its scores are added, not measured again."),
    ] = None,
    csv: Annotated[Path | None, Option(help="Write all scores to this file, one by one.")] = None,
    html: Annotated[Path | None, Option(help="Write plots to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare learners on scenarios, offline and over several seeds: accuracy, forgetting, speed, size."""
    from lethe.cli.flags import read_pairs
    from lethe.events import SCORES
    from lethe.experiments.bench.score_files import check_alike, known, read_scores, write_csv
    from lethe.experiments.bench.scoreboard import Bench, bench_learners, load_scenarios
    from lethe.experiments.bench.scoreboard_table import WIDTH, scoreboard_table
    from lethe.experiments.bench.scores import summarise
    from lethe.learners.registry import LEARNERS, find

    names = learner or list(LEARNERS)
    options = read_pairs("--option", option or [])
    for name in names:
        find(name).Options.of(options)  # reject a bad option before an hour of learning
    if csv is not None and html is not None and csv.resolve() == html.resolve():
        raise InvalidSetting(f"--csv and --html name the same file, {csv}")
    scores = read_scores(beside or [])
    scenarios = load_scenarios(scenario or ["mnist-to-fashion"])
    for file in (csv, html):
        if file is not None:  # reject a bad path, too
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
                write_csv(scores.values(), csv)  # after each: an interrupt loses none
            check_alike(scores.values())
            done = f"{score.learner} on {score.scenario}: {SCORES['acc'].label} {score.acc:.3f}"
            bar.update(task, advance=1, description=done)
    summaries = summarise([*scores.values()])
    if as_json:
        measured = [score.model_dump() for score in scores.values()]
        write_json({"scores": measured, "summaries": [summary.to_json() for summary in summaries]})
    else:
        Console(width=None if sys.stdout.isatty() else WIDTH).print(scoreboard_table(summaries))
    if html is not None:
        from lethe.experiments.bench.scoreboard_page import write_page

        write_page(summaries, html)
