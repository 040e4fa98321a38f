"""Slots: filled by one process, read and overwritten with zeros by another, named nowhere."""

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from lethe.errors import InvalidSetting
from lethe.ingest.slots import Slots
from lethe.settings import BatchSettings
from lethe.wire import UNLABELLED, Layout, Sample

LAYOUT = Layout(channels=1, height=2, width=3)
SETTINGS = BatchSettings(size=4, slots=3)
CONTEXT = multiprocessing.get_context("spawn")


def sample(value: int, label: int = 7) -> Sample:
    return Sample(np.full(LAYOUT.shape, value, np.uint8), label)


def fill(slots: Slots, slot: int, count: int) -> None:
    for index in range(count):
        slots.put(slot, index, sample(200 + index, index + 1))


def answer(connection: Connection, slots: Slots) -> None:
    """The other process: fill slot 1 on the first message, send its content on the second."""
    connection.recv()
    fill(slots, 1, 4)
    connection.send((slots.resident, slots.x_SBCHW[1].tolist()))
    connection.recv()
    connection.send((slots.resident, int(slots.x_SBCHW.sum()), int(slots.y_SB.sum())))


def test_a_sample_is_copied_into_its_place() -> None:
    slots = Slots(LAYOUT, SETTINGS, CONTEXT)
    slots.put(2, 0, sample(9, 3))
    slots.put(2, 1, sample(8, 5))
    assert slots.x_SBCHW.shape == (3, 4, 1, 2, 3)
    assert slots.x_SBCHW[2, :2].tolist() == [[[[9] * 3] * 2], [[[8] * 3] * 2]]
    assert slots.y_SB[2].tolist() == [3, 5, 0, 0]


def test_vectors_are_kept_as_numbers_and_overwritten_with_zeros() -> None:
    slots = Slots(Layout(features=3), SETTINGS, CONTEXT)
    slots.put(1, 0, Sample(np.array([0.5, -1e30, 3], np.float32), 3))
    assert (slots.x_SBCHW.shape, slots.x_SBCHW.dtype.name) == ((3, 4, 3), "float32")
    assert slots.x_SBCHW[1, 0].tolist() == np.array([0.5, -1e30, 3], np.float32).tolist()
    assert slots.discard(1) == 1
    assert not slots.x_SBCHW.view(np.uint8).any()


def test_a_discarded_slot_is_zeros_and_the_others_are_untouched() -> None:
    slots = Slots(LAYOUT, SETTINGS, CONTEXT)
    fill(slots, 0, 4)
    fill(slots, 1, 2)
    assert slots.resident == 6
    assert slots.discard(0) == 4
    assert not slots.x_SBCHW[0].any()
    assert not slots.y_SB[0].any()
    assert slots.x_SBCHW[1, :2].all()
    assert slots.resident == 2


def test_a_half_filled_slot_is_discarded_too() -> None:
    slots = Slots(LAYOUT, SETTINGS, CONTEXT)
    fill(slots, 0, 3)
    fill(slots, 2, 4)
    slots.discard_all()
    assert not slots.x_SBCHW.any()
    assert not slots.y_SB.any()
    assert slots.resident == 0


def test_a_slot_that_is_refilled_after_a_discard_counts_only_new_samples() -> None:
    slots = Slots(LAYOUT, SETTINGS, CONTEXT)
    fill(slots, 0, 4)
    slots.discard(0)
    fill(slots, 0, 1)
    assert slots.resident == 1
    assert not slots.x_SBCHW[0, 1:].any()


def test_what_one_process_fills_the_other_sees_and_its_discard_is_seen_there() -> None:
    slots = Slots(LAYOUT, SETTINGS, CONTEXT)
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=answer, args=(theirs, slots))
    process.start()
    try:
        ours.send("fill")
        assert ours.poll(30)
        resident, pixels = ours.recv()
        assert resident == slots.resident == 4
        assert slots.x_SBCHW[1].tolist() == pixels
        assert slots.y_SB[1].tolist() == [1, 2, 3, 4]
        slots.discard(1)
        ours.send("look")
        assert ours.poll(30)
        assert ours.recv() == (0, 0, 0)
    finally:
        process.join(30)
    assert process.exitcode == 0


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc of Linux")
def test_the_memory_has_no_name_in_the_file_system() -> None:
    slots = Slots(LAYOUT, BatchSettings(size=64, slots=64), CONTEXT)
    fill(slots, 0, 4)
    address = slots.x_SBCHW.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, _, end = line.split()[0].partition("-")
        if int(start, 16) <= address < int(end, 16):
            path = line.split(maxsplit=5)[5]
            assert path.startswith("/dev/shm/")  # in memory, on no disk
            assert path.endswith("(deleted)")
            break
    else:
        pytest.fail("the slots are in no mapping of this process")


def test_slots_are_shared_only_with_a_process_that_is_being_spawned() -> None:
    with pytest.raises(RuntimeError, match="inheritance"):
        multiprocessing.reduction.ForkingPickler.dumps(Slots(LAYOUT, SETTINGS, CONTEXT))


def test_pixels_that_do_not_fit_into_memory_are_not_put_on_a_disk() -> None:
    large = Layout(channels=3, height=4096, width=4096)
    with pytest.raises(InvalidSetting, match=r"batch\.slots times batch\.size: .* bytes of shared memory"):
        Slots(large, BatchSettings(size=65536, slots=1024), CONTEXT)


def test_samples_without_a_label_fill_a_slot_from_its_end() -> None:
    slots = Slots(LAYOUT, SETTINGS, CONTEXT)
    fill(slots, 1, 2)
    for index in range(2):
        slots.put_unlabelled(1, index, sample(50 + index, UNLABELLED))
    assert slots.x_SBCHW[1, :, 0, 0, 0].tolist() == [200, 201, 51, 50]
    assert slots.y_SB[1].tolist() == [1, 2, UNLABELLED, UNLABELLED]
    assert slots.resident == 4
    assert slots.discard(1) == 2
    assert not slots.x_SBCHW.any()
    assert not slots.y_SB.any()
    assert slots.resident == 0
    slots.put_unlabelled(0, 0, sample(9, UNLABELLED))
    slots.discard_all()
    assert not slots.x_SBCHW.any()
    assert slots.resident == 0
