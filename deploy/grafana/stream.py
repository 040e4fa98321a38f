"""The stream dashboard: throughput, lag, malformed records, boundaries and the service's health."""

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.frame import CHOSEN, Row, alerts, frame, vital_signs
from deploy.grafana.panels import WIDTH, Limits, Query, chart, crosstab
from deploy.grafana.rates import mean, percentile, rate
from deploy.grafana.service import checkpoints, health, predictions
from deploy.grafana.watched import watched_models

__all__ = ["stream"]


def stream() -> model.Dashboard:
    """Return the dashboard."""
    return frame(
        "lethe-stream",
        "Stream and service",
        "Throughput and lag of each service, malformed records, and the health of its processes.",
        [
            vital_signs(),
            Row("", [alerts()]),
            _keeping_up(),
            _time(),
            _bad_records(),
            _late_labels(),
            health(),
            predictions(),
            watched_models(),
            checkpoints(),
            _boundaries(),
            _partitions(),
            _ranks(),
        ],
    )


def _keeping_up() -> Row:
    throughput = chart(
        "Samples learned per second",
        "Each sample counts once.",
        "count:/s",
        [Query(rate("lethe_samples_learned_total"))],
    )
    received = chart(
        "Records received per second",
        "Valid and malformed records read from the topic. More than is learned fills the slots, then waits.",
        "count:/s",
        [Query(rate("lethe_samples_received_total"))],
    )
    lag = chart(
        "Lag",
        "Records in the topic that are not learned yet, as of the last batch.",
        "short",
        [Query(f"sum by (service) (lethe:lag:records{{{CHOSEN}}})")],
        decimals=0,
    )
    return Row("Throughput and lag", [throughput, received, lag])


def _time() -> Row:
    latency = chart(
        "End-to-end latency, 99th percentile",
        "From the production of a batch's first sample until the batch is learned.",
        "s",
        percentile("lethe_end_to_end_latency_seconds"),
        limits=Limits(60, 600),
    )
    step = chart(
        "Training step duration, 99th percentile",
        "Predicting and learning one batch.",
        "s",
        percentile("lethe_step_duration_seconds"),
        limits=Limits(0.25, 1),
    )
    evaluation = chart(
        "Evaluation duration",
        "Evaluating all probes once; learning waits meanwhile. Mean over five minutes.",
        "s",
        [Query(mean("lethe_evaluation_duration_seconds"))],
        limits=Limits(5, 30),
    )
    return Row("Durations", [latency, step, evaluation])


def _bad_records() -> Row:
    outcomes = crosstab(
        "Record outcomes",
        "Of the whole run, as stored in checkpoints: received = learned + unlabelled + dead-lettered. "
        "After a crash it resumes from the newest checkpoint, slightly further back.",
        f"max by (service, outcome) (lethe_run_samples{{{CHOSEN}}})",
        rows="service",
        columns="outcome",
    )
    share = chart(
        "Share of malformed records",
        "Over five minutes. Red from 1 % on, like the alert LetheDeadLetterRatioHigh.",
        "percentunit",
        [Query(f"max by (service) (lethe:dead_letters:ratio5m{{{CHOSEN}}})")],
        limits=Limits(0.001, 0.01),
    )
    loss = chart(
        "Loss",
        "Mean loss of the last batch before it was learned; no data for learners without a loss.",
        "none",
        [Query(f"max by (service) (lethe_batch_loss{{{CHOSEN}}})")],
        limits=Limits(2.3, 10),  # ln 10: as bad as guessing among ten classes
        decimals=2,
    )
    return Row("Data quality", [outcomes, share, loss])


def _late_labels() -> Row:
    joined = chart(
        "Samples with a late label per second",
        "Samples learned with a label from the topic of late labels; 0 without such a topic.",
        "count:/s",
        [Query(rate("lethe_labels_joined_total"))],
        span=WIDTH // 2,
    )
    dropped = chart(
        "Late labels dropped per second",
        "Labels that were of no sample, for any reason: above all, labels that came too late.",
        "count:/s",
        [Query(rate("lethe_labels_dropped_total"))],
        span=WIDTH // 2,
    )
    return Row("Late labels", [joined, dropped], collapsed=True)


def _boundaries() -> Row:
    verdicts = crosstab(
        "Boundary detection",
        "Detected, missed and pending boundaries, and false alarms, compared with the segments named in "
        "the records.",
        f"max by (service, verdict) (lethe_boundary_verdicts{{{CHOSEN}}})",
        rows="service",
        columns="verdict",
    )
    regimes = crosstab(
        "Regime recognition",
        "Recurring segments that were recognised or not, and new segments mistaken for a known regime.",
        f"max by (service, verdict) (lethe_regime_verdicts{{{CHOSEN}}})",
        rows="service",
        columns="verdict",
    )
    delay = chart(
        "Detection delay",
        "Samples between the latest detected boundary and its detection.",
        "count:samples",
        [Query(f"max by (service) (lethe_boundary_delay_samples{{{CHOSEN}}})")],
        limits=Limits(1000, 2000),
        steps=True,
        decimals=0,
    )
    regime = chart(
        "Regime",
        "Number of the current regime; a recurring regime keeps its number.",
        "none",
        [Query(f"max by (service) (lethe_regime{{{CHOSEN}}})")],
        steps=True,
        decimals=0,
    )
    detected = chart(
        "Boundaries detected",
        "In the whole run, by any signal.",
        "none",
        [Query(f"sum by (service) (lethe_run_boundaries{{{CHOSEN}}})")],
        steps=True,
        decimals=0,
    )
    visit = chart(
        "Segment",
        "Number of the segment that is learned.",
        "none",
        [Query(f"max by (service) (lethe_segment_visit{{{CHOSEN}}})")],
        steps=True,
        decimals=0,
    )
    return Row("Boundaries", [verdicts, delay, detected, regimes, regime, visit], collapsed=True)


def _partitions() -> Row:
    lag = chart(
        "Lag by partition: $service",
        "Records in the topic that are not learned yet, as of the last batch.",
        "short",
        [Query(f"lethe_partition_lag_records{{{CHOSEN}}}", "partition {{partition}}")],
        decimals=0,
        span=WIDTH,
    )
    position = chart(
        "Offset by partition: $service",
        "The first offset that is not learned yet. A flat line is a partition without progress.",
        "short",
        [Query(f"lethe_partition_offset{{{CHOSEN}}}", "partition {{partition}}")],
        decimals=0,
        span=WIDTH,
    )
    repeated = [panel.repeat("service").repeat_direction("h").max_per_row(2) for panel in (lag, position)]
    return Row("Partitions", repeated, collapsed=True)


def _ranks() -> Row:
    rounds = chart(
        "Round duration, 99th percentile",
        "From the start of a round until every rank has learned its batch. No data for a service that learns "
        "alone, here and in this whole row.",
        "s",
        percentile("lethe_round_duration_seconds"),
        limits=Limits(1, 5),
        nothing="no ranks",
        span=WIDTH // 2,
    )
    moved = chart(
        "Moved between ranks",
        "Bytes of the tensors that each rank exchanges with the others.",
        "Bps",
        [Query(rate("lethe_collective_bytes_total"))],
        nothing="no ranks",
        span=WIDTH // 2,
    )
    waited = _by_rank(
        "Waited for by rank",
        "Share of the time in which all other ranks waited for this one alone. Red from one half on, like "
        "the alert LetheRankStraggles.",
        "waited_for_seconds",
        Limits(0.25, 0.5),
    )
    collective = _by_rank(
        "Collective operations by rank",
        "Share of the time in which a rank exchanged tensors with the others, or waited for them to.",
        "collective_seconds",
        Limits(0.1, 0.3),
    )
    learning = _by_rank(
        "Time spent learning by rank",
        "Share of the time in which a rank predicted and learned its batches.",
        "learning_seconds",
    )
    samples = _by_rank("Learned by rank", "Samples per second.", "samples_learned", unit="count:/s")
    lag = chart(
        "Lag by rank: $service",
        "Records in a rank's partitions that are not learned yet.",
        "short",
        [Query(f"lethe_rank_lag_records{{{CHOSEN}}}", "rank {{rank}}")],
        decimals=0,
        nothing="no ranks",
        span=WIDTH,
    )
    panels = (waited, collective, learning, samples, lag)
    repeated = [panel.repeat("service").repeat_direction("h").max_per_row(2) for panel in panels]
    return Row("Ranks", [rounds, moved, *repeated], collapsed=True)


def _by_rank(
    title: str, description: str, counter: str, limits: Limits | None = None, unit: str = "percentunit"
) -> timeseries.Panel:
    """Return the chart of a counter's rate in each rank."""
    return chart(
        f"{title}: $service",
        description,
        unit,
        [Query(f"rate(lethe_rank_{counter}_total{{{CHOSEN}}}[$__rate_interval])", "rank {{rank}}")],
        limits=limits,
        nothing="no ranks",
        span=WIDTH,
    )
