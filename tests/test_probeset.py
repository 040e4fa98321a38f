"""Probe files: what is written comes back, and what was changed since is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from service.errors import InvalidFile
from service.probeset import ProbeSet, load_folder, load_probe, save_probe


def probe(name: str = "mnist", samples: int = 4, seed: int = 0) -> ProbeSet:
    random = np.random.default_rng(seed)
    x_NCHW = random.integers(0, 256, (samples, 1, 5, 6), np.uint8)
    return ProbeSet(name, x_NCHW, random.integers(0, 10, samples), "drawn at random", "public data")


def header_end(path: Path) -> int:
    """Where a safetensors file's tensors begin."""
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


def rewrite(path: Path, **changes: object) -> None:
    """Write ``path`` anew with other metadata around the same tensors."""
    saved = probe()
    about = {"schema": "lethe-probe/1", "name": saved.name, "source": saved.source, "consent": saved.consent}
    metadata = {"lethe": json.dumps(about | {"sha256": saved.sha256} | changes)}
    save_file({"x": saved.x_NCHW, "y": saved.y_N}, path, metadata)


def test_a_probe_comes_back_as_it_was_written(tmp_path: Path) -> None:
    saved = probe()
    path = save_probe(saved, tmp_path / "new" / "folder", 3)
    assert path == tmp_path / "new" / "folder" / "03-mnist.safetensors"
    back = load_probe(path)
    np.testing.assert_array_equal(back.x_NCHW, saved.x_NCHW)
    np.testing.assert_array_equal(back.y_N, saved.y_N)
    assert (back.x_NCHW.dtype, back.y_N.dtype) == (np.dtype("uint8"), np.dtype("int64"))
    assert (back.name, back.source, back.consent) == ("mnist", "drawn at random", "public data")
    assert back.sha256 == saved.sha256


def test_a_view_in_another_memory_order_is_written_as_what_it_shows(tmp_path: Path) -> None:
    plain = probe()
    turned = ProbeSet(
        plain.name, np.asfortranarray(plain.x_NCHW), plain.y_N[::-1][::-1], plain.source, plain.consent
    )
    assert turned.sha256 == plain.sha256
    back = load_probe(save_probe(turned, tmp_path, 0))
    np.testing.assert_array_equal(back.x_NCHW, plain.x_NCHW)
    np.testing.assert_array_equal(back.y_N, plain.y_N)


def test_every_changed_byte_of_the_tensors_is_found(tmp_path: Path) -> None:
    path = save_probe(probe(), tmp_path, 0)
    whole = path.read_bytes()
    for place in range(header_end(path), len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(InvalidFile, match=r"00-mnist\.safetensors has changed since it was written"):
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
    with pytest.raises(InvalidFile, match=r"absent\.safetensors is not a probe file"):
        load_probe(tmp_path / "absent.safetensors")


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "00-mnist.safetensors").mkdir()
    with pytest.raises(InvalidFile, match=r"00-mnist\.safetensors"):
        load_folder(tmp_path)


def test_a_safetensors_file_of_somebody_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(InvalidFile, match=r"weights\.safetensors is not a probe file"):
        load_probe(path)


def test_metadata_that_is_no_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.safetensors"
    save_file({"x": np.zeros(3), "y": np.zeros(3)}, path, {"lethe": "[1, 2]"})
    with pytest.raises(InvalidFile, match=r"list\.safetensors is not a probe file"):
        load_probe(path)


def test_a_file_of_another_schema_is_named(tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    rewrite(path, schema="lethe-probe/2")
    with pytest.raises(InvalidFile, match=r"new\.safetensors has schema lethe-probe/2.*lethe-probe/1"):
        load_probe(path)


def test_a_digest_that_does_not_match_is_found(tmp_path: Path) -> None:
    path = tmp_path / "forged.safetensors"
    rewrite(path, sha256="0" * 64)
    with pytest.raises(InvalidFile, match=r"forged\.safetensors has changed"):
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
    with pytest.raises(InvalidFile, match=f"{tmp_path} holds two probes of one name: mnist, mnist"):
        load_folder(tmp_path)
