"""Work in pieces, on several threads."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lethe.learners.parallel import equal_length, share, use_one_thread


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    try:
        yield request.param
    finally:
        torch.set_num_threads(before)


def test_every_piece_is_done_once_and_each_on_one_thread(threads: int) -> None:
    done: list[tuple[int, int]] = []
    share(lambda piece: done.append((piece, torch.get_num_threads())), range(50))
    assert sorted(done) == [(piece, 1) for piece in range(50)]
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("rows", [1, 2, 63, 64, 65, 150, 512, 1000])
def test_all_threads_get_as_many_rows_but_for_a_few(rows: int, threads: int) -> None:
    pieces = [len(piece) for piece in torch.split(torch.zeros(rows), equal_length(rows, 64))]
    most = max(pieces)
    assert most <= 64
    rounds = -(-len(pieces) // threads)
    assert rounds * most - rows / threads < rounds + 1  # rows that the busiest thread has beyond its share


def test_an_inference_tensor_can_be_written_to(threads: int) -> None:
    with torch.inference_mode():
        x = torch.zeros(2 * threads)
        share(lambda place: x[place].fill_(place), range(2 * threads))
        assert x.tolist() == list(range(2 * threads))


def test_an_exception_of_a_piece_is_raised(threads: int) -> None:
    def fail(piece: int) -> None:
        if piece == 3:
            raise ArithmeticError(f"piece {piece}, {threads} threads")

    with pytest.raises(ArithmeticError, match="piece 3"):
        share(fail, range(6))


def test_pieces_of_a_busy_thread_are_done_by_the_others() -> None:
    before, others = torch.get_num_threads(), threading.Semaphore(0)
    torch.set_num_threads(2)

    def do(piece: int) -> None:
        if piece:
            others.release()
        else:  # busy until nine pieces are done
            assert all(others.acquire(timeout=10) for _ in range(9))

    try:
        share(do, range(10))
    finally:
        torch.set_num_threads(before)


def test_a_thread_that_uses_one_keeps_to_it_when_another_sets_more() -> None:
    before = torch.get_num_threads()
    with ThreadPoolExecutor(1, initializer=use_one_thread) as thread:
        thread.submit(int).result(10)
        torch.set_num_threads(3)
        try:
            assert thread.submit(torch.get_num_threads).result(10) == 1
        finally:
            torch.set_num_threads(before)
