"""The privacy dashboard: pixels in memory, residency, purges, the policy and the ledger."""

from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.frame import CHOSEN, Row, alerts, frame, vital_signs
from deploy.grafana.panels import WIDTH, Column, Limits, Query, chart, crosstab, grid, number
from deploy.grafana.rates import percentile

__all__ = ["privacy"]


def privacy() -> model.Dashboard:
    """Return the dashboard."""
    resident = chart(
        "Resident samples",
        "Samples whose pixels are in the service's memory: received and not yet overwritten.",
        "short",
        [Query(f"max by (service) (lethe_samples_resident{{{CHOSEN}}})")],
        limits=Limits(2048, 8192),
    )
    size = chart(
        "Resident bytes",
        "Bytes of pixels of the resident samples.",
        "bytes",
        [Query(f"max by (service) (lethe_samples_resident_bytes{{{CHOSEN}}})")],
        limits=Limits(2e6, 8e6),
    )
    residency = chart(
        "Residency of pixels, 99th percentile",
        "From the arrival of a batch's first sample until its pixels are overwritten. Red from 60 s on, "
        "like the alert LetheResidencyExceeded.",
        "s",
        percentile("lethe_sample_residency_seconds"),
        limits=Limits(10, 60),
    )
    owed = chart(
        "Learned, but not discarded",
        "Samples that were learned and whose pixels were not overwritten. Anything but 0 is a violation.",
        "short",
        [
            Query(
                "sum by (service)"
                f" (lethe_samples_learned_total{{{CHOSEN}}} - lethe_samples_discarded_total{{{CHOSEN}}})"
            )
        ],
        limits=Limits(1, 1),
    )
    dead = chart(
        "Dead letters",
        "Malformed records of the whole run. A dead letter holds size and hash, and the pixels only if the "
        "operator configured that.",
        "none",
        [Query(f'sum by (service) (lethe_run_samples{{outcome="dead_lettered", {CHOSEN}}})')],
        limits=Limits(1, 1000),
        steps=True,
        decimals=0,
    )
    reasons = crosstab(
        "Dead letters by reason",
        "Malformed records of the whole run. Each is reported to the dead-letter topic and skipped.",
        f"max by (service, reason) (lethe_run_dead_lettered_samples{{{CHOSEN}}})",
        rows="service",
        columns="reason",
    )
    lost = chart(
        "Lost records",
        "Offsets that the broker never served, in the whole run. They were not learned.",
        "short",
        [Query(f'sum by (service) (lethe_run_samples{{outcome="lost", {CHOSEN}}})')],
        limits=Limits(1, 1),
    )
    violations = chart(
        "Policy violations",
        "Policy violations of any rule since the process started; 0 without a policy.",
        "short",
        [Query(f"sum by (service) (lethe_policy_violations_total{{{CHOSEN}}})")],
        limits=Limits(1, 1),
    )
    late = chart(
        "Purge lag",
        "Age of the oldest learned record that is still in the broker, and the policy's limit (no line "
        "without one). Red from a day on; the alert LethePurgeOverdue uses the policy's limit.",
        "s",
        [
            Query(f"max by (service) (lethe_purge_lag_seconds{{{CHOSEN}}})"),
            Query(f"min(lethe_purge_limit_seconds{{{CHOSEN}}} < Inf)", "allowed", grey=True),
        ],
        limits=Limits(3600, 86400),
    )
    unpurged = chart(
        "Learned, but still in the broker",
        "Learned records that are not purged yet. They are purged once the oldest checkpoint has passed "
        "them and no other consumer group needs them.",
        "short",
        [Query(f"max by (service) (lethe_purge_lag_records{{{CHOSEN}}})")],
        limits=Limits(100000, 1000000),
    )
    blocked = chart(
        "Purge blocked",
        "1 while a purge waits for another consumer group of the topic; the service's log names the group.",
        "short",
        [Query(f"max by (service) (lethe_purge_held_up{{{CHOSEN}}})")],
        limits=Limits(1, 1),
    )
    epsilon = chart(
        "ε spent",
        "ε spent by a differentially private learner, and the budget at which it stops. No data for other"
        " learners, nor for seeded noise, which gives no privacy.",
        "short",
        [
            Query(f"max by (service) (lethe_privacy_epsilon{{{CHOSEN}}} >= 0)"),
            Query(f"min(lethe_privacy_epsilon_budget{{{CHOSEN}}})", "smallest budget", grey=True),
        ],
        limits=Limits(8, 16),
        nothing="no private learner",
    )
    delta = chart(
        "δ",
        "The probability with which ε does not hold; it should be well below 1 divided by the number of "
        "records.",
        "sci",
        [Query(f"max by (service) (lethe_privacy_delta{{{CHOSEN}}})")],
        limits=Limits(0.0001, 0.001),
        nothing="no private learner",
    )
    ended = chart(
        "Privacy budget spent",
        "1 once another batch would exceed the ε budget, like the alert LethePrivacyBudgetSpent.",
        "short",
        [Query(f"max by (service) (lethe_privacy_spent{{{CHOSEN}}})")],
        limits=Limits(1, 1),
    )
    simulated = chart(
        "Simulated privacy",
        "1 if a differentially private learner uses seeded noise, which can be subtracted again, like the"
        " alert LethePrivacySimulated. There is no ε then.",
        "short",
        [Query(f"max by (service) (lethe_privacy_simulated{{{CHOSEN}}})")],
        limits=Limits(1, 1),
    )
    kept = chart(
        "Age of stored samples",
        "Under a policy with a time limit: the age of the oldest sample that the learner or a checkpoint "
        "may still hold. 0 without such a policy. Red from 30 days on; the policy's own limit is the "
        "violation ttl.",
        "s",
        [Query(f"max by (service) (lethe_samples_kept_age_seconds{{{CHOSEN}}})")],
        limits=Limits(7 * 86400, 30 * 86400),
    )
    amount = chart(
        "Stored samples",
        "Earlier samples, with pixels, that the learner stores to replay them, as replay, der++ and agem "
        "do. Its checkpoints contain them too.",
        "short",
        [Query(f"max by (service) (lethe_samples_kept{{{CHOSEN}}})")],
    )
    receipts = chart(
        "Receipts in the ledger",
        "One per batch that was learned and discarded, and one per purge, expiry and erasure. It never "
        "falls; 0 without a state folder. Also the number of receipts that the witness has received, once"
        " per checkpoint.",
        "short",
        [
            Query(f"max by (service) (lethe_ledger_receipts{{{CHOSEN}}})"),
        ],
    )
    witnessed = chart(
        "Receipts that the witness lacks",
        "Receipts that are newer than the newest head published to the witness, which happens once per "
        "checkpoint. No line without a witness.",
        "none",
        [
            Query(
                "max by (service) (lethe_ledger_receipts"
                f"{{{CHOSEN}}} - (lethe_witness_receipts{{{CHOSEN}}} > 0))"
            )
        ],
        nothing="no witness",
        decimals=0,
    )
    head = number(
        "Ledger head",
        "First 12 digits of the SHA-256 of the newest receipt, which covers all earlier ones. Noted "
        "together with the number of receipts, it proves whether ledger.jsonl was changed up to that "
        "line.",
        f"lethe_ledger_head{{{CHOSEN}}}",
        "hex",
    )
    retains = grid(
        "Retention of each learner",
        "nothing (weights only), statistics (sums over samples, not anonymous by themselves), model (a "
        "generative one), or samples.",
        [f"max by (service, learner, retains, version) (lethe_build_info{{{CHOSEN}}})"],
        {
            "service": Column("Service"),
            "learner": Column("Learner"),
            "retains": Column("Retains"),
            "version": Column("Version"),
        },
        nothing="no service",
        span=WIDTH // 3,
        height=8,
    )
    return frame(
        "lethe-privacy",
        "Privacy",
        "Whether anything of a sample remains after it was learned.",
        [
            vital_signs(),
            Row("", [alerts()]),
            Row("Pixels in memory", [resident, size, residency]),
            Row("Record outcomes", [owed, lost, violations]),
            Row("Retention", [retains, amount, kept]),
            Row("Dead letters", [dead.span(WIDTH // 2), reasons.span(WIDTH // 2)]),
            Row("Ledger", [receipts, head, witnessed], collapsed=True),
            Row("Purge", [late, unpurged, blocked], collapsed=True),
            Row(
                "Differential privacy",
                [panel.span(WIDTH // 4) for panel in (epsilon, delta, ended, simulated)],
                collapsed=True,
            ),
        ],
    )
