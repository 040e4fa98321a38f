"""The command ``lethe anatomy``: where in a network a skill was lost."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from typer import Option

from lethe.cli.options import AsJson, Learners, OneLearnersOptions, write_json
from lethe.files.terminal import markup

if TYPE_CHECKING:
    from lethe.experiments.anatomy.run import Result, Spread

__all__ = ["anatomy"]


def anatomy(
    *,
    scenario: Annotated[
        str, Option(help="A built-in scenario's name, or a YAML file: ./NAME.yaml.")
    ] = "mnist-to-fashion",
    learner: Learners = None,
    samples: Annotated[int, Option(metavar="N", min=100, help="Maximum records of each segment.")] = 10_000,
    seeds: Annotated[int, Option(metavar="N", min=1, help="Runs of each learner.")] = 3,
    switch: Annotated[int, Option(metavar="N", min=1, help="Number of the switch that is looked at.")] = 1,
    option: OneLearnersOptions = None,
    grid: Annotated[int, Option(metavar="N", min=3, help="Points of a loss surface per axis.")] = 15,
    from_: Annotated[
        Path | None,
        Option(
            "--from",
            metavar="DIR",
            help="A state folder: draw the path of its weights from its checkpoints; nothing is learned.",
        ),
    ] = None,
    out: Annotated[Path, Option(help="Folder for anatomy.html and anatomy.json.")] = Path("lethe-anatomy"),
    as_json: AsJson = False,
) -> None:
    """Dissect what learners forget at a switch: loss surfaces, layers, readout, samples."""
    from lethe.cli.flags import read_options_of_one
    from lethe.errors import InvalidSetting
    from lethe.experiments.anatomy.checkpoints import read_path, write_path_page
    from lethe.experiments.anatomy.run import run_anatomy, write_document
    from lethe.experiments.anatomy.sections import write_page
    from lethe.experiments.anatomy.study import load_study
    from lethe.observability.peak_memory import peak_rss_bytes
    from lethe.report.formatting import mebibytes, seconds

    started = time.perf_counter()
    if from_ is not None:
        if learner or option:
            raise InvalidSetting("--learner and --from exclude each other, as do --option and --from")
        path = read_path(from_)
        out.mkdir(parents=True, exist_ok=True)
        write_document(path.to_json(), out / "anatomy.json")
        write_path_page(path, out / "anatomy.html")
        if as_json:
            write_json(path.to_json())
            return
        Console().print(f"{path.learner}: {len(path.samples)} checkpoints", soft_wrap=True)
        Console().print(markup(str(out / "anatomy.html")), soft_wrap=True)
        return
    names = list(dict.fromkeys(learner or ["finetune", "ewc", "replay"]))
    options = read_options_of_one(names, option)
    # rejects a bad name before anything is learned
    study = load_study(scenario, names, samples, seeds, switch, grid, options)
    out.mkdir(parents=True, exist_ok=True)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[tuple[str, int], TaskID] = {
            (name, seed): bar.add_task(f"{name}, seed {seed}", total=1.0)
            for name in names
            for seed in range(seeds)
        }
        result = run_anatomy(study, lambda name, seed, share: bar.update(tasks[name, seed], completed=share))
    document = result.to_json()
    write_document(document, out / "anatomy.json")
    write_page(result, out / "anatomy.html")
    if as_json:
        write_json(document)
        return
    Console().print(_table(result))
    memory = mebibytes(peak_rss_bytes())
    Console().print(f"{seconds(time.perf_counter() - started)}, at most {memory} of memory", soft_wrap=True)
    Console().print(markup(str(out / "anatomy.html")), soft_wrap=True)


def _table(result: "Result") -> Table:
    """Return what each learner lost, and where."""
    from lethe.experiments.anatomy.run import Spread

    old, new = result.study.old.subject, result.study.new.subject
    table = Table("learner", title=f"What was lost of {old} while {new} was learned", title_justify="left")
    for column in (
        "points lost",
        "recovered by\na new readout",
        f"barrier of\n{old}, nats",
        "CKA of the last\nhidden layer",
    ):
        table.add_column(column, justify="right")
    for name in result.study.learners:
        found = result.of(name)
        weights = [one.weights for one in found if one.weights is not None]
        if not weights:
            lost = Spread.of([one.accuracy[one.switch] - one.accuracy[-1] for one in found])
            barriers = [one.solution.old_line.barrier for one in found if one.solution is not None]
            barrier = _shown(Spread.of(barriers), 1, 3) if barriers else ""
            table.add_row(name, _shown(lost, 100, 1), "", barrier, "")
            continue
        table.add_row(
            name,
            _shown(Spread.of([one.diagnosis.lost for one in weights]), 100, 1),
            _shown(Spread.of([one.diagnosis.recovered for one in weights]), 100, 1),
            _shown(Spread.of([one.old_line.barrier for one in weights]), 1, 3),
            _shown(Spread.of([one.layers[-2].cka for one in weights if len(one.layers) > 1]), 1, 3),
        )
    return table


def _shown(spread: "Spread", factor: float, digits: int) -> str:
    deviation = "" if spread.deviation is None else f" ± {factor * spread.deviation:.{digits}f}"
    return f"{factor * spread.mean:.{digits}f}{deviation}"
