"""Writes events to the log."""

import logging

from lethe.events import (
    SCORES,
    BatchReturned,
    BoundaryDetected,
    BrokerStatus,
    CheckpointFailed,
    CheckpointUnreadable,
    ClassesNamed,
    CommitStatus,
    DropFound,
    Evaluated,
    Event,
    LearningStarted,
    LossSurged,
    PartitionsAdded,
    PolicyViolated,
    PredictionsStatus,
    PrivacySpent,
    PurgeBlocked,
    RecordsDeadLettered,
    RecordsLost,
    RegimeAssigned,
    Resumed,
    ScoresUpdated,
    SegmentsCapped,
    SegmentsMixed,
    SegmentStarted,
    SegmentWithdrawn,
    SegmentWithoutProbe,
    TargetStatus,
    TopicRecreated,
    WitnessStatus,
)

__all__ = ["log_event"]

logger = logging.getLogger("lethe")


def log_event(event: Event) -> None:
    """Log one event; frequent events write no line."""
    match event:
        case LearningStarted():
            rest = event.seconds - event.imports_seconds
            logger.info(
                "learning %.1f s after the start: %.1f s of imports and %.1f s",
                event.seconds,
                event.imports_seconds,
                rest,
            )
        case SegmentStarted(resumed=False):
            logger.info("segment %d, %s, starts after %d samples", event.visit, event.name, event.samples)
        case SegmentWithdrawn(continues=None):
            logger.info("too few successive records are of %s: no segment has begun", event.name)
        case SegmentWithdrawn():
            logger.info(
                "too few successive records are of %s: segment %d, %s, continues",
                event.name,
                event.visit,
                event.continues,
            )
        case SegmentWithoutProbe():
            logger.warning(
                "no probe is named %s, so no score counts this segment: probes are %s; segments so far %s%s",
                event.name,
                ", ".join(event.probes),
                ", ".join(event.segments),
                f"; {event.name!r} and {event.similar!r} differ in case or white space"
                if event.similar
                else "",
            )
        case SegmentsCapped():
            logger.warning(
                "the limit of %d segments is reached: %s and all later segments count as the last one",
                event.limit,
                event.name,
            )
        case SegmentsMixed():
            logger.warning(
                "records of %s alternate: a segment needs %d successive records of one name (--min-segment)",
                " and ".join(event.names),
                event.least,
            )
        case ClassesNamed(resumed=False) if len(event.names) > event.before:
            logger.info(
                "%d classes; new: %s",
                len(event.names),
                ", ".join(event.names[event.before :]),
            )
        case BoundaryDetected():
            logger.info("boundary detected after %d samples, by the %s", event.samples, event.signal)
        case LossSurged():
            logger.warning(
                "after %d samples: the loss is %.1f times as large as usual; earlier skills may be lost soon",
                event.samples,
                event.ratio,
            )
        case RegimeAssigned(returned=True, resumed=False):
            logger.info("after %d samples: regime %d has returned", event.samples, event.regime)
        case RegimeAssigned(resumed=False):
            logger.info("after %d samples: new regime %d", event.samples, event.regime)
        case Evaluated():
            accuracies = ", ".join(f"{probe} {accuracy:.4f}" for probe, accuracy in event.accuracy.items())
            where = "end of segment" if event.ends_segment else "subset" if not event.full else "full"
            logger.info("after %d samples (%s): %s", event.samples, where, accuracies)
        case ScoresUpdated() if event.scores.bwt is not None:
            logger.info("after %d samples: %s %+.4f", event.samples, SCORES["bwt"].label, event.scores.bwt)
        case RecordsDeadLettered():
            logger.warning("%d malformed records dead-lettered: %s", event.count, event.reason)
        case RecordsLost():
            logger.error("%d records lost: the broker never served their offsets", event.count)
        case BatchReturned() if event.times > 1 and event.times.bit_count() == 1:  # 2, 4, 8 …
            logger.warning(
                "the same batch went back to the broker %d times in a row: it cannot be read completely "
                "within half of the policy's residency limit",
                event.times,
            )
        case PartitionsAdded():
            logger.warning(
                "partitions were added to the topic; they are read from their beginning: %s",
                ", ".join(map(str, event.partitions)),
            )
        case TopicRecreated():
            logger.error(
                "the topic was deleted and created anew; at least %d records of the old one were not learned",
                event.gone,
            )
        case TargetStatus(up=True):
            logger.info("the watched model answers%s", f"; {event.detail}" if event.detail else "")
        case TargetStatus(up=False):
            logger.warning("what the watched model knows is unknown: %s", event.detail)
        case DropFound():
            logger.warning(
                "accuracy on %s has dropped: found after %d rounds, with %d images",
                event.probe,
                event.rounds,
                event.images,
            )
        case BrokerStatus(up=True):
            logger.info("the broker answers%s", f"; {event.detail}" if event.detail else "")
        case BrokerStatus(up=False):
            logger.warning("waiting for the broker: %s", event.detail)
        case CommitStatus() if event.failure:
            logger.warning(
                "the broker rejects offset commits, learning continues: %s",
                event.failure,
            )
        case CommitStatus():
            logger.info("the broker accepts offset commits again")
        case PredictionsStatus() if event.waits_for:
            logger.warning(
                "learning waits until predictions can be written, nothing is lost: %s", event.waits_for
            )
        case PredictionsStatus():
            logger.info("predictions are written again, learning continues")
        case Resumed():
            logger.info(
                "resuming from a checkpoint: %d records received, %d learned", event.received, event.learned
            )
        case CheckpointFailed():
            logger.error("checkpoint not written, learning continues: %s", event.detail)
        case PrivacySpent(spent=True):
            logger.warning(
                "learning ends: the %sprivacy budget of ε = %g at δ = %g is spent, up to %g",
                "simulated " if event.simulated else "",
                event.budget,
                event.delta,
                event.epsilon,
            )
        case PolicyViolated():
            logger.error("policy violated, %s: %s", event.rule, event.detail)
        case PurgeBlocked() if event.waits_for:
            logger.warning("purging the broker waits for %s", event.waits_for)
        case PurgeBlocked():
            logger.info("purging the broker continues")
        case WitnessStatus(up=False):
            logger.warning(
                "the ledger's head was not published to the witness, learning continues: %s; "
                "a later head covers it",
                event.reason,
            )
        case CheckpointUnreadable():
            logger.error("unreadable checkpoint skipped for an older one: %s", event.detail)
        case _:
            return
