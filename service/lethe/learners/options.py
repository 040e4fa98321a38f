"""The base model of a learner's options, validated from plain values."""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from lethe.errors import InvalidSetting

__all__ = ["Options"]


class Options(BaseModel):
    """The options of a learner: each is a field with a default and a docstring that states its effect.

    Options are frozen, numbers must be finite, and unknown options are an error. A learner declares its own
    model as ``Options`` and reads it in its constructor::

        class StyxOptions(Options):
            depth: float = Field(default=1.0, gt=0)
            \"\"\"Depth of the river, in metres.\"\"\"

        class Styx(Learner):
            Options: ClassVar[type[StyxOptions]] = StyxOptions

            def __init__(self, context: LearnerContext) -> None:
                options = StyxOptions.of(context.options)
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, validate_default=True
    )

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Self:
        """Return the options ``given``, with defaults for the others.

        Raises InvalidSetting, naming ``learner.options.NAME``, for each that is unknown or invalid.
        """
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            raise InvalidSetting("; ".join(cls._problem(e) for e in error.errors())) from error

    @classmethod
    def _problem(cls, error: ErrorDetails) -> str:
        name = ".".join(map(str, ("learner.options", *error["loc"])))
        if error["type"] == "extra_forbidden":
            there = (
                f"there are {', '.join(cls.model_fields)}"
                if cls.model_fields
                else "this learner has no options"
            )
            return f"{name}: no such option, {there}"
        return f"{name}: {error['msg'].removeprefix('Value error, ')}"
