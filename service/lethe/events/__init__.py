"""Events of a run: frozen values that the loop emits, without any pixel.

Metrics, logs, the run state and the report are subscribers. Times are in seconds, accuracies are ratios from
0 to 1.
"""

from collections.abc import Callable

from lethe.events.checkpoints import (
    CheckpointFailed,
    CheckpointUnreadable,
    CheckpointWritten,
    LearningStarted,
    Resumed,
)
from lethe.events.counts import BALANCE, COUNTS, CountInfo, SampleCounts
from lethe.events.learning import (
    MIN_SEGMENT,
    BoundariesScored,
    BoundaryDetected,
    ClassesNamed,
    Evaluated,
    LossSurged,
    Reading,
    RegimeAssigned,
    ScoresUpdated,
    SegmentsCapped,
    SegmentsMixed,
    SegmentStarted,
    SegmentWithdrawn,
    SegmentWithoutProbe,
    WeightsMoved,
)
from lethe.events.privacy import (
    LedgerHead,
    PolicyViolated,
    PrivacySpent,
    PurgeBlocked,
    PurgeLag,
    SamplesRetained,
    ViolationPersists,
    WitnessStatus,
)
from lethe.events.ranks import RankRound, RoundLearned
from lethe.events.records import (
    BatchLearned,
    BatchReturned,
    BrokerStatus,
    CommitStatus,
    LabelsJoined,
    Lag,
    LoopTurned,
    PartitionsAdded,
    PredictionsStatus,
    PredictionsWritten,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    RecordsUnlabelled,
    TopicRecreated,
)
from lethe.events.scores import SCORES, ScoreInfo, Scores
from lethe.events.watching import DropFound, RequestsMade, TargetStatus

__all__ = [
    "BALANCE",
    "COUNTS",
    "MIN_SEGMENT",
    "SCORES",
    "BatchLearned",
    "BatchReturned",
    "BoundariesScored",
    "BoundaryDetected",
    "BrokerStatus",
    "CheckpointFailed",
    "CheckpointUnreadable",
    "CheckpointWritten",
    "ClassesNamed",
    "CommitStatus",
    "CountInfo",
    "DropFound",
    "Emit",
    "Evaluated",
    "Event",
    "LabelsJoined",
    "Lag",
    "LearningStarted",
    "LedgerHead",
    "LoopTurned",
    "LossSurged",
    "PartitionsAdded",
    "PolicyViolated",
    "PredictionsStatus",
    "PredictionsWritten",
    "PrivacySpent",
    "PurgeBlocked",
    "PurgeLag",
    "RankRound",
    "Reading",
    "RecordsDeadLettered",
    "RecordsLost",
    "RecordsReceived",
    "RecordsUnlabelled",
    "RegimeAssigned",
    "RequestsMade",
    "Resumed",
    "RoundLearned",
    "SampleCounts",
    "SamplesRetained",
    "ScoreInfo",
    "Scores",
    "ScoresUpdated",
    "SegmentStarted",
    "SegmentWithdrawn",
    "SegmentWithoutProbe",
    "SegmentsCapped",
    "SegmentsMixed",
    "TargetStatus",
    "TopicRecreated",
    "ViolationPersists",
    "WeightsMoved",
    "WitnessStatus",
]

Event = (
    RecordsReceived
    | RecordsDeadLettered
    | LabelsJoined
    | RecordsLost
    | RecordsUnlabelled
    | PartitionsAdded
    | PredictionsStatus
    | PredictionsWritten
    | TopicRecreated
    | BatchReturned
    | BatchLearned
    | LearningStarted
    | RoundLearned
    | SegmentStarted
    | SegmentWithdrawn
    | SegmentWithoutProbe
    | SegmentsCapped
    | SegmentsMixed
    | BoundaryDetected
    | ClassesNamed
    | WeightsMoved
    | LossSurged
    | RegimeAssigned
    | BoundariesScored
    | Evaluated
    | ScoresUpdated
    | BrokerStatus
    | CommitStatus
    | Lag
    | LoopTurned
    | ViolationPersists
    | Resumed
    | CheckpointWritten
    | CheckpointFailed
    | CheckpointUnreadable
    | LedgerHead
    | PolicyViolated
    | PrivacySpent
    | PurgeLag
    | PurgeBlocked
    | SamplesRetained
    | WitnessStatus
    | TargetStatus
    | RequestsMade
    | DropFound
)

Emit = Callable[[Event], None]
