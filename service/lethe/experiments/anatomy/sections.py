"""The page of a study: what was lost, where in the network, and which samples."""

from collections.abc import Callable, Mapping, Sequence
from math import log10
from pathlib import Path
from typing import Final

from lethe.experiments.anatomy import figures
from lethe.experiments.anatomy.dissection import Dissection, Weights
from lethe.experiments.anatomy.line import Line
from lethe.experiments.anatomy.page import Panel, Section, Table, write_sections
from lethe.experiments.anatomy.run import Result, Spread
from lethe.experiments.anatomy.solution import Solution
from lethe.report.figures import RATIO, LegendEntry, colour, legend
from lethe.report.formatting import UNDEFINED, number, percent, points

__all__ = ["write_page"]

CEILING: Final = 2.0
"""Losses above this many times the largest of the path are drawn like this one."""
_PARTS: Final = {
    "lost": ("lost by the network", "--p3"),
    "recovered": ("recovered by a new readout", "--p4"),
    "representation": ("lost by new readouts", "--p5"),
}
"""What is drawn of a diagnosis, with its title and colour."""


def write_page(result: Result, path: Path) -> None:
    """Write the page of a study."""
    study = result.study
    names = list(study.learners)
    old, new = study.old.subject, study.new.subject
    seeds = "one seed" if study.seeds == 1 else f"mean ± standard deviation over {study.seeds} seeds"
    shown = [result.of(name)[0] for name in names]
    dissected = [(found, found.weights) for found in shown if found.weights is not None]
    solved = [(found, found.solution) for found in shown if found.solution is not None]
    lines = {name: [one.weights or one.solution for one in result.of(name)] for name in names}
    between = {name: [(one.old_line, one.new_line) for one in found if one] for name, found in lines.items()}
    barrier = _lines({name: found for name, found in between.items() if found}, names, old, new)
    sections = [_accuracy(shown, names, old)]
    if solved:
        sections.append(_solutions(solved, old, new))
    if solved and not dissected:
        sections.append(barrier)
    if dissected:
        of = {name: [one.weights for one in result.of(name) if one.weights is not None] for name in names}
        by_name = {name: weights for name, weights in of.items() if weights}
        sections += [
            _surfaces(dissected, old, new),
            barrier,
            _layers(by_name, names, old),
            _diagnosis(by_name, old),
            _theory(dissected, names),
        ]
    sections += [
        _events(shown, names),
        _flow(shown, study.class_names(study.old), study.class_names(study.new)),
    ]
    write_sections(
        path,
        title=f"the anatomy of forgetting, {old} → {new}",
        kicker=f"The anatomy of forgetting · {study.scenario.name}",
        headlines=[_headline(result.of(name), old) for name in names],
        lead=f"At most {study.samples:,} samples of {old}, then of {new}; {seeds}. A is the point at the "
        "switch, B the end. Surfaces, paths and images are of seed 0.",
        colours=legend(names),
        sections=sections,
    )


def _headline(seeds: Sequence[Dissection], old: str) -> str:
    name = seeds[0].learner
    found = [one.weights.diagnosis for one in seeds if one.weights is not None]
    if not found:
        lost = Spread.of([one.accuracy[one.switch] - one.accuracy[-1] for one in seeds])
        if lost.mean < 0:
            return f"{name} gained {_points(Spread(-lost.mean, lost.deviation))} points on {old}"
        return f"{name} lost {_points(lost)} points of {old}"
    lost, recovered = (Spread.of([getattr(one, what) for one in found]) for what in ("lost", "recovered"))
    return (
        f"{name} lost {_points(lost)} points of {old}; a readout fitted anew on its frozen features recovers "
        f"{_points(recovered)}"
    )


def _points(spread: Spread) -> str:
    """Return percentage points, or a percentage, with the deviation."""
    return _shown(Spread(100 * spread.mean, spread.deviation and 100 * spread.deviation), ".1f")


def _shown(spread: Spread, form: str) -> str:
    deviation = "" if spread.deviation is None else f" ± {format(spread.deviation, form)}"
    return f"{format(spread.mean, form)}{deviation}".replace("-", "\N{MINUS SIGN}")


def _accuracy(shown: Sequence[Dissection], names: Sequence[str], old: str) -> Section:
    return Section(
        "What was lost",
        f"Accuracy on {old} at each recorded point; the dotted line is the switch.",
        [Panel(found.learner, figures.accuracy_over(found, colour(names, found.learner))) for found in shown],
    )


def _surfaces(dissected: Sequence[tuple[Dissection, Weights]], old: str, new: str) -> Section:
    panels = []
    for found, weights in dissected:
        portrait = weights.portrait
        if portrait is None:
            continue
        for probe in (old, new):
            top = log10(CEILING * max(portrait.path_loss[probe]))
            figure = figures.contour(portrait, probe, found.switch, top)
            panels.append(Panel(f"{found.learner}: loss on {probe}", figure))
        panels.append(
            Panel(
                f"{found.learner}: {old} in three dimensions",
                figures.landscape(portrait, old, found.switch, log10(CEILING * max(portrait.path_loss[old]))),
                f"This plane shows {percent(portrait.share)} of the variance of the path's points, the best "
                f"one would show {percent(portrait.best_share)}.",
            )
        )
    return Section(
        "The surfaces and the path",
        "Loss over the plane through three points of the path: its start, A and B. The stronger the colour, "
        "the lower the loss; the scale is logarithmic. Points of the path that are not on the plane are "
        "projected onto it. In three dimensions the path has the loss measured at its own points, so it can "
        "run above or below the surface.",
        panels,
        legend=_legend_of_path(old, new),
        width=19,
    )


_Of = Mapping[str, Sequence[Weights]]
"""What was measured in weight space, by learner; one entry for each seed."""


def _drawn(
    by_name: _Of, names: Sequence[str], values: Callable[[Weights], Sequence[float]]
) -> Mapping[str, tuple[str, Sequence[Sequence[float]]]]:
    return {name: (colour(names, name), [values(one) for one in seeds]) for name, seeds in by_name.items()}


def _solutions(solved: Sequence[tuple[Dissection, Solution]], old: str, new: str) -> Section:
    panels = [
        Panel(
            found.learner,
            figures.path_across(solution.path, found.switch),
            f"This plane shows {percent(solution.share)} of the variance of the path's points.",
        )
        for found, solution in solved
    ]
    return Section(
        "The path of the solution",
        "These learners train no network. They solve for the weights W of a readout on fixed features. Each "
        "point is a solution, in the plane of the first two principal components of all; a regime that does "
        "not exist yet has the weights 0.",
        panels,
        legend=_legend_of_path(old, new),
        width=26,
    )


def _legend_of_path(old: str, new: str) -> Sequence[LegendEntry]:
    return [
        LegendEntry(f"path while {old} is learned", f"var({figures.OLD_PART})"),
        LegendEntry(f"path while {new} is learned", f"var({figures.NEW_PART})"),
    ]


def _lines(
    by_name: Mapping[str, Sequence[tuple[Line, Line]]], names: Sequence[str], old: str, new: str
) -> Section:
    """Draw the lines on the old and on the new probe, of each learner and seed."""
    panels, barriers = [], []
    for place, probe in enumerate((old, new)):
        lines = {name: [pair[place] for pair in seeds] for name, seeds in by_name.items()}
        drawn = {name: (colour(names, name), [one.loss for one in seeds]) for name, seeds in lines.items()}
        alphas = next((seeds[0].alphas for seeds in lines.values()), [])
        figure = figures.curves(drawn, alphas, "loss %{y:.3f}", {"rangemode": "tozero"}, "α, from A to B")
        panels.append(Panel(f"loss on {probe}", figure))
        barriers.append({name: Spread.of([one.barrier for one in seeds]) for name, seeds in lines.items()})
    rows = [[name, *(_shown(found[name], ".3f") for found in barriers)] for name in by_name]
    return Section(
        "The barrier",
        "Loss along the straight line from A to B. The barrier is how far it rises above the chord between "
        "both ends (Frankle et al. 2020, Mirzadeh et al. 2021): 0 means that there is no hill between them.",
        panels,
        Table(["barrier, nats", old, new], rows),
    )


def _layers(by_name: _Of, names: Sequence[str], old: str) -> Section:
    first = next(iter(by_name.values()))[0]
    layers = [layer.name for layer in first.layers]
    cuts = [str(cut) for cut in range(len(layers) + 1)]
    distances = _drawn(by_name, names, lambda one: [layer.distance for layer in one.layers])
    similarities = _drawn(by_name, names, lambda one: [layer.cka for layer in one.layers])
    old_above = _drawn(by_name, names, lambda one: one.stitching.old_above_new)
    new_above = _drawn(by_name, names, lambda one: one.stitching.new_above_old)
    from_zero = {"rangemode": "tozero"}
    return Section(
        "Where it was lost",
        f"Layer by layer, on {old}. A CKA of 1 means that the activations have the same geometry as before. "
        "The lower two figures stitch the network of A and that of B together, without training: accuracy "
        "by cut.",
        [
            Panel(
                "distance from A to B, relative to the layer's weights at A",
                figures.curves(distances, layers, "%{y:.3f}", from_zero, "layer"),
            ),
            Panel(
                "linear CKA of the activations at A and at B",
                figures.curves(similarities, layers, "%{y:.3f}", {"range": [0, 1.02]}, "layer"),
            ),
            Panel(
                "the first k layers are of B, those above of A",
                figures.curves(old_above, cuts, "%{y:.1%}", RATIO, "k"),
            ),
            Panel(
                "the first k layers are of A, those above of B",
                figures.curves(new_above, cuts, "%{y:.1%}", RATIO, "k"),
            ),
        ],
        width=26,
    )


def _diagnosis(by_name: _Of, old: str) -> Section:
    head = {
        "before": "at A",
        "after": "at B",
        "lost": "lost",
        "recovered": "recovered",
        "refitted_before": "new readout, A",
        "refitted_after": "new readout, B",
        "representation": "lost by new readouts",
        "refitted_untrained": "new readout, start",
    }
    spreads = {
        name: {what: Spread.of([getattr(one.diagnosis, what) for one in seeds]) for what in head}
        for name, seeds in by_name.items()
    }
    bars = figures.grouped(
        list(spreads),
        [
            (title, bar, [(found[what].mean, found[what].deviation) for found in spreads.values()])
            for what, (title, bar) in _PARTS.items()
        ],
    )
    return Section(
        "Readout or representation",
        f"A linear readout is fitted anew on frozen features: the last layer's input on one half of {old}'s "
        "probe. All accuracies are of the other half. What it recovers was lost in the readout alone "
        "(Davari et al. 2022). Where the network's own readout was not trained to the end at A, a new one "
        "recovers more than was lost; new readouts on both sides compare like with like. The last column "
        "is of the network at the start: on easy images, untrained features go far.",
        [Panel("accuracy between A and B", bars)],
        Table(
            ["accuracy in %, differences in points", *head.values()],
            [[name, *(_points(found[what]) for what in head)] for name, found in spreads.items()],
        ),
        [LegendEntry(title, f"var({bar})") for title, bar in _PARTS.values()],
        width=40,
    )


def _theory(dissected: Sequence[tuple[Dissection, Weights]], names: Sequence[str]) -> Section:
    panels, rows = [], []
    for found, weights in dissected:
        if weights.theory is None:
            continue
        figure = figures.theory(weights.old_line, weights.theory, colour(names, found.learner))
        panels.append(Panel(found.learner, figure))
        rows += [
            [f"{found.learner}, {number(at.samples)} samples", f"{at.predicted:.3f}", f"{at.measured:.3f}"]
            for at in weights.theory.predictions
        ]
    return Section(
        "How far the quadratic approximation goes",
        "Near A the loss on the old probe is about L(A) + gᵀΔθ + ½ Δθᵀ H Δθ; H Δθ is a Hessian-vector "
        "product on the probe. Regularisers such as EWC build on it. The figures are along the line from A "
        "to B, solid as measured, dashed as predicted; the table is at points of the path after the switch.",
        panels,
        Table(["loss on the old probe", "predicted", "measured"], rows),
    )


def _events(shown: Sequence[Dissection], names: Sequence[str]) -> Section:
    panels, rows = [], []
    for found in shown:
        events = found.forgotten.events
        panels.append(Panel(found.learner, figures.histogram(found, colour(names, found.learner))))
        known, steady = sum(events.samples.values()), events.samples.get(0, 0)
        share = percent(steady / known) if known else UNDEFINED
        rows.append([found.learner, number(known), number(known - steady), number(events.relearned), share])
    head = ["images of the old probe", "known at A", "forgotten once", "known again at B", "never forgotten"]
    return Section(
        "Which samples",
        "A forgetting event is an image that was predicted correctly at one recorded point and wrongly at "
        "the next (Toneva et al. 2019), counted from the switch on.",
        panels,
        Table(head, rows),
        width=16,
    )


def _flow(shown: Sequence[Dissection], old: Sequence[str], new: Sequence[str]) -> Section:
    return Section(
        "What the old classes became",
        "Each row is a class of the old probe, each column what it is predicted as at B, under the name that "
        "the class has in the new segment.",
        [
            Panel(
                found.learner,
                figures.flow(found.forgotten.after, old, new),
                _largest(found, old, new),
            )
            for found in shown
        ],
        width=24,
    )


def _largest(found: Dissection, old: Sequence[str], new: Sequence[str]) -> str:
    """Say which class lost most, and to which one."""
    before, after = found.forgotten.before, found.forgotten.after
    lost = [(before[k][k] - after[k][k]) / max(1, sum(before[k])) for k in range(len(after))]
    worst = max(range(len(lost)), key=lost.__getitem__)
    if lost[worst] <= 0:
        return "No class lost accuracy."
    others = [count if k != worst else -1 for k, count in enumerate(after[worst])]
    to = max(range(len(others)), key=others.__getitem__)
    share = after[worst][to] / max(1, sum(after[worst]))
    return (
        f"Class {old[worst]} lost most, {points(-lost[worst])} points: {percent(share)} of it is now "
        f"predicted as {new[to]}."
    )
