"""Every event reaches the metric that shows it."""

import math
import time
from dataclasses import replace

from service.events import (
    BoundaryDetected,
    BrokerSeen,
    CheckpointFailed,
    CheckpointUnreadable,
    CheckpointWritten,
    Evaluated,
    Lag,
    LearningBegan,
    LedgerStands,
    PolicyViolated,
    PrivacySpent,
    PurgeHeldUp,
    PurgeLag,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    RegimeTold,
    Resumed,
    Scores,
    SegmentStarted,
    Turned,
    ViolationLasts,
)
from tests.scrapes import BATCH, JUDGED, MEASURED, READINGS, Scrape


def test_detected_boundaries_are_counted_by_signal_and_go_on_after_a_restart() -> None:
    scrape = Scrape(BoundaryDetected("loss", 64))
    assert scrape.value("run_boundaries", signal="loss") == 1
    assert scrape.value("run_boundaries", signal="error") == 0
    resumed = Scrape(Resumed(70, 64, {}, 0, {"loss": 2}), BoundaryDetected("loss", 64))
    assert resumed.value("run_boundaries", signal="loss") == 3


def test_boundaries_and_regimes_are_judged_by_verdict() -> None:
    before = Scrape()
    assert math.isnan(before.value("boundary_delay_samples") or 0), "0 would be the best there is"
    assert math.isnan(before.value("regime") or 0)
    scrape = Scrape(RegimeTold(2, returned=True, samples=640), JUDGED)
    verdicts = {"found": 2, "missed": 1, "awaited": 1, "false_alarms": 3}
    for verdict, count in verdicts.items():
        assert scrape.value("boundary_verdicts", verdict=verdict) == count
    assert scrape.value("boundary_delay_samples") == 64
    assert scrape.value("regime") == 2
    for verdict, count in {"recognised": 4, "unrecognised": 1, "mistaken": 1}.items():
        assert scrape.value("regime_verdicts", verdict=verdict) == count


def test_a_start_is_told_by_its_parts_and_the_last_progress_survives_it() -> None:
    scrape = Scrape(Resumed(70, 64, {}, 0, progressed=1234.5))
    assert scrape.value("last_progress_timestamp_seconds") == 1234.5
    scrape = Scrape(LearningBegan(seconds=4.25, imports_seconds=3.0))
    assert scrape.value("start_duration_seconds", part="imports") == 3.0
    assert scrape.value("start_duration_seconds", part="rest") == 1.25


def test_records_are_counted_by_what_became_of_them() -> None:
    scrape = Scrape(
        RecordsReceived(70),
        RecordsReceived(10),
        RecordsDeadLettered("oversized", 4),
        RecordsDeadLettered("null_value", 2),
        RecordsDeadLettered("oversized", 1),
        RecordsLost(3),
        BATCH,
        replace(BATCH, discarded=60),
    )
    assert scrape.value("samples_received_total") == 80
    assert scrape.value("samples_dead_lettered_total", reason="oversized") == 5
    assert scrape.value("samples_dead_lettered_total", reason="null_value") == 2
    assert scrape.value("samples_lost_total") == 3
    assert scrape.value("samples_learned_total") == 128
    assert scrape.value("samples_discarded_total") == 124, "four are still there"


def test_counters_stand_at_zero_before_anything_has_happened() -> None:
    scrape = Scrape()  # a rate over a counter that appears late misses its first increase
    for what in ("received", "learned", "discarded", "lost"):
        assert scrape.value(f"samples_{what}_total") == 0
    for outcome in ("received", "learned", "dead_lettered", "lost"):
        assert scrape.value("run_samples", outcome=outcome) == 0


def test_a_batch_sets_loss_and_prequential_accuracy_and_feeds_the_histograms() -> None:
    before = time.time()
    scrape = Scrape(BATCH)
    assert scrape.value("batch_loss") == 0.25
    assert scrape.value("prequential_accuracy_ratio", kind="cumulative") == 0.75
    assert scrape.value("prequential_accuracy_ratio", kind="fading") == 0.5
    assert scrape.value("step_duration_seconds_sum") == 0.01
    assert scrape.value("sample_residency_seconds_sum") == 0.2
    assert scrape.value("end_to_end_latency_seconds_sum") == 1.5
    assert scrape.value("end_to_end_latency_seconds_bucket", le="1.0") == 0
    assert scrape.value("end_to_end_latency_seconds_bucket", le="2.5") == 1
    assert before <= (scrape.value("last_progress_timestamp_seconds") or 0) <= time.time()


def test_a_learner_without_a_loss_leaves_the_gauge_alone() -> None:
    scrape = Scrape(BATCH, replace(BATCH, loss=None))
    assert scrape.value("batch_loss") == 0.25


def test_a_producer_whose_clock_is_ahead_makes_no_negative_latency() -> None:
    scrape = Scrape(replace(BATCH, latency_seconds=-2.0))
    assert scrape.value("end_to_end_latency_seconds_sum") == 0
    assert scrape.value("end_to_end_latency_seconds_count") == 1


def test_a_turn_shows_what_is_resident_in_samples_and_bytes_and_what_is_kept() -> None:
    before = time.time()
    scrape = Scrape(Turned(resident=5, kept=500))
    assert scrape.value("samples_kept") == 500
    assert scrape.value("samples_resident") == 5
    assert scrape.value("samples_resident_bytes") == 5 * 784
    assert before <= (scrape.value("last_turn_timestamp_seconds") or 0) <= time.time()


def test_an_evaluation_sets_each_probe_s_accuracy_and_counts_its_seconds() -> None:
    scrape = Scrape(Evaluated(128, READINGS, True, 1, "a", False, 0.75), MEASURED)
    assert scrape.value("probe_accuracy_ratio", probe="a") == 0.5
    assert scrape.value("probe_accuracy_ratio", probe="b") == 0.25
    assert scrape.value("evaluation_duration_seconds_sum") == 0.75


def test_scores_are_gauges() -> None:
    scrape = Scrape(MEASURED)
    assert scrape.value("average_accuracy_ratio") == 0.5
    assert scrape.value("backward_transfer_ratio") == -0.25
    assert scrape.value("forward_transfer_ratio") == 0.125
    assert scrape.value("forgetting_ratio", probe="a") == 0.375
    assert scrape.value("min_accuracy_ratio") == 0.25
    assert scrape.value("worst_case_accuracy_ratio") == 0.625
    assert scrape.value("windowed_forgetting_ratio") == 0.3125
    assert scrape.value("windowed_plasticity_ratio") == 0.4375
    assert scrape.value("anytime_accuracy_ratio") == 0.75


def test_forgetting_that_is_no_longer_defined_is_no_longer_exported() -> None:
    unnamed = replace(MEASURED.scores, forgetting_by_probe={"a": 0.5, "b": 0.0})
    named = replace(MEASURED.scores, forgetting_by_probe={})
    scrape = Scrape(replace(MEASURED, scores=unnamed), replace(MEASURED, scores=named), MEASURED)
    assert scrape.value("forgetting_ratio", probe="a") == 0.375
    assert scrape.value("forgetting_ratio", probe="b") is None, "the first segment was named meanwhile"


def test_each_probe_s_calibration_and_classes_are_gauges() -> None:
    scrape = Scrape(MEASURED)
    assert scrape.value("probe_calibration_error_ratio", probe="b") == 0.375
    assert scrape.value("probe_class_accuracy_ratio", **{"probe": "a", "class": "1"}) == 0.75
    assert scrape.value("probe_class_accuracy_ratio", **{"probe": "a", "class": "2"}) is None, "of no image"


def test_the_matrix_is_labelled_with_segment_and_probe() -> None:
    scrape = Scrape(MEASURED)
    assert scrape.value("accuracy_matrix_ratio", after="0", probe="b") == 0.125
    assert scrape.value("accuracy_matrix_ratio", after="1", probe="a") == 0.5


UNDEFINED = Scores(None, None, None, None, {}, None, None, None, None, None, None, None, None)


def test_a_score_that_is_not_defined_is_no_number() -> None:
    for scrape in (Scrape(), Scrape(MEASURED, replace(MEASURED, scores=UNDEFINED))):
        shown = scrape.value("backward_transfer_ratio")
        assert shown is not None
        assert math.isnan(shown), "0 would say: nothing is forgotten"


def test_lag_and_offset_are_shown_for_each_partition() -> None:
    scrape = Scrape(Lag(offsets={3: 11, 0: 2}, records={3: 7, 0: 1}), Lag({3: 12}, {3: 6}))
    assert scrape.value("partition_lag_records", partition="3") == 6
    assert scrape.value("partition_offset", partition="3") == 12
    assert scrape.value("partition_lag_records", partition="0") == 1


def test_the_segment_being_learned_is_shown_once() -> None:
    scrape = Scrape(SegmentStarted("a", 1, 0), SegmentStarted("b", 2, 64))
    assert scrape.value("segment_visit") == 2
    assert scrape.value("segment_info", segment="b", visit="2") == 1
    assert scrape.value("segment_info", segment="a", visit="1") is None


def test_the_broker_is_up_or_not() -> None:
    assert Scrape().value("broker_up") == 0
    assert Scrape(BrokerSeen(up=True)).value("broker_up") == 1
    assert Scrape(BrokerSeen(up=True), BrokerSeen(up=False, detail="gone")).value("broker_up") == 0


RESUMED = Resumed(received=70, learned=64, dead={"oversized": 4, "null_value": 1}, lost=2, lost_at=1000.0)


def test_the_run_s_totals_go_on_after_a_restart_and_no_counter_does() -> None:
    scrape = Scrape(RESUMED, BATCH, RecordsReceived(65), RecordsDeadLettered("oversized", 1))
    totals = {"received": 135, "learned": 128, "dead_lettered": 6, "lost": 2}
    assert {outcome: scrape.value("run_samples", outcome=outcome) for outcome in totals} == totals
    assert scrape.value("run_dead_lettered_samples", reason="oversized") == 5
    assert scrape.value("run_dead_lettered_samples", reason="null_value") == 1
    assert scrape.value("samples_received_total") == 65
    assert scrape.value("samples_learned_total") == scrape.value("samples_discarded_total") == 64
    assert scrape.value("samples_dead_lettered_total", reason="oversized") == 1
    assert scrape.value("samples_lost_total") == 0


def test_no_counter_ever_begins_where_a_checkpoint_stands() -> None:
    """Behind the last scrape, it would be a reset to Prometheus, and all of the run learned in a moment."""
    full = replace(RESUMED, boundaries={"loss": 3}, violated={"ttl": 5.0}, progressed=5.0)
    counted = [
        sample
        for metric in Scrape(full, SegmentStarted("a", 1, 0, resumed=True)).registry.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.value
    ]
    assert counted == []


def test_when_records_were_lost_survives_a_restart_and_is_renewed() -> None:
    assert Scrape().value("samples_last_lost_timestamp_seconds") == 0
    assert Scrape(RESUMED).value("samples_last_lost_timestamp_seconds") == 1000
    before = time.time()
    lost = Scrape(RESUMED, RecordsLost(3)).value("samples_last_lost_timestamp_seconds")
    assert before <= (lost or 0) <= time.time()


def test_a_segment_that_a_restart_goes_on_with_has_not_begun() -> None:
    scrape = Scrape(SegmentStarted("a", 1, 64, resumed=True))
    assert scrape.value("segments_started_total") == 0
    assert scrape.value("segment_visit") == 1
    scrape.metrics(SegmentStarted("b", 2, 128))
    assert scrape.value("segments_started_total") == 1


def test_when_the_policy_was_violated_survives_a_restart_and_is_renewed() -> None:
    assert Scrape().value("policy_last_violation_timestamp_seconds", rule="ttl") is None
    resumed = Resumed(0, 0, {}, 0, violated={"ttl": 1000.0, "purge": 900.0})
    scrape = Scrape(resumed, PolicyViolated("ttl", "too long", at=2000.0))
    assert scrape.value("policy_last_violation_timestamp_seconds", rule="ttl") == 2000
    assert scrape.value("policy_last_violation_timestamp_seconds", rule="purge") == 900
    assert scrape.value("policy_violations_total", rule="ttl") == 1
    lasting = Scrape(PolicyViolated("ttl", "too long", at=2000.0), ViolationLasts("ttl", at=2060.0))
    assert lasting.value("policy_last_violation_timestamp_seconds", rule="ttl") == 2060
    assert lasting.value("policy_violations_total", rule="ttl") == 1


def test_checkpoints_are_counted_by_what_became_of_them() -> None:
    written = CheckpointWritten(samples=64, size_bytes=1000, seconds=0.25)
    scrape = Scrape(written, written, CheckpointFailed("no space left"), CheckpointUnreadable("it is torn"))
    assert scrape.value("checkpoints_written_total") == 2
    assert scrape.value("checkpoint_failures_total") == 1
    assert scrape.value("checkpoints_unreadable_total") == 1
    assert scrape.value("checkpoint_size_bytes") == 1000
    assert scrape.value("checkpoint_duration_seconds_sum") == 0.5
    assert 0 <= time.time() - (scrape.value("last_checkpoint_timestamp_seconds") or 0) < 10


def test_a_purge_shows_how_late_it_is_and_whether_it_is_held_up() -> None:
    assert Scrape().value("purge_limit_seconds") == math.inf
    scrape = Scrape(PurgeLag(12.5, 640, 60.0), PurgeHeldUp("group ridge"))
    assert [scrape.value(f"purge_{what}") for what in ("lag_seconds", "lag_records", "limit_seconds")] == [
        12.5,
        640,
        60,
    ]
    assert scrape.value("purge_held_up") == 1
    scrape.metrics(PurgeHeldUp(""))
    assert scrape.value("purge_held_up") == 0


def test_privacy_is_no_number_before_a_learner_accounts_for_it() -> None:
    assert math.isnan(Scrape().value("privacy_epsilon") or 0)
    scrape = Scrape(PrivacySpent(2.5, 1e-5, 8.0, spent=False))
    assert scrape.value("privacy_epsilon") == 2.5
    assert scrape.value("privacy_epsilon_budget") == 8.0
    assert scrape.value("privacy_delta") == 1e-5
    assert scrape.value("privacy_spent") == 0


def test_what_runs_is_shown() -> None:
    assert Scrape().value("build_info", version="1.2.3") == 1


def test_two_runs_in_one_process_do_not_share_numbers() -> None:
    busy, idle = Scrape(BATCH), Scrape()
    assert (busy.value("samples_learned_total"), idle.value("samples_learned_total")) == (64, 0)


def test_the_ledger_s_head_is_told_by_its_first_digits_exactly() -> None:
    head = "fedcba987654" + "3" * 52
    scrape = Scrape(LedgerStands(receipts=12, head=head))
    assert scrape.value("ledger_receipts") == 12
    shown = scrape.value("ledger_head")
    assert shown is not None
    assert f"{int(shown):012x}" == head[:12]
