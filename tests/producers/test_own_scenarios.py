"""Scenarios of a user's own data: classes, shapes, transforms, and errors with file, line and key."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
import yaml

from lethe.errors import InvalidScenario, InvalidSetting
from lethe.probeset import class_names, load_folder
from lethe.wire import Layout, Pixels, decode
from lethe_producers.order import EndlessOrder, Order
from lethe_producers.probes import probes_of, write_probes
from lethe_producers.records import Records
from lethe_producers.scenario import SHIPPED, Scenario, load_scenario, scenario_schema
from lethe_producers.transforms import Transform, transformed
from tests.support.pictures import write_pictures

RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)
OWN = """\
name: own
segments:
  - subject: summer
    folder: summer
  - subject: winter
    folder: {path: winter, holdout: 0.5}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a scenario's file and its two folders of pictures."""
    write_pictures(tmp_path / "summer", {"dog": RED, "cat": GREEN}, 10)
    write_pictures(tmp_path / "winter", {"bird": BLUE, "cat": GREEN}, 10)
    (tmp_path / "own.yaml").write_text(OWN)
    return tmp_path


def changed(own: Path, *changes: tuple[str, str]) -> Scenario:
    text = OWN
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    (own / "own.yaml").write_text(text)
    return load_scenario(str(own / "own.yaml"), own)


def test_paths_begin_at_the_scenarios_file_and_names_are_one_class_everywhere(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    scenario = load_scenario(str(own / "own.yaml"), own)
    assert scenario.lengths() == [16, 10]
    assert scenario.layout == Layout(channels=3, height=24, width=32, classes=3)
    assert scenario.stream_classes.names == ("cat", "dog", "bird")
    records = Records(Order(scenario, 0), own)
    colours = {0: 1, 1: 0, 2: 2}  # the channel of each label's colour
    for index in range(len(records)):
        sample = decode(records.at(index).value, records.at(index).headers, scenario.layout)
        assert int(sample.pixels.mean(axis=(1, 2)).argmax()) == colours[sample.label]


def test_labels_are_names_where_these_are_wanted(own: Path) -> None:
    scenario = load_scenario(str(own / "own.yaml"), own)
    numbered, named = (Records(Order(scenario, 0), own, named=named) for named in (False, True))
    for index in range(len(named)):
        record, same = named.at(index), numbered.at(index)
        sample = decode(same.value, same.headers, scenario.layout)
        assert dict(record.headers)["label"].decode() == scenario.stream_classes.names[sample.label]
        assert (record.key, record.value) == (same.key, same.value)


def test_names_of_classes_that_have_none_are_refused() -> None:
    order = Order(load_scenario("mnist-to-fashion"), 0)
    with pytest.raises(InvalidSetting, match="--labels names: the classes of scenario mnist-to-fashion"):
        Records(order, Path("nowhere"), named=True)


def test_the_probe_is_what_the_stream_leaves_out_and_names_its_classes(own: Path) -> None:
    scenario = load_scenario(str(own / "own.yaml"), own)
    write_probes(scenario, own, own / "probes")
    probes = load_folder(own / "probes")
    assert [(probe.name, len(probe.y_N)) for probe in probes] == [("summer", 4), ("winter", 10)]
    assert class_names(probes) == ("cat", "dog", "bird")
    assert set(probes[1].y_N.tolist()) == {0, 2}
    records = Records(Order(scenario, 0), own)
    summer = {image.tobytes() for image in probes[0].x_NCHW}
    own_part = {
        decode(record.value, record.headers, scenario.layout).pixels.tobytes()
        for record in map(records.at, range(16))
    }
    assert summer.isdisjoint(own_part)


def test_names_given_in_the_scenario_fix_the_labels(own: Path) -> None:
    scenario = changed(own, ("name: own", "name: own\nclasses: [ant, bird, cat, dog]"))
    assert scenario.stream_classes.names == ("ant", "bird", "cat", "dog")
    assert scenario.labels_of(scenario.segments[0]) == (2, 3)


def test_a_segment_of_some_classes_names_them(own: Path) -> None:
    scenario = changed(own, ("folder: summer", "folder: summer\n    classes: [dog]"))
    records = Records(Order(scenario, 0), own)
    labels = {decode(r.value, r.headers, scenario.layout).label for r in map(records.at, range(8))}
    assert labels == {1}
    assert set(probes_of(scenario, own)[0].y_N.tolist()) == {1}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("folder: summer", "folder: styx", "line 4: segments.0.folder: .*styx is not a folder"),
        ("folder: summer", "folder: summer\n    npz: x.npz", "segments.0: needs one source .* not both"),
        ("    folder: summer\n", "", "line 3: segments.0: needs one source .* has none"),
        ("holdout: 0.5", "holdout: 1.5", "line 6: segments.1.folder.holdout: Input should be less than 1"),
        ("holdout: 0.5", "sise: 3", "line 6: segments.1.folder.sise: Extra inputs"),
        (
            "folder: summer",
            "folder: {path: summer, size: [9, 9]}",
            "line 6: segments.1.folder: .*3 × 24 × 32",
        ),
        ("folder: summer", "folder: summer\n    classes: [ant]", "line 5: segments.0.classes: ant is not"),
        (
            "folder: summer",
            "folder: summer\n    classes: [0]",
            "line 5: segments.0.classes: 0 is not the name",
        ),
        ("name: own", "name: own\nclasses: [cat, dog]", "line 2: classes: bird is missing"),
        ("folder: {path: winter", "folder: {path: summer", "line 6: segments.1.folder: .*another holdout"),
        (
            "folder: summer",
            "folder: summer\n    transform: {torchvision: Styx}",
            "line 5: segments.0.transform: .* has no transform Styx",
        ),
        (
            "folder: summer",
            "folder: summer\n    transform: {torchvision: GaussianBlur, arguments: {sigma: x}}",
            r"line 5: segments.0.transform: GaussianBlur\(sigma='x'\)",
        ),
        (
            "folder: summer",
            "folder: summer\n    transform: {torchvision: ToDtype, arguments: {scale: true}}",
            "line 5: segments.0.transform: ToDtype",
        ),
        (
            "    folder: {path: winter, holdout: 0.5}",
            "    dataset: mnist",
            "line 5: segments.1: the labels of its source are numbers",
        ),
    ],
)
def test_a_wrong_scenario_is_one_line_with_file_line_and_key(
    own: Path, before: str, after: str, said: str
) -> None:
    with pytest.raises(InvalidScenario, match=said) as caught:
        changed(own, (before, after))
    assert str(caught.value).startswith(f"scenario {own / 'own.yaml'}, line ")
    assert "\n" not in str(caught.value)


# transforms


def test_transforms_of_torchvision_are_applied_in_order_to_stream_and_probe(own: Path) -> None:
    scenario = changed(
        own,
        (
            "folder: summer",
            (
                "folder: summer\n    transform:\n"
                "      - {torchvision: Resize, arguments: {size: [10, 12]}}\n"
                "      - {torchvision: RandomInvert, arguments: {p: 1.0}}\n"
                "      - {rotate: 180}"
            ),
        ),
        ("holdout: 0.5}", "holdout: 0.5, size: [10, 12]}"),
    )
    assert scenario.layout.shape == (3, 10, 12)
    probe = probes_of(scenario, own)[0]
    assert probe.x_NCHW.shape[1:] == (3, 10, 12)
    dogs = probe.x_NCHW[probe.y_N == 1]
    assert dogs[:, 0].mean() < dogs[:, 1].mean() - 100  # red is no more
    assert "RandomInvert(p=1.0), rotate 180.0" in probe.source
    records = Records(Order(scenario, 0), own)
    assert decode(records.at(0).value, records.at(0).headers, scenario.layout).pixels.shape == (3, 10, 12)


def test_a_random_transform_does_the_same_to_a_record_however_it_is_reached() -> None:
    x_NCHW: Pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 16, 16), np.uint8)
    flip = [Transform(torchvision="RandomCrop", arguments={"size": [8, 8]})]
    whole = transformed(x_NCHW, flip, [5, 6, 7, 8])
    for nth, seed in enumerate([5, 6, 7, 8]):
        np.testing.assert_array_equal(transformed(x_NCHW[nth : nth + 1], flip, [seed])[0], whole[nth])
    assert not np.array_equal(whole, transformed(x_NCHW, flip, [1, 2, 3, 4]))


# endless streams


def test_each_lap_has_every_row_once_in_an_order_of_its_own(own: Path) -> None:
    scenario = load_scenario(str(own / "own.yaml"), own)
    order = EndlessOrder(scenario, 0)
    assert (order.total, order.lap_length, order.run) == (None, 26, "own/0+")
    laps = [[order.at(26 * lap + place).row for place in range(16)] for lap in range(3)]
    assert all(sorted(lap) == list(range(16)) for lap in laps)
    assert laps[0] == [Order(scenario, 0).at(place).row for place in range(16)]
    assert laps[0] != laps[1] != laps[2]
    with pytest.raises(IndexError):
        order.at(-1)
    with pytest.raises(TypeError, match="endless"):
        len(Records(order, own))


# the schema


def test_the_schema_accepts_what_is_a_scenario_and_nothing_else(own: Path) -> None:
    valid = jsonschema_rs.validator_for(scenario_schema())
    texts = [path.read_text() for path in SHIPPED.glob("*.yaml")]
    documents: list[Any] = [yaml.safe_load(text) for text in (*texts, OWN)]
    assert all(valid.is_valid(document) for document in documents)
    for before, after in (
        ("folder: summer", "holder: summer"),
        ("holdout: 0.5", "holdout: 2"),
        ("name", "nam"),
    ):
        assert not valid.is_valid(yaml.safe_load(OWN.replace(before, after)))


def test_every_key_of_the_schema_is_described() -> None:
    schema = scenario_schema()
    models = [schema, *schema["$defs"].values()]
    objects = [m for model in models for m in (model, *model.get("anyOf", ())) if "properties" in m]
    assert len(objects) >= 7
    missing = [
        f"{model.get('title')}.{name}"
        for model in objects
        for name, about in model["properties"].items()
        if not about.get("description")
    ]
    assert missing == []
