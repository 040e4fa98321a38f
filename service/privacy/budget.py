"""A policy's budget of ε and δ, and the learner that has to keep to it."""

from service.errors import InvalidSetting
from service.learners import find
from service.learners.private import PrivateLearner
from service.privacy.policy import Policy
from service.settings import Settings

__all__ = ["within_budget"]


def within_budget(policy: Policy, settings: Settings) -> Settings:
    """Return ``settings`` with the policy's ε and δ, and secret noise, where the user chose none.

    Raises InvalidSetting, naming the policy and what is beyond it, for a learner that is not
    differentially private, for a larger budget, for noise that can be drawn again, and for batches
    that cannot.
    """
    budget = policy.budget
    if budget is None:
        return settings
    kind = find(settings.learner.name)
    policy.check_learner(kind)
    if not issubclass(kind, PrivateLearner):
        raise TypeError(f"policy {policy.name} let {kind.name} pass")
    given = {"epsilon": budget.epsilon, "delta": budget.delta, "noise": "secret", **settings.learner.options}
    chosen = kind.Options.of(given)
    for name, most in (("epsilon", budget.epsilon), ("delta", budget.delta)):
        if getattr(chosen, name) > most:
            raise InvalidSetting(
                f"learner.options.{name} is {getattr(chosen, name):g}, policy {policy.name} allows {most:g}"
            )
    if chosen.noise != "secret":
        raise InvalidSetting(
            f"learner.options.noise is {chosen.noise}, policy {policy.name} asks for secret: "
            "whoever knows the seed could take seeded noise off"
        )
    if settings.batch.linger:
        raise InvalidSetting(
            f"batch.linger: policy {policy.name} has a budget, and batches that depend on the time would not "
            "be the same after a restart, but their noise would"
        )
    learner = settings.learner.model_copy(update={"options": given})
    return settings.model_copy(update={"learner": learner})
