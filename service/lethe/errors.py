"""The errors that Lethe raises, and the consequence of each.

::

    LetheError
    ├── MalformedRecord        the record is dead-lettered and counted; learning goes on
    ├── BrokerUnavailable      retried with backoff; the service is not ready meanwhile
    │   └── TopicReplaced      retried; the next connection decides whether learning can go on
    ├── DeadLetterUnavailable  stops the service before the record's offset is committed
    ├── PredictionsRejected    stops the service: the predictions topic rejects a prediction
    ├── PositionLost           stops the service: records that it had not learned are gone
    ├── DivergedLoss           stops the service; non-finite weights are not saved, evaluated or served
    ├── BudgetSpent            ends learning: another batch would exceed the privacy budget
    ├── NeverLearned           stops the command: a sample to forget cannot have been learned
    ├── PolicyBroken           stops the service: its policy demands it after a violation
    ├── StateNotSaved          ends the service with an error: the last checkpoint could not be written
    ├── ReaderDied             stops the service: the process that reads the broker died
    ├── RankLost               ends this rank, with a status that has all ranks started again
    ├── RanksDiffer            stops all ranks: what should be the same in each of them is not
    ├── TargetUnavailable      a watched model did not answer: its skills are unknown, it is asked again
    │   └── UnexpectedAnswer   the same: it answered otherwise than its protocol says
    ├── InvalidSetting         stops the command; names the setting and the accepted values
    ├── InvalidScenario        stops the command; names the file and the key
    ├── InvalidFile            stops the command: a file is missing, corrupt or of another version
    ├── MissingExtra           stops the command: an optional package is not installed
    └── DataUnavailable        stops the command: a data set cannot be downloaded
"""

__all__ = [
    "BrokerUnavailable",
    "BudgetSpent",
    "DataUnavailable",
    "DeadLetterUnavailable",
    "DivergedLoss",
    "InvalidFile",
    "InvalidScenario",
    "InvalidSetting",
    "LetheError",
    "MalformedRecord",
    "MissingExtra",
    "NeverLearned",
    "PolicyBroken",
    "PositionLost",
    "PredictionsRejected",
    "RankLost",
    "RanksDiffer",
    "ReaderDied",
    "StateNotSaved",
    "TargetUnavailable",
    "TopicReplaced",
    "UnexpectedAnswer",
]


class LetheError(Exception):
    """Base class of all errors that Lethe raises."""

    multiline = False
    """Whether the message has several lines. In any other message a line feed is escaped: it is untrusted."""
    status = 2
    """The exit status of a command that it ends."""


class MalformedRecord(LetheError):
    """A record that is not a valid sample.

    ``reason`` is a `lethe.wire.Reason`, the label of a metric. ``detail`` is a message for people; it quotes
    neither pixels nor headers.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class BrokerUnavailable(LetheError):
    """The broker cannot be reached; the same call may succeed later."""


class TopicReplaced(BrokerUnavailable):
    """The topic was deleted and recreated since it was opened, so earlier offsets are void."""


class DeadLetterUnavailable(LetheError):
    """A malformed record could not be written to the dead-letter topic."""


class PredictionsRejected(LetheError):
    """The topic of predictions rejects one for good; no checkpoint is past its record."""


class PositionLost(LetheError):
    """The position to read from is no longer, or not yet, in the topic."""


class DivergedLoss(LetheError):
    """A loss is not finite, raised before the optimizer's step, or the weights after a step are not."""


class BudgetSpent(LetheError):
    """Another batch would exceed a learner's privacy budget; raised before anything changes."""


class NeverLearned(LetheError):
    """Samples to forget cannot all have been learned; raised before anything changes."""


class PolicyBroken(LetheError):
    """The policy was violated and requires the service to stop."""


class StateNotSaved(LetheError):
    """A checkpoint that is required to publish results, or to end the run, could not be written.

    A restart resumes from the previous checkpoint.
    """


class ReaderDied(LetheError):
    """The process that reads the broker ended unexpectedly."""


class RankLost(LetheError):
    """Another rank has ended before this one, or cannot be reached."""

    status = 75  # EX_TEMPFAIL of sysexits.h


class RanksDiffer(LetheError):
    """Two ranks that took the same steps hold different weights; nothing of them is saved."""


class TargetUnavailable(LetheError):
    """A watched model did not answer: nothing is known about its skills; the same call may succeed later."""


class UnexpectedAnswer(TargetUnavailable):
    """A watched model answered otherwise than its protocol says; the message shows request and response."""


class InvalidSetting(LetheError):
    """A setting has an invalid value."""


class InvalidScenario(LetheError):
    """A scenario file is invalid."""


class InvalidFile(LetheError):
    """A file is missing, corrupt, or not of the expected kind or version."""


class MissingExtra(LetheError, ImportError):
    """Something that was asked for needs a package that is installed with an extra of Lethe."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra {extra}: pip install 'lethe[{extra}]'")


class DataUnavailable(LetheError):
    """A data set is neither on this machine nor available from any of its sources."""

    multiline = True
