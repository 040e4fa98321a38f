"""How often /predict is asked, with what outcome, and how long an answer takes."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

__all__ = ["PredictMetrics"]

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
STATUSES: Final = (200, 400, 401, 408, 413, 415, 422, 500, 503)
"""What may become of a request; 0 of each is worth showing."""


class PredictMetrics:
    """Registers them in ``registry``; looked up once, so that a request costs a few microseconds more."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "lethe_predict_requests",
            "Requests to /predict, by the status of the answer.",
            ("status",),
            registry=registry,
        )
        self._by_status = {status: self._requests.labels(str(status)) for status in STATUSES}
        self._seconds = Histogram(
            "lethe_predict_duration_seconds",
            "From a request's head to the prediction that answers it.",
            buckets=BUCKETS,
            registry=registry,
        )

    def __call__(self, status: int, seconds: float) -> None:
        """Take one request that was answered, or not: then the ``status`` is 500."""
        requests = self._by_status.get(status) or self._requests.labels(str(status))
        requests.inc()
        if status == 200:  # refusals are quick, and would make the answers look so
            self._seconds.observe(seconds)
