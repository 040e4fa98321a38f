"""Every event reaches the metric that shows it."""

import math
import time
from dataclasses import replace

from docs.example_events import BATCH, BOUNDARIES, MEASURED, READINGS
from lethe.events import (
    BatchReturned,
    BoundaryDetected,
    BrokerStatus,
    CheckpointFailed,
    CheckpointUnreadable,
    CheckpointWritten,
    ClassesNamed,
    Evaluated,
    Lag,
    LearningStarted,
    LedgerHead,
    LoopTurned,
    LossSurged,
    PolicyViolated,
    PrivacySpent,
    PurgeBlocked,
    PurgeLag,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    RegimeAssigned,
    Resumed,
    Scores,
    SegmentStarted,
    SegmentWithdrawn,
    ViolationPersists,
    WeightsMoved,
)
from tests.support.scrape import Scrape


def test_detected_boundaries_are_counted_by_signal_across_restarts() -> None:
    scrape = Scrape(BoundaryDetected("loss", 64))
    assert scrape.value("run_boundaries", signal="loss") == 1
    assert scrape.value("run_boundaries", signal="error") == 0
    resumed = Scrape(Resumed(70, 64, {}, 0, {"loss": 2}), BoundaryDetected("loss", 64))
    assert resumed.value("run_boundaries", signal="loss") == 3


def test_boundaries_and_regimes_are_counted_by_verdict() -> None:
    before = Scrape()
    assert math.isnan(before.value("boundary_delay_samples") or 0), "0 would be the best there is"
    assert math.isnan(before.value("regime") or 0)
    scrape = Scrape(RegimeAssigned(2, returned=True, samples=640), BOUNDARIES)
    verdicts = {"found": 2, "missed": 1, "awaited": 1, "false_alarms": 3}
    for verdict, count in verdicts.items():
        assert scrape.value("boundary_verdicts", verdict=verdict) == count
    assert scrape.value("boundary_delay_samples") == 64
    assert scrape.value("regime") == 2
    for verdict, count in {"recognised": 4, "unrecognised": 1, "mistaken": 1}.items():
        assert scrape.value("regime_verdicts", verdict=verdict) == count


def test_a_start_is_measured_by_part_and_the_last_progress_survives_it() -> None:
    scrape = Scrape(Resumed(70, 64, {}, 0, progressed=1234.5))
    assert scrape.value("last_progress_timestamp_seconds") == 1234.5
    scrape = Scrape(LearningStarted(seconds=4.25, imports_seconds=3.0))
    assert scrape.value("start_duration_seconds", part="imports") == 3.0
    assert scrape.value("start_duration_seconds", part="rest") == 1.25


def test_records_are_counted_by_outcome() -> None:
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


def test_counters_start_at_zero() -> None:
    scrape = Scrape()  # a rate over a counter that appears late misses its first increase
    for what in ("received", "learned", "discarded", "lost"):
        assert scrape.value(f"samples_{what}_total") == 0
    for outcome in ("received", "learned", "dead_lettered", "lost"):
        assert scrape.value("run_samples", outcome=outcome) == 0


def test_a_batch_sets_loss_and_prequential_accuracy_and_feeds_the_histograms() -> None:
    scrape = Scrape(BATCH)
    assert scrape.value("batch_loss") == 0.25
    assert scrape.value("prequential_accuracy_ratio", kind="cumulative") == 0.75
    assert scrape.value("prequential_accuracy_ratio", kind="fading") == 0.5
    assert scrape.value("step_duration_seconds_sum") == 0.01
    assert scrape.value("sample_residency_seconds_sum") == 0.2
    assert scrape.value("end_to_end_latency_seconds_sum") == 1.5
    assert scrape.value("end_to_end_latency_seconds_bucket", le="1.0") == 0
    assert scrape.value("end_to_end_latency_seconds_bucket", le="2.5") == 1
    assert scrape.value("last_progress_timestamp_seconds") == BATCH.at


def test_before_the_first_batch_the_loss_is_undefined_and_the_accuracy_is_the_resumed_one() -> None:
    scrape = Scrape(Resumed(70, 64, {}, 0, prequential=0.75, prequential_fading=0.5))
    loss = scrape.value("batch_loss")
    assert loss is not None
    assert math.isnan(loss)
    assert scrape.value("prequential_accuracy_ratio", kind="cumulative") == 0.75
    assert scrape.value("prequential_accuracy_ratio", kind="fading") == 0.5


def test_without_a_loss_the_gauge_does_not_change() -> None:
    scrape = Scrape(BATCH, replace(BATCH, loss=None))
    assert scrape.value("batch_loss") == 0.25


def test_a_producer_whose_clock_is_ahead_makes_no_negative_latency() -> None:
    scrape = Scrape(replace(BATCH, latency_seconds=-2.0))
    assert scrape.value("end_to_end_latency_seconds_sum") == 0
    assert scrape.value("end_to_end_latency_seconds_count") == 1


def test_a_turn_exports_resident_samples_and_bytes_and_kept_samples() -> None:
    before = time.time()
    scrape = Scrape(LoopTurned(resident=5, kept=500))
    assert scrape.value("samples_kept") == 500
    assert scrape.value("samples_resident") == 5
    assert scrape.value("samples_resident_bytes") == 5 * 784
    assert before <= (scrape.value("last_turn_timestamp_seconds") or 0) <= time.time()


def test_an_evaluation_sets_each_probes_accuracy_and_counts_its_seconds() -> None:
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
    unnamed = replace(MEASURED, forgetting_by_probe={"a": 0.5, "b": 0.0})
    named = replace(MEASURED, forgetting_by_probe={})
    scrape = Scrape(unnamed, named, MEASURED)
    assert scrape.value("forgetting_ratio", probe="a") == 0.375
    assert scrape.value("forgetting_ratio", probe="b") is None, "the first segment was named meanwhile"


def test_each_probes_calibration_and_classes_are_gauges() -> None:
    scrape = Scrape(MEASURED)
    assert scrape.value("probe_calibration_error_ratio", probe="b") == 0.375
    assert scrape.value("probe_class_accuracy_ratio", **{"probe": "a", "class": "1", "label": "1"}) == 0.75
    assert scrape.value("probe_class_accuracy_ratio", **{"probe": "a", "class": "2", "label": "2"}) is None, (
        "of no image"
    )


def test_classes_with_names_are_gauges_under_their_names() -> None:
    scrape = Scrape(MEASURED, class_names=("cat", "dog", "bird"))
    assert scrape.value("probe_class_accuracy_ratio", **{"probe": "a", "class": "dog", "label": "1"}) == 0.75
    assert scrape.value("probe_class_accuracy_ratio", **{"probe": "a", "class": "1", "label": "1"}) is None


def test_classes_that_appear_are_gauges_under_their_names_from_then_on() -> None:
    scrape = Scrape(ClassesNamed(("cat",)), MEASURED)
    assert scrape.value("classes_named") == 1
    assert scrape.value("probe_class_accuracy_ratio", **{"probe": "a", "class": "cat", "label": "0"}) == 0.25
    scrape = Scrape(ClassesNamed(("cat",)), ClassesNamed(("cat", "dog"), before=1), MEASURED)
    assert scrape.value("classes_named") == 2
    assert scrape.value("probe_class_accuracy_ratio", **{"probe": "a", "class": "dog", "label": "1"}) == 0.75


def test_the_matrix_is_labelled_with_segment_and_probe() -> None:
    scrape = Scrape(MEASURED)
    assert (
        scrape.value("accuracy_matrix_ratio", after="0", segment="untrained", column="2", probe="b") == 0.125
    )
    assert scrape.value("accuracy_matrix_ratio", after="1", segment="a", column="1", probe="a") == 0.5


def test_an_evaluation_leaves_its_time_and_the_number_of_its_images() -> None:
    assert Scrape().value("last_evaluation_timestamp_seconds") == 0
    scrape = Scrape(Evaluated(128, READINGS, False, 1, "a", False, 0.75, {"a": 500, "b": 200}))
    assert scrape.value("probe_evaluated_samples", probe="b") == 200
    assert time.time() - 60 < (scrape.value("last_evaluation_timestamp_seconds") or 0) <= time.time()


UNDEFINED = Scores()


def test_an_undefined_score_is_nan() -> None:
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
    scrape.metrics(SegmentWithdrawn("b", 1, "a"))
    assert scrape.value("segment_visit") == 1
    assert scrape.value("segment_info", segment="a", visit="1") == 1
    assert scrape.value("segment_info", segment="b", visit="2") is None
    scrape.metrics(SegmentWithdrawn("a", 0, None))
    assert scrape.value("segment_visit") == 0
    assert scrape.value("segment_info", segment="a", visit="1") is None


def test_the_broker_is_up_or_not() -> None:
    assert Scrape().value("broker_up") == 0
    assert Scrape(BrokerStatus(up=True)).value("broker_up") == 1
    assert Scrape(BrokerStatus(up=True), BrokerStatus(up=False, detail="gone")).value("broker_up") == 0


RESUMED = Resumed(received=70, learned=64, dead={"oversized": 4, "null_value": 1}, lost=2, lost_at=1000.0)


def test_the_runs_totals_continue_after_a_restart_and_counters_do_not() -> None:
    scrape = Scrape(RESUMED, BATCH, RecordsReceived(65), RecordsDeadLettered("oversized", 1))
    totals = {"received": 135, "learned": 128, "dead_lettered": 6, "lost": 2}
    assert {outcome: scrape.value("run_samples", outcome=outcome) for outcome in totals} == totals
    assert scrape.value("run_dead_lettered_samples", reason="oversized") == 5
    assert scrape.value("run_dead_lettered_samples", reason="null_value") == 1
    assert scrape.value("samples_received_total") == 65
    assert scrape.value("samples_learned_total") == scrape.value("samples_discarded_total") == 64
    assert scrape.value("samples_dead_lettered_total", reason="oversized") == 1
    assert scrape.value("samples_lost_total") == 0


def test_no_counter_starts_at_the_value_of_a_checkpoint() -> None:
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


def test_a_segment_that_a_restart_continues_does_not_start_again() -> None:
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
    lasting = Scrape(PolicyViolated("ttl", "too long", at=2000.0), ViolationPersists("ttl", at=2060.0))
    assert lasting.value("policy_last_violation_timestamp_seconds", rule="ttl") == 2060
    assert lasting.value("policy_violations_total", rule="ttl") == 1


def test_checkpoints_are_counted_by_outcome() -> None:
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
    scrape = Scrape(PurgeLag(12.5, 640, 60.0), PurgeBlocked("group ridge"))
    assert [scrape.value(f"purge_{what}") for what in ("lag_seconds", "lag_records", "limit_seconds")] == [
        12.5,
        640,
        60,
    ]
    assert scrape.value("purge_held_up") == 1
    scrape.metrics(PurgeBlocked(""))
    assert scrape.value("purge_held_up") == 0


def test_a_returned_batch_counts_until_records_are_read() -> None:
    scrape = Scrape(BatchReturned(1), BatchReturned(2), BatchReturned(3))
    assert scrape.value("batches_given_back_total") == scrape.value("batch_returns") == 3
    scrape.metrics(RecordsReceived(64))
    assert scrape.value("batch_returns") == 0
    scrape.metrics(BatchReturned(1))
    assert (scrape.value("batches_given_back_total"), scrape.value("batch_returns")) == (4, 1)


def test_privacy_metrics_do_not_exist_before_a_learner_accounts_for_it() -> None:
    assert Scrape().value("privacy_epsilon") is None
    scrape = Scrape(PrivacySpent(2.5, 1e-5, 8.0, spent=False))
    assert scrape.value("privacy_epsilon") == 2.5
    assert scrape.value("privacy_epsilon_budget") == 8.0
    assert scrape.value("privacy_delta") == 1e-5
    assert scrape.value("privacy_spent") == 0
    assert scrape.value("privacy_simulated") == 0


def test_a_simulated_epsilon_is_not_exported() -> None:
    scrape = Scrape(PrivacySpent(2.5, 1e-5, 8.0, spent=False, simulated=True))
    for name in ("epsilon", "epsilon_budget", "delta"):
        assert scrape.value(f"privacy_{name}") is None
    assert scrape.value("privacy_simulated") == 1


def test_withheld_results_of_a_batch_are_in_no_metric() -> None:
    scrape = Scrape(replace(BATCH, correct=None, loss=None, prequential=None, prequential_fading=None))
    assert scrape.value("samples_learned_total") == 64
    assert math.isnan(scrape.value("batch_loss") or 0)
    assert scrape.value("prequential_accuracy_ratio", kind="cumulative") is None


def test_the_build_is_exported() -> None:
    assert Scrape().value("build_info", version="1.2.3") == 1


def test_two_runs_in_one_process_do_not_share_numbers() -> None:
    busy, idle = Scrape(BATCH), Scrape()
    assert (busy.value("samples_learned_total"), idle.value("samples_learned_total")) == (64, 0)


def test_the_ledgers_head_is_exported_by_its_first_digits_exactly() -> None:
    head = "fedcba987654" + "3" * 52
    scrape = Scrape(LedgerHead(receipts=12, head=head))
    assert scrape.value("ledger_receipts") == 12
    shown = scrape.value("ledger_head")
    assert shown is not None
    assert f"{int(shown):012x}" == head[:12]


def test_what_is_measured_in_some_batches_stays_between() -> None:
    before = Scrape()
    for name in ("gradient_norm", "weight_step_cosine", "gradient_interference_cosine"):
        assert math.isnan(before.value(name) or 0)
    assert before.value("weights_travelled_total") == before.value("loss_surges_total") == 0
    looks = WeightsMoved(1.5, 0.5, 0.75, -0.25), WeightsMoved(2.5, None, None, None)
    scrape = Scrape(*looks, LossSurged(4.5, 640))
    assert scrape.value("gradient_norm") == 2.5
    assert scrape.value("weights_travelled_total") == 0.5
    assert scrape.value("weight_step_cosine") == 0.75
    assert scrape.value("gradient_interference_cosine") == -0.25
    assert scrape.value("loss_surges_total") == 1
    assert Scrape(looks[0], looks[0]).value("weights_travelled_total") == 1
