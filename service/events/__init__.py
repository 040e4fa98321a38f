"""What happened, as frozen dataclasses of plain numbers: the only thing that leaves the loop.

Metrics, the live state and the report subscribe to these; none of them can reach a pixel.
Times are seconds, accuracies are ratios from 0 to 1.
"""

from collections.abc import Callable

from service.events.knowledge import (
    SCORES,
    BoundariesJudged,
    BoundaryDetected,
    Evaluated,
    Measured,
    Reading,
    RegimeTold,
    Scores,
    SegmentStarted,
)
from service.events.privacy import (
    LedgerStands,
    PolicyViolated,
    PrivacySpent,
    PurgeHeldUp,
    PurgeLag,
    SamplesKept,
    ViolationLasts,
)
from service.events.records import (
    BatchLearned,
    BrokerSeen,
    Lag,
    PartitionsAdded,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    Turned,
)
from service.events.state import (
    CheckpointFailed,
    CheckpointUnreadable,
    CheckpointWritten,
    LearningBegan,
    Resumed,
)

__all__ = [
    "SCORES",
    "BatchLearned",
    "BoundariesJudged",
    "BoundaryDetected",
    "BrokerSeen",
    "CheckpointFailed",
    "CheckpointUnreadable",
    "CheckpointWritten",
    "Emit",
    "Evaluated",
    "Event",
    "Lag",
    "LearningBegan",
    "LedgerStands",
    "Measured",
    "PartitionsAdded",
    "PolicyViolated",
    "PrivacySpent",
    "PurgeHeldUp",
    "PurgeLag",
    "Reading",
    "RecordsDeadLettered",
    "RecordsLost",
    "RecordsReceived",
    "RegimeTold",
    "Resumed",
    "SamplesKept",
    "Scores",
    "SegmentStarted",
    "Turned",
    "ViolationLasts",
]

Event = (
    RecordsReceived
    | RecordsDeadLettered
    | RecordsLost
    | PartitionsAdded
    | BatchLearned
    | LearningBegan
    | SegmentStarted
    | BoundaryDetected
    | RegimeTold
    | BoundariesJudged
    | Evaluated
    | Measured
    | BrokerSeen
    | Lag
    | Turned
    | ViolationLasts
    | Resumed
    | CheckpointWritten
    | CheckpointFailed
    | CheckpointUnreadable
    | LedgerStands
    | PolicyViolated
    | PrivacySpent
    | PurgeLag
    | PurgeHeldUp
    | SamplesKept
)

Emit = Callable[[Event], None]
