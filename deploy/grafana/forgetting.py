"""The dashboard that shows catastrophic forgetting: what is still known, and what was lost when."""

from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.frame import CHOSEN, FORGOTTEN, frame
from deploy.grafana.panels import WIDTH, Limits, Query, chart, matrix

__all__ = ["forgetting"]


def forgetting() -> model.Dashboard:
    """Return the dashboard."""
    knows = chart(
        "Accuracy on each probe: $service",
        "Held-out images of each subject, measured while the stream goes on. A purple mark is a switch: the "
        "stream changes its subject. A skill that falls after it is being forgotten; below its dashed floor "
        "the alert fires.",
        "percentunit",
        [
            Query(f"lethe_probe_accuracy_ratio{{{CHOSEN}}}", "{{probe}}"),
            Query(f"lethe:probe_accuracy_floor:ratio{{{CHOSEN}}}", "{{probe}}: floor"),
        ],
        ratio=True,
        span=WIDTH // 2,
    )
    dashes = {"fill": "dash", "dash": [6, 6]}
    floor = [
        model.DynamicConfigValue("custom.lineStyle", dashes),
        model.DynamicConfigValue("custom.lineWidth", 1),
    ]
    knows = (
        knows.override_by_regexp(".*: floor", floor).repeat("service").repeat_direction("h").max_per_row(2)
    )
    lost = chart(
        "Forgetting of each old skill",
        "Best accuracy at the end of a segment less the present one; where the stream names no segments, "
        "best so far. Chaudhry et al. 2018.",
        "percentunit",
        [Query(f"lethe_forgetting_ratio{{{CHOSEN}}}", "{{service}}: {{probe}}")],
        limits=FORGOTTEN,
    )
    transfer = chart(
        "Backward and forward transfer",
        "BWT: what learning on did to old skills, below 0 is forgetting. FWT: what earlier subjects taught "
        "about later ones, before those were learned. Lopez-Paz & Ranzato 2017.",
        "percentunit",
        [
            Query(f"lethe_backward_transfer_ratio{{{CHOSEN}}}", "{{service}}: BWT"),
            Query(f"lethe_forward_transfer_ratio{{{CHOSEN}}}", "{{service}}: FWT"),
        ],
        limits=Limits(0, -0.05, below=True),
    )
    gap = chart(
        "Stability gap: the drop of each skill",
        "How far each skill that was learned is below its best of five minutes. Right after a switch even a "
        "learner that ends well may dip: a peak that ends at once is such a gap, one that stays for five "
        "minutes was lost. De Lange et al. 2023.",
        "percentunit",
        [
            Query(
                f"max_over_time(lethe:probe_drop:ratio5m{{{CHOSEN}}}[$__rate_interval])",
                "{{service}}: {{probe}}",
            )
        ],
        limits=FORGOTTEN,
    )
    mean = chart(
        "ACC, and over time",
        "ACC: mean accuracy over the skills seen so far. Anytime: its mean over the whole stream.",
        "percentunit",
        [
            Query(f"lethe_average_accuracy_ratio{{{CHOSEN}}}", "{{service}}: ACC"),
            Query(f"lethe_anytime_accuracy_ratio{{{CHOSEN}}}", "{{service}}: anytime"),
        ],
        limits=Limits(0.8, 0.5, below=True),
        ratio=True,
    )
    worst = chart(
        "Worst cases",
        "min-ACC: mean of the old skills' lowest accuracies since each was learned. WC-ACC weighs it with "
        "the present skill. A guarantee, where ACC is a hope. De Lange et al. 2023.",
        "percentunit",
        [
            Query(f"lethe_min_accuracy_ratio{{{CHOSEN}}}", "{{service}}: min-ACC"),
            Query(f"lethe_worst_case_accuracy_ratio{{{CHOSEN}}}", "{{service}}: WC-ACC"),
        ],
        limits=Limits(0.8, 0.5, below=True),
        ratio=True,
    )
    stream = chart(
        "Accuracy on the stream itself",
        "Each batch is predicted before it is learned: over the whole stream, and with old batches fading.",
        "percentunit",
        [Query(f"lethe_prequential_accuracy_ratio{{{CHOSEN}}}", "{{service}}: {{kind}}")],
        limits=Limits(0.8, 0.5, below=True),
        ratio=True,
    )
    windows = chart(
        "Windowed forgetting and plasticity",
        "How far a skill fell, or rose, within a window of evaluations at most, whenever that was: a mean "
        "over the skills seen so far. Forgetting that is undone later stays on record. De Lange et al. 2023.",
        "percentunit",
        [
            Query(f"lethe_windowed_forgetting_ratio{{{CHOSEN}}}", "{{service}}: WF"),
            Query(f"lethe_windowed_plasticity_ratio{{{CHOSEN}}}", "{{service}}: WP"),
        ],
        ratio=True,
    )
    calibration = chart(
        "Calibration error of each probe",
        "ECE: how far what the learner says of its certainty is from how often it is right. What is "
        "forgotten is often still believed. Guo et al. 2017.",
        "percentunit",
        [Query(f"lethe_probe_calibration_error_ratio{{{CHOSEN}}}", "{{service}}: {{probe}}")],
        limits=Limits(0.1, 0.3),
    )
    classes = (
        matrix(
            "Accuracy class by class: $service",
            "As last measured: a row for each class, a column for each probe.",
            f"lethe_probe_class_accuracy_ratio{{{CHOSEN}}}",
            rows="class",
            columns="probe",
            limits=Limits(0.9, 0.6, below=True),
        )
        .repeat("service")
        .repeat_direction("h")
        .max_per_row(2)
    )
    poorest = chart(
        "Worst class of each probe",
        "The lowest accuracy on the images of one class: a mean over all classes may hide that one is gone.",
        "percentunit",
        [
            Query(
                f"min by (service, probe) (lethe_probe_class_accuracy_ratio{{{CHOSEN}}})",
                "{{service}}: {{probe}}",
            )
        ],
        limits=Limits(0.8, 0.5, below=True),
        ratio=True,
    )
    R = (
        matrix(
            "R after each segment: $service",
            "A row after each segment, 0 is the untrained learner; a column for each probe. Read down a "
            "column: a skill appears, and stays or fades.",
            f"lethe_accuracy_matrix_ratio{{{CHOSEN}}}",
            rows="after",
            columns="probe",
            limits=Limits(0.9, 0.6, below=True),
        )
        .repeat("service")
        .repeat_direction("h")
        .max_per_row(2)
    )
    return frame(
        "lethe-forgetting",
        "Forgetting",
        "What each service still knows of what it learned, and what it lost when.",
        [
            ("What it still knows", [knows]),
            ("What it lost", [lost, transfer, gap]),
            ("How good it is", [mean, worst, stream]),
            ("How fast it changes, and what it believes of itself", [windows, calibration, poorest]),
            ("The matrix R", [R]),
            ("Class by class", [classes]),
        ],
    )
