"""The forgetting dashboard: what is forgotten since when, accuracy on each probe, and the scores."""

from typing import Final

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.decisions import decision
from deploy.grafana.frame import (
    BUDGET,
    CHOSEN,
    FORGETTING,
    FORGOTTEN,
    LEARNING,
    LEFT,
    TALL,
    UNSURE,
    Row,
    alerts,
    frame,
    vital_signs,
)
from deploy.grafana.panels import WIDTH, Column, Limits, Query, chart, grid, matrix, of_service, timeline
from deploy.grafana.rates import rate

__all__ = ["forgetting"]

OBJECTIVE: Final = decision("skills_within_floor_objective")


def forgetting() -> model.Dashboard:
    """Return the dashboard."""
    return frame(
        "lethe-forgetting",
        "Forgetting",
        "Which service forgets what since when, what it still knows, and what it has learned.",
        [
            vital_signs(),
            _now(),
            _losses(),
            _service(),
            _objective(),
            _scores(),
            _estimates(),
            _probes(),
            _classes(),
            _weights(),
        ],
    )


def _now() -> Row:
    below = f"(lethe_probe_accuracy_ratio{{{CHOSEN}}} < lethe:probe_accuracy_floor:ratio{{{CHOSEN}}})"
    each = "max by (service, probe)"
    forgotten = grid(
        "Forgotten now",
        "Probes below their floor: how much is lost of the best accuracy, what is left, and since when. "
        "Noise is two standard errors of an accuracy on so many images.",
        [
            f"{each} (lethe_forgetting_ratio{{{CHOSEN}}} and {below})",
            f"{each} {below}",
            f"{each} (lethe:probe_accuracy_noise:ratio{{{CHOSEN}}} and {below})",
            f'1000 * {each} (ALERTS_FOR_STATE{{alertname="LetheProbeForgotten", {CHOSEN}}})',
        ],
        {
            "service": Column(
                "Service", leads_to=of_service("lethe-forgetting", "${__value.raw}"), least=100
            ),
            "probe": Column("Probe", least=80),
            "Value #A": Column("Lost", "percentunit", 1, FORGOTTEN),
            "Value #D": Column("Since", "dateTimeFromNow", least=110),
            "Value #B": Column("Left", "percentunit", 1),
            "Value #C": Column("Noise ±", "percentunit", 1, least=72),
        },
        nothing="nothing is forgotten",
        sort="Lost",
        height=TALL,
    )
    return Row("", [forgotten, alerts(WIDTH // 2)])


def _losses() -> Row:
    lost = chart(
        "Forgetting",
        "The largest loss of each service: best accuracy on a probe at the end of a segment minus the "
        "current one; in a stream without segments, best accuracy so far. Noise is two standard errors of an "
        "accuracy on so many images. Chaudhry et al. 2018.",
        "percentunit",
        [
            Query(FORGETTING),
            Query(f"max(lethe:probe_accuracy_noise:ratio{{{CHOSEN}}})", "noise", grey=True),
        ],
        limits=FORGOTTEN,
        steps=True,
        decimals=1,
        span=WIDTH // 2,
    )
    learning = chart(
        "Learning",
        "Accuracy on each batch before it is learned, older batches fading, and the accuracy of guessing. It "
        "falls at a new segment and rises again while that is learned; if it stays low, nothing is learned.",
        "percentunit",
        [
            Query(LEARNING),
            Query(f"max(lethe:chance_accuracy:ratio{{{CHOSEN}}})", "chance", grey=True),
        ],
        limits=UNSURE,
        ratio=True,
        decimals=1,
        span=WIDTH // 2,
    )
    return Row("Forgetting and learning", [lost, learning])


def _service() -> Row:
    started = f"lethe_segments_started_total{{{CHOSEN}}}"
    before = f"{started} offset $__interval"
    accuracy = chart(
        "Accuracy on each probe: $service",
        "Accuracy on held-out images of each segment, measured while the stream is learned. A purple line is "
        "the start of a segment. A fall after it is forgetting; below the grey floor the alert "
        "LetheProbeForgotten fires.",
        "percentunit",
        [
            Query(f"lethe_probe_accuracy_ratio{{{CHOSEN}}}", "{{probe}}"),
            Query(f"lethe:probe_accuracy_floor:ratio{{{CHOSEN}}}", "floor of {{probe}}", floor=True),
            Query(
                f"lethe_segment_info{{{CHOSEN}}}"
                f" and ignoring (segment, visit) ({started} > {before} or ({started} > 0 unless {before}))",
                "start of {{segment}}",
                mark=True,
            ),
        ],
        ratio=True,
        steps=True,
        decimals=1,
        span=WIDTH,
        height=9,
    )
    R = matrix(
        "R after each segment: $service",
        "Accuracy in percent. One row after each segment, the latest on top and the untrained learner at the "
        "bottom; one column per probe. Up a column, accuracy rises when the segment is learned, then stays "
        "or fades.",
        f'label_join(label_join(lethe_accuracy_matrix_ratio{{{CHOSEN}}}, "row", " ", "after", "segment"),'
        ' "skill", " ", "column", "probe")',
        rows="row",
        order="after",
        columns="skill",
        columns_order="column",
        heading="after segment",
        latest_first=True,
        span=WIDTH,
        height=10,
    )
    segments = timeline(
        "Segments: $service",
        "The segment that is learned, by number and name.",
        f"label_join(max by (segment, visit) (lethe_segment_info{{{CHOSEN}}}),"
        ' "named", " ", "visit", "segment")',
        "named",
    )
    return Row("$service", [accuracy, segments, R], repeat="service")


def _objective() -> Row:
    share = "max by (service) (lethe:skills_within_floor:ratio{window}{{{chosen}}})"
    limits = Limits(OBJECTIVE, OBJECTIVE, below=True)
    kept = grid(
        "Time within the floor",
        "Share of the time in which every old skill was within its floor, and what is left of the budget of "
        f"{100 * (1 - OBJECTIVE):g} % of 30 days. Red below {100 * OBJECTIVE:g} %.",
        [
            *(share.format(window=window, chosen=CHOSEN) for window in ("1h", "1d", "30d")),
            BUDGET,
        ],
        {
            "service": Column("Service"),
            "Value #A": Column("1 hour", "percentunit", 2, limits),
            "Value #B": Column("1 day", "percentunit", 2, limits),
            "Value #C": Column("30 days", "percentunit", 2, limits),
            "Value #D": Column("Budget left", "percentunit", 1, LEFT),
        },
        nothing="no skill is old yet",
        span=WIDTH // 3,
        height=8,
    )
    left = chart(
        "Forgetting budget left",
        "What is left of the 30 days' budget. A fall is time in which an old skill was below its floor.",
        "percentunit",
        [Query(BUDGET)],
        limits=LEFT,
        decimals=1,
    )
    burn = chart(
        "Burn rate",
        "How fast the budget is used up, over an hour: at 1 it lasts exactly 30 days. Red from 14.4 on, as "
        "in the alert LetheForgettingBudgetBurnsFast.",
        "suffix:×",
        [Query(f"(1 - {share.format(window='1h', chosen=CHOSEN)}) / {1 - OBJECTIVE:g}")],
        limits=Limits(6, 14.4),
        decimals=1,
    )
    return Row("Objective", [kept, left, burn])


def _scores() -> Row:
    good = Limits(0.8, 0.5, below=True)

    def score(
        title: str, description: str, metric: str, limits: Limits | None = good, *, ratio: bool = True
    ) -> Builder[model.Panel]:
        expr = f"max by (service) (lethe_{metric})"
        return chart(
            title,
            description,
            "percentunit",
            [Query(expr)],
            limits=limits,
            ratio=ratio,
            steps=True,
            decimals=1,
        )

    backward = "The mean change of earlier probes since their segments ended; below 0 is forgetting."
    return Row(
        "Scores",
        [
            score(
                "Backward transfer",
                f"BWT. {backward} Lopez-Paz & Ranzato 2017.",
                f"backward_transfer_ratio{{{CHOSEN}}}",
                Limits(-0.02, -0.05, below=True),
                ratio=False,
            ),
            score(
                "Forward transfer",
                "FWT: the effect of earlier segments on later ones before those are learned. Lopez-Paz & "
                "Ranzato 2017.",
                f"forward_transfer_ratio{{{CHOSEN}}}",
                None,
                ratio=False,
            ),
            score(
                "Average accuracy",
                "ACC: mean accuracy over the probes of the segments so far.",
                f"average_accuracy_ratio{{{CHOSEN}}}",
            ),
            score(
                "Anytime accuracy",
                "ACC, averaged over the whole stream.",
                f"anytime_accuracy_ratio{{{CHOSEN}}}",
            ),
            score(
                "Lowest accuracy",
                "min-ACC: mean over earlier probes of the lowest accuracy since each was learned. De Lange "
                "et al. 2023.",
                f"min_accuracy_ratio{{{CHOSEN}}}",
            ),
            score(
                "Worst-case accuracy",
                "WC-ACC: min-ACC weighted with the current probe's accuracy; a lower bound where ACC is an "
                "average. De Lange et al. 2023.",
                f"worst_case_accuracy_ratio{{{CHOSEN}}}",
            ),
            score(
                "Windowed forgetting",
                "WF: the largest fall of a probe since its segment began within a window of evaluations, a "
                "mean over the probes so far. Forgetting that is recovered later still counts. De Lange et "
                "al. 2023.",
                f"windowed_forgetting_ratio{{{CHOSEN}}}",
                FORGOTTEN,
                ratio=False,
            ),
            score(
                "Windowed plasticity",
                "WP: the largest rise of a probe within a window of evaluations, a mean over the probes so "
                "far. De Lange et al. 2023.",
                f"windowed_plasticity_ratio{{{CHOSEN}}}",
                None,
            ),
            score(
                "Prequential accuracy",
                "Each batch is predicted before it is learned: mean over the whole stream.",
                f'prequential_accuracy_ratio{{kind="cumulative", {CHOSEN}}}',
            ),
        ],
        collapsed=True,
    )


def _estimates() -> Row:
    accuracy = f'max(lethe_prequential_accuracy_ratio{{kind="%s", {CHOSEN}}})'
    estimated = chart(
        "Measured and estimated accuracy: $service",
        "Accuracy on the latest samples before they are learned: measured on the labelled ones, and with "
        "--evaluation-estimate estimated from confidences alone, on those without a label, too. On a new "
        "segment the estimate is off until enough labelled samples of it are learned.",
        "percentunit",
        [Query(accuracy % "fading", "measured"), Query(accuracy % "estimated", "estimated")],
        limits=UNSURE,
        ratio=True,
        decimals=1,
        span=WIDTH // 2,
    )
    return Row(
        "Accuracy without labels",
        [estimated.repeat("service").repeat_direction("h").max_per_row(2)],
        collapsed=True,
    )


def _probes() -> Row:
    gap = chart(
        "Stability gap",
        "The largest drop of a learned probe below its best accuracy of the last five minutes. A short peak "
        "after a boundary is a stability gap; a drop that stays for five minutes is lost accuracy. De Lange "
        "et al. 2023.",
        "percentunit",
        [Query(f"max by (service) (max_over_time(lethe:probe_drop:ratio5m{{{CHOSEN}}}[$__rate_interval]))")],
        limits=FORGOTTEN,
        steps=True,
        decimals=1,
    )
    calibration = chart(
        "Calibration error",
        "ECE of the worst probe: the gap between the learner's confidence and its accuracy. A forgotten "
        "probe is often still predicted with high confidence. Guo et al. 2017.",
        "percentunit",
        [Query(f"max by (service) (lethe_probe_calibration_error_ratio{{{CHOSEN}}})")],
        limits=Limits(0.1, 0.3),
        steps=True,
        decimals=1,
    )
    poorest = chart(
        "Worst class",
        "The lowest accuracy of a single class of a probe that was learned: a mean over classes can hide "
        "that one of them is lost.",
        "percentunit",
        [
            Query(
                "min by (service) (min by (job, instance, service, probe)"
                f" (lethe_probe_class_accuracy_ratio{{{CHOSEN}}})"
                f" and lethe:probe_accuracy_floor:ratio{{{CHOSEN}}})"
            )
        ],
        limits=Limits(0.8, 0.5, below=True),
        ratio=True,
        steps=True,
        decimals=1,
    )
    return Row("Stability, calibration and classes", [gap, calibration, poorest], collapsed=True)


def _classes() -> Row:
    classes = matrix(
        "Accuracy by class: $service",
        "Accuracy in percent of the latest evaluation: one row per class, in the order of their labels, one "
        "column per probe.",
        f'label_replace(label_replace(lethe_probe_class_accuracy_ratio{{{CHOSEN}}}, "row", "$1", "class",'
        ' "(.*)"), "row", "class $1", "class", "([0-9]+)")',
        rows="row",
        order="label",
        columns="probe",
        heading="class",
        span=WIDTH // 2,
        height=12,
    )
    return Row(
        "Accuracy by class",
        [classes.repeat("service").repeat_direction("h").max_per_row(2)],
        collapsed=True,
    )


def _weights() -> Row:
    panels = [
        chart(
            "Gradient length",
            "Length of the gradient of the last batch. It is short while a segment is learned and long where "
            "another one begins. Only learners that train a network have one.",
            "short",
            [Query(f"max by (service) (lethe_gradient_norm{{{CHOSEN}}})")],
            nothing="no network is trained",
        ),
        chart(
            "Surges of the loss",
            "Surges within ten minutes, each an early warning: accuracy on earlier probes may fall with the "
            "next batches. From one on, the alert LetheLossSurged fires.",
            "short",
            [Query(f"sum by (service) (increase(lethe_loss_surges_total{{{CHOSEN}}}[10m]))")],
            limits=Limits(0.5, 1),
        ),
        chart(
            "Speed of the weights",
            "Distance that the weights move per second, measured from one look to the next, eight batches "
            "later.",
            "short",
            [Query(rate("lethe_weights_travelled_total"))],
        ),
        chart(
            "Turn of the weights",
            "Cosine between the way of the last eight batches and that of the eight before. Near 1 the "
            "weights go straight on, near 0 they wander, below 0 they turn back.",
            "short",
            [Query(f"max by (service) (lethe_weight_step_cosine{{{CHOSEN}}})")],
            from_zero=False,
            nothing="no network is trained",
        ),
        chart(
            "Gradient interference",
            "Cosine between a batch's gradient and the running mean of earlier ones. Below 0 the batch pulls "
            "the weights back from where the stream led them.",
            "short",
            [Query(f"max by (service) (lethe_gradient_interference_cosine{{{CHOSEN}}})")],
            from_zero=False,
            nothing="no network is trained",
        ),
    ]
    return Row("How the weights move", panels, collapsed=True)
