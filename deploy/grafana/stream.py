"""The dashboard that shows whether a service keeps up with its stream, and how it is doing itself."""

from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.frame import CHOSEN, Row, frame
from deploy.grafana.panels import WIDTH, Limits, Query, chart
from deploy.grafana.percentiles import percentiles
from deploy.grafana.service import checkpoints, health, predictions

__all__ = ["stream"]


def stream() -> model.Dashboard:
    """Return the dashboard."""
    return frame(
        "lethe-stream",
        "Stream and service",
        "Whether each service keeps up, what it could not use, and how it is doing.",
        [
            _keeping_up(),
            _time(),
            _bad_records(),
            _boundaries(),
            predictions(),
            checkpoints(),
            health(),
        ],
    )


def _keeping_up() -> Row:
    throughput = chart(
        "Throughput",
        "Records taken from the topic, samples learned, and records that the broker no longer had, a second.",
        "cps",
        [
            Query(f"rate(lethe_samples_learned_total{{{CHOSEN}}}[$__rate_interval])", "{{service}}: learned"),
            Query(
                f"rate(lethe_samples_received_total{{{CHOSEN}}}[$__rate_interval])", "{{service}}: received"
            ),
            Query(f"rate(lethe_samples_lost_total{{{CHOSEN}}}[$__rate_interval])", "{{service}}: lost"),
        ],
    )
    lag = chart(
        "Lag of each partition",
        "Records in the topic that are not learned yet, as of the last batch.",
        "short",
        [Query(f"lethe_partition_lag_records{{{CHOSEN}}}", "{{service}}: partition {{partition}}")],
        limits=Limits(100_000, 1_000_000),
    )
    totals = chart(
        "What became of the records",
        "Of the whole run, as checkpoints keep it: received = learned + dead-lettered. After a crash it goes "
        "on from the newest checkpoint, a little further back.",
        "short",
        [Query(f"lethe_run_samples{{{CHOSEN}}}", "{{service}}: {{outcome}}")],
    )
    position = chart(
        "Position in each partition",
        "The first offset that is not learned yet. A flat line is a partition that does not move.",
        "short",
        [Query(f"lethe_partition_offset{{{CHOSEN}}}", "{{service}}: partition {{partition}}")],
    )
    return "Keeping up", [panel.span(WIDTH // 4) for panel in (throughput, lag, position, totals)]


def _time() -> Row:
    latency = chart(
        "End-to-end latency",
        "From a batch's first sample being produced to being learned.",
        "s",
        percentiles("lethe_end_to_end_latency_seconds"),
        limits=Limits(60, 600),
    )
    step = chart(
        "Step time",
        "Predicting and learning one batch.",
        "s",
        percentiles("lethe_step_duration_seconds"),
        limits=Limits(0.25, 1),
    )
    evaluation = chart(
        "Evaluation time",
        "Measuring all probes once; learning waits meanwhile. Mean over five minutes.",
        "s",
        [
            Query(
                f"rate(lethe_evaluation_duration_seconds_sum{{{CHOSEN}}}[5m])"
                f" / rate(lethe_evaluation_duration_seconds_count{{{CHOSEN}}}[5m])"
            )
        ],
        limits=Limits(5, 30),
    )
    return "Where time goes", [latency, step, evaluation]


def _bad_records() -> Row:
    reasons = chart(
        "Dead letters by reason",
        "Malformed records a second. Each is reported to the dead-letter topic, and the stream goes on.",
        "cps",
        [
            Query(
                f"rate(lethe_samples_dead_lettered_total{{{CHOSEN}}}[$__rate_interval])",
                "{{service}}: {{reason}}",
            )
        ],
        limits=Limits(1, 10),
        stacked=True,
    )
    share = chart(
        "Share of malformed records",
        "Over five minutes. Red from 1 in 100 on, as the alert LetheDeadLetterRatioHigh.",
        "percentunit",
        [Query(f"lethe:dead_letters:ratio5m{{{CHOSEN}}}")],
        limits=Limits(0.001, 0.01),
    )
    loss = chart(
        "Loss",
        "Mean loss of the last batch, before it was learned; learners without a loss have none.",
        "short",
        [Query(f"lethe_batch_loss{{{CHOSEN}}}")],
        limits=Limits(2.3, 10),  # ln 10: as bad as guessing among ten classes
    )
    return "What it reads", [reasons, share, loss]


def _boundaries() -> Row:
    verdicts = chart(
        "Boundaries, judged",
        "Switches that were found in the stream itself, missed, or not found yet, and alarms where there was "
        "none: against the segments that the records name.",
        "short",
        [Query(f"lethe_boundary_verdicts{{{CHOSEN}}}", "{{service}}: {{verdict}}")],
    )
    delay = chart(
        "Delay of the latest boundary",
        "Samples from the latest switch that was found until it was.",
        "short",
        [Query(f"lethe_boundary_delay_samples{{{CHOSEN}}}")],
        limits=Limits(1000, 2000),
    )
    regime = chart(
        "Regime",
        "Number of the regime that was told last: one that comes back has the number that it had.",
        "short",
        [Query(f"lethe_regime{{{CHOSEN}}}")],
    )
    regimes = chart(
        "Regimes, judged",
        "Segments that came back and were recognised, or not, and new ones that were taken for old.",
        "short",
        [Query(f"lethe_regime_verdicts{{{CHOSEN}}}", "{{service}}: {{verdict}}")],
    )
    return "Boundaries", [panel.span(WIDTH // 4) for panel in (verdicts, delay, regime, regimes)]
