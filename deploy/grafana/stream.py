"""The dashboard that shows whether a service keeps up with its stream, and how it is doing itself."""

from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.frame import CHOSEN, LAST_TURN, Row, frame
from deploy.grafana.panels import WIDTH, Limits, Query, chart, grid
from deploy.grafana.percentiles import percentiles

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
            _predictions(),
            _checkpoints(),
            _health(),
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


def _asked(matching: str, within: str = "$__rate_interval") -> str:
    return f"rate(lethe_predict_requests_total{{{matching}}}[{within}])"


def _predictions() -> Row:
    requests = chart(
        "Predictions asked for",
        "Requests to /predict a second, by the status of their answer: 200 has one, 503 was turned away "
        "because too many waited, 500 got none. A refused request is its client's fault.",
        "reqps",
        [
            Query(
                f"sum by (service, status) ({_asked(CHOSEN)} > 0)",
                "{{service}}: {{status}}",
            ),
            Query(f"sum by (service) ({_asked(CHOSEN)})", "{{service}}: all"),
        ],
    )
    latency = chart(
        "Time to a prediction",
        "From a request's head to its answer, of those that got one. They are answered beside learning, "
        "which must not hold them up.",
        "s",
        percentiles("lethe_predict_duration_seconds"),
        limits=Limits(0.025, 0.05),
    )
    unanswered = f'status=~"500|503", {CHOSEN}'
    failed = chart(
        "Predictions that failed",
        "Share of the requests over five minutes that were turned away or got no answer, through no fault of "
        "their own; no line where nobody asks.",
        "percentunit",
        [
            Query(
                f"sum by (service) ({_asked(unanswered, '5m')})"
                f" / (sum by (service) ({_asked(CHOSEN, '5m')}) > 0)"
            )
        ],
        limits=Limits(0.001, 0.01),
    )
    return "Predictions", [requests, latency, failed]


def _checkpoints() -> Row:
    age = chart(
        "Age of the newest checkpoint",
        "What a crash now would have to be learned again. Red from five minutes on, as the alert "
        "LetheCheckpointStale.",
        "s",
        [Query(f"time() - (lethe_last_checkpoint_timestamp_seconds{{{CHOSEN}}} > 0)")],
        limits=Limits(60, 300),
    )
    writing = chart(
        "Writing a checkpoint",
        "From taking it to having it on the disk, mean over five minutes; most of it beside learning.",
        "s",
        [
            Query(
                f"rate(lethe_checkpoint_duration_seconds_sum{{{CHOSEN}}}[5m])"
                f" / rate(lethe_checkpoint_duration_seconds_count{{{CHOSEN}}}[5m])"
            )
        ],
        limits=Limits(5, 30),
    )
    outcome = chart(
        "Checkpoints",
        "How many the process has written, could not write, and could not read at its start.",
        "short",
        [
            Query(f"lethe_checkpoints_written_total{{{CHOSEN}}}", "{{service}}: written"),
            Query(f"lethe_checkpoint_failures_total{{{CHOSEN}}}", "{{service}}: failed"),
            Query(f"lethe_checkpoints_unreadable_total{{{CHOSEN}}}", "{{service}}: unreadable"),
        ],
    )
    size = chart(
        "Size of the newest checkpoint",
        "Learner, random state, history and positions in one file.",
        "bytes",
        [Query(f"lethe_checkpoint_size_bytes{{{CHOSEN}}}")],
        limits=Limits(1e9, 1e10),
    )
    return "Checkpoints", [panel.span(WIDTH // 4) for panel in (age, writing, outcome, size)]


def _health() -> Row:
    learning = f"process_resident_memory_bytes{{{CHOSEN}}}"
    reading = f"lethe_feeder_{learning}"
    memory = chart(
        "Memory",
        "Resident memory of the learning process, and of the one that reads the broker; the slots that they "
        "share are in both. It must not grow with the stream. Red from 3 GB on, where the limits of "
        "compose.yaml and Kubernetes, which are for both, are near.",
        "bytes",
        [
            Query(learning, "{{service}}: learning"),
            Query(reading, "{{service}}: reading"),
            Query(f"{learning} + {reading}", "{{service}}: both"),
        ],
        limits=Limits(2e9, 3e9),
    )
    cores = chart(
        "Cores in use",
        "Of the learning process, and of the one that reads the broker.",
        "short",
        [
            Query(f"rate(process_cpu_seconds_total{{{CHOSEN}}}[$__rate_interval])", "{{service}}: learning"),
            Query(
                f"rate(lethe_feeder_process_cpu_seconds_total{{{CHOSEN}}}[$__rate_interval])",
                "{{service}}: reading",
            ),
        ],
    )
    alive = chart(
        "Since the last turn, and the last batch",
        "Seconds since the loop went round, and since something was learned. Red from two minutes on: stuck, "
        "or stalled.",
        "s",
        [
            Query(f"time() - {LAST_TURN}", "{{service}}: turn"),
            Query(f"time() - (lethe_last_progress_timestamp_seconds{{{CHOSEN}}} > 0)", "{{service}}: batch"),
        ],
        limits=Limits(30, 120),
    )
    up = chart(
        "Answers",
        "1 while the service answers Prometheus, and while the broker answers the service.",
        "short",
        [
            Query(f'up{{job="lethe", {CHOSEN}}}', "{{service}}: service"),
            Query(f"lethe_broker_up{{{CHOSEN}}}", "{{service}}: broker"),
        ],
        limits=Limits(1, 0.5, below=True),
        ratio=True,
    )
    segment = chart(
        "Segment",
        "Number of the segment being learned, the marks have its name; and the boundaries detected.",
        "short",
        [
            Query(f"lethe_segment_visit{{{CHOSEN}}}"),
            Query(f"sum by (service) (lethe_run_boundaries{{{CHOSEN}}})", "{{service}}: detected"),
        ],
    )
    alerts = grid(
        "Alerts firing",
        "What Prometheus has to say now; deploy/runbook.md has a section for each.",
        f'ALERTS{{alertstate="firing", {CHOSEN}}}',
        ["alertname", "severity", "service", "probe"],
        span=WIDTH // 3,
    )
    return "Health", [memory, cores, alive, up, segment, alerts]


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
