"""Probe files: a round trip, and the rejection of modified and invalid files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from lethe.errors import InvalidFile, InvalidSetting
from lethe.evaluation.evaluator import Evaluator
from lethe.learners.checks.helpers import CONTEXT, batch
from lethe.learners.registry import LEARNERS, create
from lethe.probeset import ProbeSet, load_folder, load_probe, save_probe
from lethe.runtime.factories import load_probes
from lethe.settings import EvaluationSettings
from lethe.wire import Layout


def probe(name: str = "mnist", samples: int = 4, seed: int = 0) -> ProbeSet:
    random = np.random.default_rng(seed)
    x_NCHW = random.integers(0, 256, (samples, 1, 5, 6), np.uint8)
    return ProbeSet(name, x_NCHW, random.integers(0, 10, samples), "drawn at random", "public data")


def header_end(path: Path) -> int:
    """The position of a safetensors file's tensors."""
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


def rewrite(path: Path, **changes: object) -> None:
    """Rewrite ``path`` with other metadata around the same tensors."""
    saved = probe()
    about = {"schema": "lethe-probe/1", "name": saved.name, "source": saved.source, "consent": saved.consent}
    metadata = {"lethe": json.dumps(about | {"sha256": saved.sha256} | changes)}
    save_file({"x": saved.x_NCHW, "y": saved.y_N}, path, metadata)


def test_a_probe_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    saved = probe()
    path = save_probe(saved, tmp_path / "new" / "folder", 3)
    assert path == tmp_path / "new" / "folder" / "03-mnist.safetensors"
    back = load_probe(path)
    np.testing.assert_array_equal(back.x_NCHW, saved.x_NCHW)
    np.testing.assert_array_equal(back.y_N, saved.y_N)
    assert (back.x_NCHW.dtype, back.y_N.dtype) == (np.dtype("uint8"), np.dtype("int64"))
    assert (back.name, back.source, back.consent) == ("mnist", "drawn at random", "public data")
    assert back.sha256 == saved.sha256


def test_a_view_in_another_memory_order_is_written_as_its_values(tmp_path: Path) -> None:
    plain = probe()
    turned = ProbeSet(
        plain.name, np.asfortranarray(plain.x_NCHW), plain.y_N[::-1][::-1], plain.source, plain.consent
    )
    assert turned.sha256 == plain.sha256
    back = load_probe(save_probe(turned, tmp_path, 0))
    np.testing.assert_array_equal(back.x_NCHW, plain.x_NCHW)
    np.testing.assert_array_equal(back.y_N, plain.y_N)


def test_names_of_classes_are_kept_and_must_fit(tmp_path: Path) -> None:
    named = replace(probe(), classes=tuple(f"class {label}" for label in range(10)))
    assert load_probe(save_probe(named, tmp_path, 0)).classes == named.classes
    for classes in (("one",), ("a",) * 10, (*named.classes[:9], "a\nb"), (*named.classes[:9], "")):
        with pytest.raises(InvalidFile, match="probe mnist: "):
            save_probe(replace(named, classes=classes), tmp_path, 0)
    save_probe(replace(named, name="other", classes=named.classes[::-1]), tmp_path, 1)
    with pytest.raises(InvalidFile, match="probe other has other names of classes than mnist"):
        load_folder(tmp_path)


def test_every_changed_byte_of_the_tensors_is_found(tmp_path: Path) -> None:
    path = save_probe(probe(), tmp_path, 0)
    whole = path.read_bytes()
    for place in range(header_end(path), len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(InvalidFile, match=r"00-mnist\.safetensors was modified or damaged"):
            load_probe(path)


@settings(deadline=None)
@given(length=st.integers(0, 10_000))
def test_a_truncated_file_is_named(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = save_probe(probe(), tmp_path_factory.mktemp("probes"), 0)
    whole = path.read_bytes()
    path.write_bytes(whole[: length % len(whole)])
    with pytest.raises(InvalidFile, match=r"00-mnist\.safetensors"):
        load_probe(path)


def test_the_digest_tells_pixels_of_one_shape_from_those_of_another() -> None:
    saved = probe()
    flat = ProbeSet(saved.name, saved.x_NCHW.reshape(4, 1, 6, 5), saved.y_N, saved.source, saved.consent)
    assert flat.sha256 != saved.sha256


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"absent\.safetensors is not a readable probe file"):
        load_probe(tmp_path / "absent.safetensors")


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "00-mnist.safetensors").mkdir()
    with pytest.raises(InvalidFile, match=r"00-mnist\.safetensors"):
        load_folder(tmp_path)


def test_a_safetensors_file_of_another_program_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(InvalidFile, match=r"weights\.safetensors is not a readable probe file"):
        load_probe(path)


def test_metadata_that_is_no_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.safetensors"
    save_file({"x": np.zeros(3), "y": np.zeros(3)}, path, {"lethe": "[1, 2]"})
    with pytest.raises(InvalidFile, match=r"list\.safetensors is not a readable probe file"):
        load_probe(path)


def test_a_file_of_another_schema_is_named(tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    rewrite(path, schema="lethe-probe/2")
    with pytest.raises(InvalidFile, match=r"new\.safetensors has schema lethe-probe/2.*lethe-probe/1"):
        load_probe(path)


def test_a_digest_that_does_not_match_is_found(tmp_path: Path) -> None:
    path = tmp_path / "forged.safetensors"
    rewrite(path, sha256="0" * 64)
    with pytest.raises(InvalidFile, match=r"forged\.safetensors was modified"):
        load_probe(path)


def test_a_folder_is_read_in_the_order_of_learning(tmp_path: Path) -> None:
    for order, name in [(10, "a"), (0, "z"), (2, "m")]:
        save_probe(probe(name, seed=order), tmp_path, order)
    (tmp_path / "README.md").write_text("not a probe")
    assert [saved.name for saved in load_folder(tmp_path)] == ["z", "m", "a"]


def test_a_folder_without_probes_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=f"{tmp_path} holds no probe files"):
        load_folder(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="nowhere holds no probe files"):
        load_folder(tmp_path / "nowhere")


def test_two_probes_of_one_name_are_refused(tmp_path: Path) -> None:
    save_probe(probe("mnist"), tmp_path, 0)
    save_probe(probe("mnist", seed=1), tmp_path, 1)
    with pytest.raises(InvalidFile, match=f"{tmp_path} holds two probes of the same name: mnist, mnist"):
        load_folder(tmp_path)


def of(**changes: Any) -> ProbeSet:
    return replace(probe(), **changes)


X, Y = probe().x_NCHW, probe().y_N
REFUSED = {
    "float32 from 0 to 255": (
        of(x_NCHW=X.astype(np.float32)),
        r"mnist: x is float32 of shape \[4, 1, 5, 6\], expected uint8",
    ),
    "float64 from 0 to 1": (of(x_NCHW=X / 255), "mnist: x is float64 of .* expected uint8"),
    "not finite": (of(x_NCHW=np.full(X.shape, np.nan, np.float32)), "mnist: x is float32"),
    "vectors that are not finite": (
        of(x_NCHW=np.full((4, 2), np.inf, np.float32)),
        "mnist: x has numbers that are not finite",
    ),
    "signed bytes": (of(x_NCHW=X.astype(np.int8)), "mnist: x is int8"),
    "flat images": (
        of(x_NCHW=X.reshape(4, 30)),
        r"mnist: x is uint8 of shape \[4, 30\], expected uint8 \[N, C, H, W\] or float32",
    ),
    "images of no channel": (of(x_NCHW=X[:, 0]), r"mnist: x is uint8 of shape \[4, 5, 6\]"),
    "no array": (of(x_NCHW=X.tolist()), "mnist: x is a list, not a numpy array"),
    "more images than labels": (of(y_N=Y[:3]), "mnist: 4 samples but 3 labels"),
    "more labels than images": (of(x_NCHW=X[:3]), "mnist: 3 samples but 4 labels"),
    "labels of two dimensions": (
        of(y_N=np.eye(4, dtype=np.int64)),
        r"mnist: y is int64 of shape \[4, 4\], expected int64 \[N\]",
    ),
    "one label": (of(y_N=np.array(3)), r"mnist: y is int64 of shape \[\], expected int64 \[N\]"),
    "labels as floats": (of(y_N=Y.astype(np.float64)), "mnist: y is float64 of .* expected int64"),
    "short labels": (of(y_N=Y.astype(np.int32)), "mnist: y is int32 of .* expected int64"),
    "a negative label": (of(y_N=Y - 10), "mnist: label -"),
    "a slash in the name": (of(name="a/b"), "probe 'a/b': a name must have"),
    "a way out of the folder": (of(name="/../../b"), "probe '/../../b': a name must have"),
    "a line break in the name": (of(name="a\nb"), r"probe 'a\\nb': a name must have"),
    "a zero in the name": (of(name="a\0b"), "a name must have"),
    "half a character in the name": (of(name="a\ud800"), "a name must have"),
    "no name": (of(name=""), "probe '': a name must have"),
    "a long name": (of(name="a" * 65), "a name must have"),
    "a name of many bytes": (of(name="𝔸" * 64), "a name must have"),
    "a number for a name": (of(name=3), "probe 3: a name must have"),
    "no consent": (of(consent=None), "mnist: source and consent must be strings"),
}


@pytest.mark.parametrize(("bad", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_an_invalid_probe_is_neither_written_nor_used(tmp_path: Path, bad: ProbeSet, message: str) -> None:
    with pytest.raises(InvalidFile, match=message):
        save_probe(bad, tmp_path / "probes", 0)
    assert not (tmp_path / "probes").exists()
    with pytest.raises(InvalidFile, match=message):
        Evaluator([bad], 10, seed=0)


WRITABLE = {name: bad for name, (bad, _) in REFUSED.items() if isinstance(bad.x_NCHW, np.ndarray)}


@pytest.mark.parametrize("name", WRITABLE)
def test_a_file_that_holds_no_probe_is_refused_by_name(tmp_path: Path, name: str) -> None:
    bad, message = REFUSED[name]
    path = tmp_path / "07-bad.safetensors"
    about = {"schema": "lethe-probe/1", "name": bad.name, "source": bad.source, "consent": bad.consent}
    metadata = {"lethe": json.dumps(about | {"sha256": bad.sha256})}
    save_file({"x": np.ascontiguousarray(bad.x_NCHW), "y": np.asarray(bad.y_N)}, path, metadata)
    with pytest.raises(InvalidFile, match=rf"07-bad\.safetensors: .*{message}"):
        load_probe(path)
    with pytest.raises(InvalidFile, match=rf"07-bad\.safetensors: .*{message}"):
        load_probes(EvaluationSettings(probes=tmp_path), Layout(height=5, width=6))


@pytest.mark.parametrize("label", [10, 2**40])
def test_a_label_that_the_stream_does_not_have_is_refused_by_name(tmp_path: Path, label: int) -> None:
    save_probe(of(y_N=np.array([0, 1, 2, label])), tmp_path, 0)
    with pytest.raises(InvalidSetting, match=f"mnist has images .* labels up to {label}, .* up to 9"):
        load_probes(EvaluationSettings(probes=tmp_path), Layout(height=5, width=6))


@pytest.mark.parametrize("learner", LEARNERS)
def test_measuring_writes_into_no_probe(learner: str) -> None:
    seen = ProbeSet("seen", batch(20, 0)[0].numpy(), np.arange(20) % 4, "made up", "none")
    before = seen.sha256
    evaluator = Evaluator([seen], 10, seed=0)
    measured = create(learner, CONTEXT)
    first = evaluator.evaluate(measured, full=True)
    assert evaluator.evaluate(measured, full=True) == first
    assert seen.sha256 == before
