"""Events to log lines: what an operator reads when nobody looks at a dashboard."""

import logging

from service.events import (
    BoundaryDetected,
    BrokerSeen,
    CheckpointFailed,
    CheckpointUnreadable,
    Evaluated,
    Event,
    LearningBegan,
    Measured,
    PartitionsAdded,
    PolicyViolated,
    PrivacySpent,
    PurgeHeldUp,
    RecordsDeadLettered,
    RecordsLost,
    RegimeTold,
    Resumed,
    SegmentStarted,
)

__all__ = ["log_event"]

logger = logging.getLogger("lethe")


def log_event(event: Event) -> None:
    """Write the line that an event deserves, if any."""
    match event:
        case LearningBegan():
            rest = event.seconds - event.imports_seconds
            logger.info(
                "learning %.1f s after the start: %.1f s of imports and %.1f s",
                event.seconds,
                event.imports_seconds,
                rest,
            )
        case SegmentStarted(resumed=False):
            logger.info("segment %d, %s, starts after %d samples", event.visit, event.name, event.samples)
        case BoundaryDetected():
            logger.info("boundary detected after %d samples, by the %s", event.samples, event.signal)
        case RegimeTold(returned=True, resumed=False):
            logger.info("after %d samples: regime %d has come back", event.samples, event.regime)
        case RegimeTold(resumed=False):
            logger.info("after %d samples: regime %d, a new one", event.samples, event.regime)
        case Evaluated():
            accuracies = ", ".join(f"{probe} {accuracy:.4f}" for probe, accuracy in event.accuracy.items())
            where = "end of segment" if event.ends_segment else "subset" if not event.full else "full"
            logger.info("after %d samples (%s): %s", event.samples, where, accuracies)
        case Measured() if event.scores.bwt is not None:
            logger.info("after %d samples: backward transfer %+.4f", event.samples, event.scores.bwt)
        case RecordsDeadLettered():
            logger.warning("%d malformed records dead-lettered: %s", event.count, event.reason)
        case RecordsLost():
            logger.error("%d records lost: the broker never served their offsets", event.count)
        case PartitionsAdded():
            logger.warning(
                "the topic has more partitions; from here on they are read, too, from their beginning: %s",
                ", ".join(map(str, event.partitions)),
            )
        case BrokerSeen(up=True):
            logger.info("the broker answers%s", f"; {event.detail}" if event.detail else "")
        case BrokerSeen(up=False):
            logger.warning("waiting for the broker: %s", event.detail)
        case Resumed():
            logger.info("going on from a checkpoint: %d records, %d learned", event.received, event.learned)
        case CheckpointFailed():
            logger.error("checkpoint not written, learning goes on: %s", event.detail)
        case PrivacySpent(spent=True):
            logger.warning(
                "learning ends: of the budget of ε = %g at δ = %g, %g is spent",
                event.budget,
                event.delta,
                event.epsilon,
            )
        case PolicyViolated():
            logger.error("policy violated, %s: %s", event.rule, event.detail)
        case PurgeHeldUp() if event.waits_for:
            logger.warning("purging the broker waits for %s", event.waits_for)
        case PurgeHeldUp():
            logger.info("purging the broker goes on")
        case CheckpointUnreadable():
            logger.error("checkpoint passed over for an older one: %s", event.detail)
        case _:
            return
