"""Records and probes: what is encoded is what the data set holds, seen as the scenario says."""

import resource
from pathlib import Path

import numpy as np
import pytest

from lethe.errors import InvalidSetting, MalformedRecord
from lethe.probeset import load_folder
from lethe.wire import PNG, RAW, Layout, Reason, decode
from lethe_producers.datasets import default_root, load
from lethe_producers.malformed import kinds_of, malformed
from lethe_producers.order import Order
from lethe_producers.probes import probes_of, write_probes
from lethe_producers.records import Records
from lethe_producers.scenario import load_scenario
from lethe_producers.transforms import Transform, transformed
from tests.support.samples import picture
from tests.support.scenarios import ABRUPT

LAYOUT = Layout()
needs_datasets = pytest.mark.needs("datasets")


@pytest.mark.parametrize("reason", kinds_of(Layout()))
def test_a_malformed_record_is_refused_for_the_reason_it_was_made_for(reason: Reason) -> None:
    value, headers = malformed(picture(), reason)
    with pytest.raises(MalformedRecord) as caught:
        decode(value, headers, LAYOUT)
    assert caught.value.reason == reason


def test_a_turn_by_ninety_degrees_is_exact_and_counter_clockwise() -> None:
    x_NCHW = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), dtype=np.uint8)
    turned = transformed(x_NCHW, [Transform(rotate=90)])
    np.testing.assert_array_equal(turned, np.rot90(x_NCHW, axes=(2, 3)))


def test_a_permutation_moves_every_pixel_the_same_way_in_every_image() -> None:
    places = np.arange(784, dtype=np.int64).reshape(1, 1, 28, 28)
    x_NCHW = np.concatenate([places % 256, places // 256]).astype(np.uint8)
    low, high = transformed(x_NCHW, [Transform(permute=1)]).astype(np.int64)
    moved = (low + 256 * high).ravel()
    assert sorted(moved) == list(range(784))
    assert list(moved) != list(range(784))
    other = transformed(x_NCHW, [Transform(permute=2)])
    assert not np.array_equal(other[0], low)


def test_without_a_transform_the_images_are_left_alone() -> None:
    x_NCHW = picture().pixels[np.newaxis]
    assert transformed(x_NCHW, []) is x_NCHW


@needs_datasets
@pytest.mark.parametrize("content_type", [RAW, PNG])
def test_a_record_decodes_to_its_row_under_the_schedules_segment(content_type: str) -> None:
    order = Order(load_scenario("gradual"), 2, 50)
    records = Records(order, default_root(), content_type)
    data = [load("mnist", "train", default_root()), load("fashion-mnist", "train", default_root())]
    assert len(records) == 100
    for index in range(100):
        record, place = records.at(index), order.at(index)
        sample = decode(record.value, record.headers, LAYOUT)
        x_NCHW, y_N = data[place.source]
        np.testing.assert_array_equal(sample.pixels, x_NCHW[place.row])
        assert sample.label == y_N[place.row]
        assert sample.segment == ("mnist" if index < 50 else "fashion-mnist")
        assert record.key == b"gradual@50/2/%d" % index


@needs_datasets
def test_a_noisy_label_is_another_class_and_the_pixels_stay() -> None:
    order = Order(load_scenario("poisoned"), 0, 400)
    records = Records(order, default_root())
    x_NCHW, y_N = load("mnist", "train", default_root())
    noisy = [index for index in range(400) if order.at(index).label_shift and not order.at(index).fault]
    assert len(noisy) > 10
    for index in noisy:
        sample, row = decode(records.at(index).value, records.at(index).headers, LAYOUT), order.at(index).row
        assert sample.label != y_N[row]
        np.testing.assert_array_equal(sample.pixels, x_NCHW[row])


@needs_datasets
def test_a_segment_of_two_classes_holds_only_these_under_their_own_labels() -> None:
    records = Records(Order(load_scenario("split-mnist"), 0, 40), default_root())
    for index in range(200):
        sample = decode(records.at(index).value, records.at(index).headers, LAYOUT)
        first = index // 40 * 2
        assert sample.label in {first, first + 1}
        assert sample.segment == f"mnist-{first}-{first + 1}"


@needs_datasets
def test_probes_come_from_the_test_split_in_the_order_of_first_visits(tmp_path: Path) -> None:
    write_probes(load_scenario("recurring"), default_root(), tmp_path)
    probes = load_folder(tmp_path)
    assert [probe.name for probe in probes] == ["mnist", "fashion-mnist"]
    x_NCHW, y_N = load("fashion-mnist", "test", default_root())
    np.testing.assert_array_equal(probes[1].x_NCHW, x_NCHW)
    np.testing.assert_array_equal(probes[1].y_N, y_N)
    assert "public data set" in probes[1].consent


@needs_datasets
def test_probes_that_do_not_all_fit_on_the_disk_leave_nothing(tmp_path: Path) -> None:
    out = tmp_path / "probes"
    sizes = [path.stat().st_size for path in write_probes(ABRUPT, default_root(), tmp_path / "all")]
    assert sizes[0] < sizes[1]
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (sizes[0], most))  # no file may be larger than the first
    try:
        with pytest.raises(InvalidSetting, match=f"{out} cannot be written to"):
            write_probes(ABRUPT, default_root(), out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert list(out.iterdir()) == []


@needs_datasets
def test_a_probe_sees_its_subject_as_the_stream_shows_it() -> None:
    x_NCHW, y_N = load("mnist", "test", default_root())
    turned = probes_of(load_scenario("rotated"), default_root())[2]
    np.testing.assert_array_equal(turned.x_NCHW, np.rot90(x_NCHW, axes=(2, 3)))
    assert turned.source == "mnist, test split, rotate 90.0"
    split = probes_of(load_scenario("split-mnist"), default_root())[4]
    assert set(split.y_N) == {8, 9}
    assert len(split.y_N) == np.isin(y_N, [8, 9]).sum()
    assert split.source == "mnist, test split, classes 8, 9"


@needs_datasets
def test_the_validation_split_is_the_end_of_the_training_split() -> None:
    x_NCHW, y_N = load("fashion-mnist", "train", default_root())
    held = probes_of(load_scenario("fashion-to-mnist"), default_root(), "validation")[0]
    held_NCHW, held_N = held.x_NCHW, held.y_N
    np.testing.assert_array_equal(held_NCHW, x_NCHW[50_000:])
    np.testing.assert_array_equal(held_N, y_N[50_000:])


@needs_datasets
@pytest.mark.parametrize(
    ("name", "rows"), [("split-mnist", 10_000), ("stationary", 20_000), ("gradual", 20_000)]
)
def test_the_images_held_out_of_a_stream_are_its_validation_probes(name: str, rows: int) -> None:
    scenario = load_scenario(name)
    order = Order(scenario, seed=1)
    records = Records(order, default_root())
    held = [place for place in range(len(order)) if records.held_out(place)]
    probes = probes_of(scenario, default_root(), "validation")
    assert len({(p.source, p.row) for p in map(order.at, held)}) == len(held) == rows
    images = {probe.name: {x.tobytes() for x in probe.x_NCHW} for probe in probes}
    for place in held[::97]:
        sample = records.at(place)
        pixels = decode(sample.value, sample.headers, LAYOUT).pixels
        subject = scenario.segments[order.at(place).source].subject
        assert pixels.tobytes() in images[subject]
    assert all("validation split" in probe.source for probe in probes)
