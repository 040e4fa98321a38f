"""The rows that show how a service is doing itself: what it is asked for, what it keeps, how it lives."""

from deploy.grafana.frame import CHOSEN, LAST_TURN, Row
from deploy.grafana.panels import WIDTH, Limits, Query, chart, grid
from deploy.grafana.percentiles import percentiles

__all__ = ["checkpoints", "health", "predictions"]


def _asked(matching: str, within: str = "$__rate_interval") -> str:
    return f"rate(lethe_predict_requests_total{{{matching}}}[{within}])"


def predictions() -> Row:
    """Return the row on /predict."""
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


def checkpoints() -> Row:
    """Return the row on checkpoints."""
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


def health() -> Row:
    """Return the row on the processes, and on what is wrong."""
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
