"""The order of a comparison's sides: every side in each turn, and after different ones."""

from itertools import islice, pairwise

from lethe.experiments.bench.random_orders import random_orders

SIDES = ("bare", "finetune", "ridge")


def test_each_turn_has_every_side_and_a_side_follows_every_other() -> None:
    turns = list(islice(random_orders(SIDES, seed=0), 40))
    assert all(sorted(turn) == sorted(SIDES) for turn in turns)
    followed = {pair for turn in turns for pair in pairwise(turn)}
    assert followed == {(one, other) for one in SIDES for other in SIDES if one != other}


def test_the_orders_are_reproducible() -> None:
    first, again, another = (list(islice(random_orders(SIDES, seed), 40)) for seed in (0, 0, 1))
    assert first == again != another
