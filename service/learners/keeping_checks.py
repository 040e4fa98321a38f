"""Of the checks of the Learner contract, those of what is kept, and how much."""

from service.learners.base import Retention
from service.learners.check_parts import CONTEXT, SIZES, Factory, require, through_files, trained

__all__ = ["check_state_does_not_grow", "check_tells_how_many_samples_it_keeps"]


def check_tells_how_many_samples_it_keeps(factory: Factory) -> None:
    """None before the first, never more than it has seen, and none ever unless that is what it retains."""
    learner, loaded = trained(factory), factory(CONTEXT)
    require(loaded.kept == 0, "a learner that has seen nothing keeps something")
    samples = learner.retains is Retention.SAMPLES
    require(int(samples) <= learner.kept <= sum(SIZES) * samples, "what is kept is not what is retained")
    loaded.load_state(through_files(learner.state()))
    require(loaded.kept == learner.kept, "a loaded learner keeps another number of samples")


def check_state_does_not_grow(factory: Factory) -> None:
    """What is kept has the same size after 40 samples and after 400."""
    few, many = trained(factory, sizes=[40]).state(), trained(factory, sizes=[40] * 10).state()
    shapes = {name: tensor.shape for name, tensor in few.tensors.items()}
    grown = {name: tensor.shape for name, tensor in many.tensors.items()}
    require(shapes == grown, "the state grew with the samples")
