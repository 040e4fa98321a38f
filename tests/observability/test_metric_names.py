"""Every event reaches a metric; names, units and labels follow Prometheus' conventions."""

import re
import shutil
import subprocess
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from docs.example_events import EVENTS
from lethe.events import Event
from lethe.web.predict import PredictMetrics
from lethe.web.rejected_requests import RejectedRequests, RejectionReason
from tests.support.scrape import Scrape


def samples(scrape: Scrape) -> dict[tuple[str, tuple[tuple[str, str], ...]], str]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): str(sample.value)  # NaN equals nothing
        for metric in scrape.registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_kind_of_event_changes_a_metric(event: Event) -> None:
    assert samples(Scrape(event)) != samples(Scrape())


def test_the_examples_include_every_kind_of_event() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))


def everything() -> CollectorRegistry:
    """What a service exports once everything has happened."""
    scrape = Scrape(*EVENTS)
    PredictMetrics(scrape.registry)(200, 0.002)
    RejectedRequests(scrape.registry)(RejectionReason.HOST)
    return scrape.registry


BASE_UNITS = ("seconds", "bytes", "ratio", "info", "records", "samples", "receipts")
WITHOUT_UNIT = {
    "lethe_samples_resident",
    "lethe_samples_kept",
    "lethe_partition_offset",
    "lethe_batch_loss",
    "lethe_gradient_norm",
    "lethe_gradient_interference_cosine",
    "lethe_weight_step_cosine",
    "lethe_ledger_head",
    "lethe_broker_up",
    "lethe_witness_up",
    "lethe_predictions_waiting",
    "lethe_classes_named",
    "lethe_target_up",
    "lethe_target_budget_requests",
    "lethe_segment_visit",
    "lethe_run_boundaries",
    "lethe_boundary_verdicts",
    "lethe_regime",
    "lethe_regime_verdicts",
    "lethe_purge_held_up",
    "lethe_commits_failing",
    "lethe_batch_returns",
    "lethe_privacy_epsilon",
    "lethe_privacy_epsilon_budget",
    "lethe_privacy_delta",
    "lethe_privacy_spent",
    "lethe_privacy_simulated",
}
"""Counts of what the name says, a yes or no, ε and δ, and a loss, whose unit is the learner's affair."""


def test_names_follow_the_conventions() -> None:
    for metric in everything().collect():
        assert re.fullmatch(r"lethe(_[a-z]+)+", metric.name), metric.name
        assert metric.documentation.endswith("."), metric.name
        names = {sample.name for sample in metric.samples}
        if metric.type == "counter":
            assert f"{metric.name}_total" in names
        else:
            assert not any(name.endswith("_total") for name in names)
        if metric.type in ("gauge", "histogram") and metric.name not in WITHOUT_UNIT:
            assert metric.name.endswith(BASE_UNITS), metric.name
        if metric.name.endswith("_ratio"):
            assert all(-1 <= sample.value <= 1 for sample in metric.samples)


def test_no_label_can_hold_more_than_a_closed_set_or_a_configured_one() -> None:
    labels = {
        label for metric in everything().collect() for sample in metric.samples for label in sample.labels
    }
    assert labels == {
        "reason",
        "probe",
        "class",
        "label",
        "after",
        "column",
        "partition",
        "kind",
        "le",
        "segment",
        "visit",
        "version",
        "rule",
        "signal",
        "verdict",
        "part",
        "rank",
        "outcome",
        "status",
    }


@pytest.mark.needs("prometheus")
def test_promtool_accepts_the_metrics() -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None
    text = generate_latest(everything())
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=30)
    assert (checked.returncode, checked.stderr, checked.stdout) == (0, b"", b"")
