"""The policy's status in /state: what events say, and consistent for readers in other threads."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lethe.events import BatchLearned, LedgerHead, PolicyViolated, PurgeLag
from lethe.privacy.controls import PolicyControls
from lethe.privacy.policy import load_policy
from lethe.privacy.status import PolicyStatus

CLINIC = PolicyControls(load_policy("clinic"))


def learned(residency: float) -> BatchLearned:
    return BatchLearned(64, 64, 32, 0.5, 0.01, residency, 1.0, 0.5, 0.5)


def test_without_a_policy_and_before_any_event_everything_is_null() -> None:
    state = PolicyStatus().state()
    assert state.pop("violations") == {}
    assert set(state.values()) == {None}


def test_the_status_says_what_the_policy_and_the_events_say() -> None:
    status = PolicyStatus(CLINIC)
    status(LedgerHead(0, "0" * 64))
    assert status.state()["ledger_entries"] == 0, "a ledger without receipts is a ledger"
    for event in (
        learned(0.5),
        PurgeLag(7.5, 128, 60.0),
        LedgerHead(3, "ab" * 32),
        PolicyViolated("purge", "late", 1e9),
        PolicyViolated("residency", "long", 1e9),
        PolicyViolated("purge", "late", 1e9),
    ):
        status(event)
    policy = load_policy("clinic")
    state = status.state()
    assert json.loads(json.dumps(state)) == state
    assert state == {
        "policy": "clinic",
        "allows": policy.retention.value,
        "residency_seconds": 0.5,
        "residency_allowed_seconds": policy.residency_seconds,
        "violations": {"purge": 2, "residency": 1},
        "unpurged_records": 128,
        "purge_lag_seconds": 7.5,
        "ledger_entries": 3,
        "ledger_head": "ab" * 32,
    }


def test_a_state_that_was_read_does_not_change_afterwards() -> None:
    status = PolicyStatus(CLINIC)
    status(PolicyViolated("purge", "late", 1e9))
    state = status.state()
    status(PolicyViolated("purge", "late", 1e9))
    assert state["violations"] == {"purge": 1}


def test_a_reader_never_sees_a_status_half_updated() -> None:
    """Each event carries one number several times: a reader sees it equal everywhere, and never go down."""
    status, turns = PolicyStatus(CLINIC), 3000
    status(PurgeLag(0.0, 0, 60.0))
    status(LedgerHead(0, f"{0:064x}"))
    began, done = threading.Event(), threading.Event()

    def read() -> list[dict[str, Any]]:
        seen = []
        while not done.is_set():
            seen.append(status.state())
            began.set()
        return seen

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read)
        assert began.wait(60)
        for turn in range(1, turns + 1):
            status(PolicyViolated(f"rule {turn % 50}", "broken", 1e9))  # the mapping grows while it is read
            status(learned(float(turn)))
            status(PurgeLag(float(turn), turn, 60.0))
            status(LedgerHead(turn, f"{turn:064x}"))
        done.set()
        seen = reading.result(90)
    assert seen
    for state in seen:
        assert state["purge_lag_seconds"] == state["unpurged_records"]
        assert int(state["ledger_head"], 16) == state["ledger_entries"]
        ledger, purge = state["ledger_entries"], state["unpurged_records"]
        residency, violations = state["residency_seconds"] or 0, sum(state["violations"].values())
        # the order of the events: each number is the one before it, or one behind
        assert violations - 1 <= ledger <= purge <= residency <= violations
    entries = [state["ledger_entries"] for state in seen]
    assert entries == sorted(entries)
