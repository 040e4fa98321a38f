"""Dashboard rows on the service itself: HTTP requests, checkpoints and processes."""

from typing import Final

from deploy.grafana.frame import CHOSEN, LAST_TURN, Row
from deploy.grafana.panels import WIDTH, Limits, Query, chart
from deploy.grafana.rates import FIVE_MINUTES, mean, percentile, rate

__all__ = ["checkpoints", "health", "predictions"]


ASKED: Final = "lethe_predict_requests_total"


def predictions() -> Row:
    """Return the row on HTTP requests."""
    requests = chart(
        "Prediction requests",
        "Requests to /predict per second, whatever the answer.",
        "reqps",
        [Query(rate(ASKED))],
    )
    latency = chart(
        "Prediction latency, 99th percentile",
        "From the head of a request to its response, for answered requests. Predictions run beside "
        "learning, which must not delay them.",
        "s",
        percentile("lethe_predict_duration_seconds"),
        nothing="no request",
        limits=Limits(0.025, 0.05),
    )
    unanswered = rate(ASKED, FIVE_MINUTES, 'status=~"500|503"')
    failed = chart(
        "Failed predictions",
        "Share of requests over five minutes that got 500, or 503 because the queue was full; no line "
        "without requests.",
        "percentunit",
        [Query(f"{unanswered} / ({rate(ASKED, FIVE_MINUTES)} > 0)")],
        nothing="no request",
        limits=Limits(0.001, 0.01),
    )
    rejected = chart(
        "Rejected requests",
        "Requests rejected and connections closed before an answer, per second, for any reason. Red from 0.2 "
        "on, like the alert LetheRequestsRejected.",
        "reqps",
        [
            Query(
                rate("lethe_http_refusals_total", FIVE_MINUTES)
                + f" or 0 * max by (service) (lethe_build_info{{{CHOSEN}}})"
            )
        ],
        limits=Limits(0.05, 0.2),
    )
    return Row("Requests", [panel.span(WIDTH // 4) for panel in (requests, latency, failed, rejected)])


def checkpoints() -> Row:
    """Return the row on checkpoints."""
    age = chart(
        "Age of the newest checkpoint",
        "What would have to be learned again after a crash. Red from five minutes on, like the alert "
        "LetheCheckpointStale.",
        "s",
        [Query(f"time() - max by (service) (lethe_last_checkpoint_timestamp_seconds{{{CHOSEN}}} > 0)")],
        limits=Limits(60, 300),
        decimals=0,
    )
    writing = chart(
        "Checkpoint duration",
        "From taking a checkpoint until it is on disk, mean over five minutes; most of it runs beside "
        "learning.",
        "s",
        [Query(mean("lethe_checkpoint_duration_seconds"))],
        limits=Limits(5, 30),
    )
    failed = chart(
        "Checkpoints that failed",
        "Checkpoints that could not be written, or could not be read at startup, since the process started.",
        "none",
        [
            Query(
                f"sum by (service) (lethe_checkpoint_failures_total{{{CHOSEN}}})"
                f" + sum by (service) (lethe_checkpoints_unreadable_total{{{CHOSEN}}})"
            )
        ],
        limits=Limits(1, 1),
        decimals=0,
    )
    size = chart(
        "Size of the newest checkpoint",
        "Learner, random state, evaluation history and offsets in one file.",
        "bytes",
        [Query(f"max by (service) (lethe_checkpoint_size_bytes{{{CHOSEN}}})")],
    )
    written = chart(
        "Checkpoints written",
        "Since the process started.",
        "none",
        [Query(f"sum by (service) (lethe_checkpoints_written_total{{{CHOSEN}}})")],
        decimals=0,
    )
    returns = chart(
        "Batches returned to the broker",
        "How often the same batch was returned in a row because it could not be filled within half of the"
        " policy's residency limit; 0 once it was. Red from 4 on, like the alert LetheBatchGoesBack.",
        "none",
        [Query(f"max by (service) (lethe_batch_returns{{{CHOSEN}}})")],
        limits=Limits(2, 4),
        decimals=0,
    )
    return Row("Checkpoints", [age, writing, size, written, failed, returns], collapsed=True)


def health() -> Row:
    """Return the row on processes."""
    memory = chart(
        "Memory",
        "Resident memory of the learning process and of the reader process together; their shared slots "
        "count twice. It must not grow with the stream. Red from 3 GB on, near the limits of compose.yaml "
        "and Kubernetes.",
        "bytes",
        [
            Query(
                f"sum by (service) (process_resident_memory_bytes{{{CHOSEN}}})"
                f" + sum by (service) (lethe_feeder_process_resident_memory_bytes{{{CHOSEN}}})"
            )
        ],
        limits=Limits(2e9, 3e9),
    )
    cores = chart(
        "Cores in use",
        "CPU cores used by the learning process and the reader process together.",
        "none",
        [Query(f"{rate('process_cpu_seconds_total')} + {rate('lethe_feeder_process_cpu_seconds_total')}")],
        decimals=2,
    )
    turn = chart(
        "Time since the last iteration",
        "Since the training loop last ran. Red from two minutes on: stuck.",
        "s",
        [Query(f"time() - max by (service) ({LAST_TURN})")],
        limits=Limits(30, 120),
        decimals=0,
    )
    batch = chart(
        "Time since the last batch",
        "Since a batch was learned. With a lag, the learner is stalled; without one, nothing was produced.",
        "s",
        [Query(f"time() - max by (service) (lethe_last_progress_timestamp_seconds{{{CHOSEN}}} > 0)")],
        limits=Limits(60, 120),
        decimals=0,
    )
    evaluated = chart(
        "Time since the last evaluation",
        "Since the probes were last evaluated, which happens every so many learned samples. What the "
        "dashboards show of accuracy and forgetting is that old.",
        "s",
        [Query(f"time() - max by (service) (lethe_last_evaluation_timestamp_seconds{{{CHOSEN}}} > 0)")],
        decimals=0,
    )
    up = chart(
        "Reachability",
        "1 while the service answers Prometheus and the broker answers the service, 0 otherwise.",
        "none",
        [
            Query(
                f'min by (service) (up{{job="lethe", {CHOSEN}}}'
                f" * on (job, instance, service) lethe_broker_up{{{CHOSEN}}}"
                f' or up{{job="lethe", {CHOSEN}}})'
            )
        ],
        limits=Limits(1, 0.5, below=True),
        ratio=True,
        steps=True,
        decimals=0,
    )
    return Row("Health", [memory, cores, up, turn, batch, evaluated])
