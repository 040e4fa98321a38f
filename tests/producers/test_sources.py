"""Sources of a scenario: each gives the pixels and labels that its files hold, or says what is wrong."""

import bz2
import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from lethe.errors import DataUnavailable, InvalidScenario
from lethe.wire import Pixels
from lethe_producers.sources.arrays import Npy, Npz
from lethe_producers.sources.base import Classes, Rows
from lethe_producers.sources.files import held_out
from lethe_producers.sources.folder import Folder
from lethe_producers.sources.pictures import upright_pixels
from lethe_producers.sources.torchvision_datasets import TorchvisionDataset
from tests.support.pictures import picture, write_pictures

RED, GREEN = (200, 30, 30), (30, 200, 30)
RNG = np.random.default_rng(0)


def pixels_of(rows: Rows) -> Pixels:
    return rows.read(np.arange(len(rows)))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_some_rows_of_each_class_are_held_out_and_some_are_left(labels: list[int], share: float) -> None:
    y_N = np.array(labels, np.int64)
    held = held_out(y_N, share)
    for label in set(labels):
        rows, out = int((y_N == label).sum()), int(held[y_N == label].sum())
        assert out == (0 if rows == 1 else min(rows - 1, max(1, round(share * rows))))
    np.testing.assert_array_equal(held, held_out(y_N, share))


# folders


def test_a_folders_names_are_its_labels_and_its_two_parts_are_disjoint(tmp_path: Path) -> None:
    source = Folder(path=str(write_pictures(tmp_path / "own", {"dog": RED, "cat": GREEN}, 10)))
    train, test = source.rows("train", tmp_path), source.rows("test", tmp_path)
    assert (len(train), len(test), train.shape) == (16, 4, (3, 24, 32))
    assert train.classes == Classes(2, ("cat", "dog"), by_name=True)
    images = {image.tobytes() for rows in (train, test) for image in pixels_of(rows)}
    assert len(images) == 20
    for rows in (train, test):
        dogs = pixels_of(rows)[rows.y_N == 1]
        assert dogs[:, 0].mean() > dogs[:, 1].mean() + 100


def test_folders_named_by_numbers_are_labels_of_these_numbers(tmp_path: Path) -> None:
    rows = Folder(path=str(write_pictures(tmp_path / "own", {"2": RED, "10": GREEN}, 2))).every_row()
    assert rows.classes == Classes(11)
    assert sorted(rows.y_N.tolist()) == [2, 2, 10, 10]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_pictures_of_each_format_are_read(tmp_path: Path, suffix: str) -> None:
    folder = write_pictures(tmp_path / "own", {"a": RED, "b": GREEN}, 2, suffix=suffix)
    (folder / "a" / "notes.txt").write_text("ignored")
    (folder / "a" / "0.JPG").write_bytes((folder / "a" / f"0.{suffix}").read_bytes())
    if suffix != "jpg":
        with pytest.raises(DataUnavailable, match=r"0\.JPG is not a JPEG"):
            Folder(path=str(folder)).every_row()
        return
    rows = Folder(path=str(folder)).every_row()
    assert len(rows) == 5
    assert pixels_of(rows).mean(axis=(0, 2, 3))[2] == pytest.approx(30, abs=10)


def test_a_png_is_read_to_the_last_bit(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "own", {"a": RED, "b": GREEN}, 1, suffix="png")
    red = np.asarray(picture(RED, (24, 32), 0)).transpose(2, 0, 1)
    np.testing.assert_array_equal(pixels_of(Folder(path=str(folder)).every_row())[0], red)


def test_pictures_of_several_sizes_need_a_size_to_be_scaled_to(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "own", {"a": RED, "b": GREEN}, 2, [(24, 32), (50, 20)])
    with pytest.raises(DataUnavailable, match=r"2 sizes \(24×32, 50×20\).*size: \[64, 64\]"):
        Folder(path=str(folder)).every_row()
    rows = Folder(path=str(folder), size=(16, 8)).every_row()
    assert pixels_of(rows).shape == (4, 3, 16, 8)


def test_grey_pictures_have_one_channel_unless_one_has_colour(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (8, 8), 77).save(tmp_path / "a" / "0.png")
    assert Folder(path=str(tmp_path)).every_row().shape == (1, 8, 8)
    assert Folder(path=str(tmp_path), channels=3).every_row().shape == (3, 8, 8)
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "1.png")
    assert Folder(path=str(tmp_path)).every_row().shape == (3, 8, 8)


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255  # the left half; after a turn clockwise, the upper half
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a" / "0.jpg", exif=exif, quality=100)
    rows = Folder(path=str(tmp_path)).every_row()
    assert rows.shape == (3, 32, 16)
    (upright,) = pixels_of(rows)
    assert upright[:, :16].mean() > 250
    assert upright[:, 16:].mean() < 5


def test_palettes_transparency_and_sixteen_bits_become_eight_bits() -> None:
    palette = Image.new("RGB", (4, 4), (10, 200, 30)).quantize(4)
    assert upright_pixels(palette, 3)[:, 0, 0].tolist() == [10, 200, 30]
    assert upright_pixels(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), 3).min() == 255
    deep = Image.fromarray(np.full((4, 4), 0x1234, np.uint16))
    assert set(upright_pixels(deep, 1).ravel().tolist()) == {0x12}


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff\xd8\xff\xe0 torn"])
def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    folder = write_pictures(tmp_path / "own", {"a": RED, "b": GREEN}, 1)
    (folder / "a" / "torn.jpg").write_bytes(content)
    with pytest.raises(DataUnavailable, match=r"a/torn\.jpg"):
        pixels_of(Folder(path=str(folder)).every_row())


def test_a_picture_that_ends_too_early_is_named(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "own", {"a": RED, "b": GREEN}, 1)
    whole = (folder / "a" / "0.jpg").read_bytes()
    (folder / "a" / "0.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataUnavailable, match=r"a/0\.jpg cannot be read"):
        pixels_of(Folder(path=str(folder)).every_row())


def test_a_folder_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match="absent is not a folder"):
        Folder(path=str(tmp_path / "absent")).rows("train", tmp_path)
    with pytest.raises(DataUnavailable, match=r"has no pictures in LABEL/\*\.png"):
        Folder(path=str(tmp_path)).rows("train", tmp_path)


# arrays


def test_an_npz_of_x_and_y_has_a_share_held_out(tmp_path: Path) -> None:
    x, y = RNG.integers(0, 256, (20, 8, 6), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "own.npz", x=x, y=y)
    source = Npz(path=str(tmp_path / "own.npz"), holdout=0.5)
    train, test = source.rows("train", tmp_path), source.rows("test", tmp_path)
    assert (train.shape, train.classes, len(train), len(test)) == ((1, 8, 6), Classes(2), 10, 10)
    both = np.concatenate([pixels_of(train), pixels_of(test)])[:, 0]
    assert {image.tobytes() for image in both} == {image.tobytes() for image in x}


def test_an_npz_of_two_parts_keeps_them(tmp_path: Path) -> None:
    parts: dict[str, Any] = {
        "x_train": RNG.integers(0, 256, (6, 8, 5, 3), np.uint8),
        "y_train": np.arange(6).reshape(6, 1) % 3,
        "x_test": RNG.integers(0, 256, (3, 8, 5, 3), np.uint8),
        "y_test": np.arange(3).reshape(3, 1),
    }
    np.savez(tmp_path / "own.npz", **parts)
    test = Npz(path=str(tmp_path / "own.npz")).rows("test", tmp_path)
    assert (test.shape, test.classes.count) == ((3, 8, 5), 3)
    np.testing.assert_array_equal(pixels_of(test), parts["x_test"].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(test.y_N, [0, 1, 2])


def test_npy_files_of_images_and_names(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (4, 3, 8, 8), np.uint8)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.array(["dog", "cat", "dog", "ant"]))
    rows = Npy(path=str(tmp_path / "x.npy"), labels=str(tmp_path / "y.npy")).every_row()
    assert rows.classes.names == ("ant", "cat", "dog")
    assert rows.y_N.tolist() == [2, 1, 2, 0]
    np.testing.assert_array_equal(pixels_of(rows), x)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.zeros((2, 8, 8)), np.zeros(2, np.int64), "images are float64, expected uint8"),
        (np.zeros((2, 8), np.uint8), np.zeros(2, np.int64), r"images have shape \[2, 8\]"),
        (np.zeros((2, 8, 8), np.uint8), np.zeros(3, np.int64), "2 images, but 3 labels"),
        (np.zeros((2, 8, 8), np.uint8), np.zeros(2), "labels are float64"),
        (np.zeros((2, 8, 8), np.uint8), np.array([0, -1]), "label -1 is negative"),
        (np.zeros((0, 8, 8), np.uint8), np.zeros(0, np.int64), "holds no labelled rows"),
        (np.zeros((1, 8, 8), np.uint8), np.array([None]), "cannot be read: .*allow_pickle"),
    ],
)
def test_arrays_that_are_no_labelled_images_are_refused(tmp_path: Path, x: Any, y: Any, said: str) -> None:
    np.savez(tmp_path / "own.npz", x=x, y=y)
    with pytest.raises(DataUnavailable, match=said):
        Npz(path=str(tmp_path / "own.npz")).rows("train", tmp_path)


def test_arrays_under_other_names_are_listed(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.arange(2))
    with pytest.raises(DataUnavailable, match="no array x, only images, labels: name them"):
        Npz(path=str(tmp_path / "own.npz")).every_row()
    assert len(Npz(path=str(tmp_path / "own.npz"), images="images", labels="labels").every_row()) == 2
    (tmp_path / "torn.npz").write_bytes(b"PK torn")
    with pytest.raises(DataUnavailable, match=r"torn\.npz cannot be read"):
        Npz(path=str(tmp_path / "torn.npz")).every_row()


# torchvision's classes, from files in the format of each


def idx(path: Path, array: Any) -> None:
    kinds = {"uint8": 8, "int32": 12}
    sizes = b"".join(size.to_bytes(4) for size in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        bytes([0, 0, kinds[array.dtype.name], array.ndim])
        + sizes
        + array.astype(">" + array.dtype.str[1:]).tobytes()
    )


X = RNG.integers(0, 256, (6, 28, 28), np.uint8)
Y = np.array([3, 1, 2, 9, 3, 0], np.uint8)


def write_kmnist(root: Path, _: pytest.MonkeyPatch) -> tuple[Any, Any]:
    for part in ("train", "t10k"):
        idx(root / "KMNIST" / "raw" / f"{part}-images-idx3-ubyte", X)
        idx(root / "KMNIST" / "raw" / f"{part}-labels-idx1-ubyte", Y)
    return X[:, np.newaxis], Y


def write_emnist(root: Path, _: pytest.MonkeyPatch) -> tuple[Any, Any]:
    for part in ("train", "test"):
        idx(root / "EMNIST" / "raw" / f"emnist-letters-{part}-images-idx3-ubyte", X)
        idx(root / "EMNIST" / "raw" / f"emnist-letters-{part}-labels-idx1-ubyte", Y)
    return X[:, np.newaxis], Y


def write_qmnist(root: Path, _: pytest.MonkeyPatch) -> tuple[Any, Any]:
    for part in ("train", "test"):
        labels = np.zeros((6, 8), np.int32)
        labels[:, 0] = Y
        idx(root / "QMNIST" / "raw" / f"qmnist-{part}-images-idx3-ubyte", X)
        idx(root / "QMNIST" / "raw" / f"qmnist-{part}-labels-idx2-int", labels)
    return X[:, np.newaxis], Y


def write_usps(root: Path, _: pytest.MonkeyPatch) -> tuple[Any, Any]:
    x = RNG.choice([-1.0, 1.0], (6, 256))
    lines = [
        f"{y + 1} " + " ".join(f"{n + 1}:{v}" for n, v in enumerate(row)) for row, y in zip(x, Y, strict=True)
    ]
    for name in ("usps.bz2", "usps.t.bz2"):
        (root / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    return ((x + 1) / 2 * 255).astype(np.uint8).reshape(6, 1, 16, 16), Y


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    x = RNG.integers(0, 256, (6, 3, 32, 32), np.uint8)
    kept = {}
    for split in ("train", "test"):
        path = root / f"{split}_32x32.mat"
        savemat(path, {"X": x.transpose(2, 3, 1, 0), "y": np.where(Y == 0, 10, Y)[:, np.newaxis]})
        kept[split] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", kept)
    return x, Y


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    x = RNG.integers(0, 256, (6, 3, 32, 32), np.uint8)
    folder = root / "cifar-10-batches-py"
    folder.mkdir()

    def written(name: str, content: dict[str, Any]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    batch = {"data": x.reshape(6, -1), "labels": Y.tolist()}
    kind = torchvision.datasets.CIFAR10
    monkeypatch.setattr(kind, "train_list", [written("data_batch_1", batch)])
    monkeypatch.setattr(kind, "test_list", [written("test_batch", batch)])
    name, digest = written("batches.meta", {"label_names": [f"c{n}" for n in range(10)]})
    monkeypatch.setattr(kind, "meta", {"filename": name, "key": "label_names", "md5": digest})
    return x, Y


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(
    ("source", "write", "names"),
    [
        ({"name": "KMNIST"}, write_kmnist, "o"),
        ({"name": "EMNIST", "arguments": {"split": "letters"}}, write_emnist, "N/A"),
        ({"name": "QMNIST"}, write_qmnist, "0 - zero"),
        ({"name": "USPS"}, write_usps, None),
        ({"name": "SVHN"}, write_svhn, None),
        ({"name": "CIFAR10"}, write_cifar10, "c0"),
    ],
    ids=lambda given: given["name"] if isinstance(given, dict) else None,
)
def test_a_class_of_torchvision_is_read_from_its_own_files(
    source: Any, write: Any, names: str | None, part: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x_NCHW, y_N = write(tmp_path, monkeypatch)
    rows = TorchvisionDataset.model_validate(source).rows(part, tmp_path)
    assert rows.shape == x_NCHW.shape[1:]
    np.testing.assert_array_equal(pixels_of(rows), x_NCHW)
    np.testing.assert_array_equal(rows.y_N, y_N)
    assert (rows.classes.names[0] if rows.classes.names else None) == names
    assert rows.classes.count >= 10


def test_a_class_without_splits_has_a_share_held_out(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"size": 40, "image_size": [3, 8, 8], "num_classes": 2}
    source = TorchvisionDataset(name="FakeData", arguments=arguments, holdout=0.25, size=(4, 4))
    train, test = source.rows("train", tmp_path), source.rows("test", tmp_path)
    assert train.shape == (3, 4, 4)
    assert len(train) + len(test) == 40
    assert len(test) == pytest.approx(10, abs=1)


def test_files_that_are_missing_are_named_with_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.datasets.KMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(DataUnavailable, match=f"KMNIST is not in {tmp_path}, and torchvision does not"):
        TorchvisionDataset(name="KMNIST").rows("train", tmp_path)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("Styx", {}, "has no class Styx"),
        ("VisionDataset", {}, "VisionDataset is not a class of images with one label"),
        ("EMNIST", {}, "EMNIST: .*split"),
        ("EMNIST", {"split": "runes"}, "EMNIST .*runes"),
        ("KMNIST", {"colour": True}, "KMNIST does not take colour"),
        ("CocoDetection", {}, "CocoDetection: .*annFile"),
    ],
)
def test_what_is_no_labelled_class_is_refused(
    tmp_path: Path, name: str, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises((InvalidScenario, DataUnavailable), match=said):
        TorchvisionDataset(name=name, arguments=arguments).rows("train", tmp_path)
