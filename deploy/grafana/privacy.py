"""The dashboard that shows what is kept: pixels in memory, for how long, and where every record went."""

from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.frame import CHOSEN, frame
from deploy.grafana.panels import WIDTH, Limits, Query, chart, grid, number
from deploy.grafana.percentiles import percentiles

__all__ = ["privacy"]


def privacy() -> model.Dashboard:
    """Return the dashboard."""
    resident = chart(
        "Resident samples",
        "Samples whose pixels are in the service's memory: read, and not yet overwritten.",
        "short",
        [Query(f"lethe_samples_resident{{{CHOSEN}}}")],
        limits=Limits(2048, 8192),
    )
    size = chart(
        "Resident bytes",
        "The same in bytes of pixels.",
        "bytes",
        [Query(f"lethe_samples_resident_bytes{{{CHOSEN}}}")],
        limits=Limits(2e6, 8e6),
    )
    residency = chart(
        "How long pixels stay",
        "From the arrival of a batch's first sample in the service to its pixels being overwritten. Red from "
        "a minute on, as the alert LetheResidencyExceeded.",
        "s",
        percentiles("lethe_sample_residency_seconds"),
        limits=Limits(10, 60),
    )
    owed = chart(
        "Learned, but not discarded",
        "Samples that the process learned and whose pixels it did not overwrite. Anything but 0 is a breach.",
        "short",
        [Query(f"lethe_samples_learned_total{{{CHOSEN}}} - lethe_samples_discarded_total{{{CHOSEN}}}")],
        limits=Limits(1, 1),
    )
    dead = chart(
        "Dead letters",
        "Malformed records of the whole run, by reason. A letter holds size and hash; pixels only where the "
        "operator asked for it.",
        "short",
        [
            Query(f"lethe_run_dead_lettered_samples{{{CHOSEN}}}", "{{service}}: {{reason}}"),
            Query(f'lethe_run_samples{{outcome="dead_lettered", {CHOSEN}}}', "{{service}}: all"),
        ],
        limits=Limits(1, 1000),
    )
    lost = chart(
        "Lost records",
        "Offsets that the broker never served, in the whole run. They were not learned, and nobody has them.",
        "short",
        [Query(f'lethe_run_samples{{outcome="lost", {CHOSEN}}}')],
        limits=Limits(1, 1),
    )
    violations = chart(
        "Policy violations",
        "What the policy forbids and happened since the process started, by rule; 0 without a policy.",
        "short",
        [Query(f"lethe_policy_violations_total{{{CHOSEN}}}", "{{service}}: {{rule}}")],
        limits=Limits(1, 1),
    )
    late = chart(
        "Purge lag",
        "How long the oldest record that was learned is still in the broker, and the most that the policy "
        "allows (no line without one). Red from a day on; the alert LethePurgeOverdue goes by the policy.",
        "s",
        [
            Query(f"lethe_purge_lag_seconds{{{CHOSEN}}}"),
            Query(f"lethe_purge_limit_seconds{{{CHOSEN}}} < Inf", "{{service}}: allowed"),
        ],
        limits=Limits(3600, 86400),
    )
    unpurged = chart(
        "Learned, but still in the broker",
        "Records to be purged once the oldest checkpoint is past them, and nobody else needs them.",
        "short",
        [Query(f"lethe_purge_lag_records{{{CHOSEN}}}")],
        limits=Limits(100000, 1000000),
    )
    held_up = chart(
        "Purge held up",
        "1 while a purge waits for another consumer group on the topic; the service's log names it.",
        "short",
        [Query(f"lethe_purge_held_up{{{CHOSEN}}}")],
        limits=Limits(1, 1),
    )
    epsilon = chart(
        "ε spent",
        "What a differentially private learner has spent so far, and the budget at which it stops. Nothing "
        "is shown for other learners.",
        "short",
        [
            Query(f"lethe_privacy_epsilon{{{CHOSEN}}}", "{{service}}"),
            Query(f"lethe_privacy_epsilon_budget{{{CHOSEN}}}", "{{service}}: budget"),
        ],
        limits=Limits(8, 16),
    )
    delta = chart(
        "δ of that account",
        "The probability that ε does not hold; it should be well below one over the number of records.",
        "sci",
        [Query(f"lethe_privacy_delta{{{CHOSEN}}}")],
        limits=Limits(0.0001, 0.001),
    )
    ended = chart(
        "Learning ended by its budget",
        "1 when another batch would have cost more ε than is allowed, as the alert LethePrivacyBudgetSpent.",
        "short",
        [Query(f"lethe_privacy_spent{{{CHOSEN}}}")],
        limits=Limits(1, 1),
    )
    kept = chart(
        "Age of kept samples",
        "Where a policy says for how long samples may be kept: how long ago the oldest came that the "
        "learner, or a checkpoint, may still hold. 0 without such a policy, whatever is kept. Red from a "
        "month on; the policy's own limit is a violation, rule ttl.",
        "s",
        [Query(f"lethe_samples_kept_age_seconds{{{CHOSEN}}}")],
        limits=Limits(7 * 86400, 30 * 86400),
    )
    amount = chart(
        "Kept samples",
        "Samples of before, with their pixels, that the learner keeps to learn them again, as replay, der++ "
        "and agem do. Its checkpoints hold them, too.",
        "short",
        [Query(f"lethe_samples_kept{{{CHOSEN}}}")],
    )
    receipts = chart(
        "Receipts in the ledger",
        "One for each batch that was learned and discarded, and for each purge, expiry and erasure. It never "
        "falls. 0 without a state folder.",
        "short",
        [Query(f"lethe_ledger_receipts{{{CHOSEN}}}")],
    )
    head = number(
        "Ledger head",
        "First 12 digits of the newest receipt's SHA-256, which stands for all before it. Written down, with "
        "the number of receipts, it shows whether that line of ledger.jsonl, or any before it, was changed.",
        f"lethe_ledger_head{{{CHOSEN}}}",
        "hex",
    )
    retains = grid(
        "What each learner retains of a sample",
        "nothing but weights, statistics (sums over samples, not anonymous by themselves), a generative "
        "model, or samples.",
        f"lethe_build_info{{{CHOSEN}}}",
        ["service", "learner", "retains", "version"],
        span=2 * WIDTH // 3,
    )
    return frame(
        "lethe-privacy",
        "Privacy",
        "Whether anything of a sample stays behind once it has been learned.",
        [
            ("Pixels in memory", [resident, size, residency]),
            ("Where the records went", [owed, dead, lost]),
            ("What the broker still has", [late, unpurged, held_up]),
            ("What differential privacy has cost", [epsilon, delta, ended]),
            ("Held against the policy", [violations, kept]),
            ("What was receipted", [receipts, head]),
            ("What is kept on purpose", [retains, amount]),
        ],
    )
