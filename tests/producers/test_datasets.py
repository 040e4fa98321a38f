"""Data sets: pinned files, sources tried in turn, errors that say what to do."""

import hashlib
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from lethe.errors import DataUnavailable
from lethe_producers.dataset_downloads import SOURCES, Source, fetch, origin
from lethe_producers.datasets import DATASETS, Dataset, default_root, load

MNIST = DATASETS["mnist"]


def nothing(dataset: Dataset, folder: Path) -> None:
    """A source that answers and delivers no file."""


def unreachable(dataset: Dataset, folder: Path) -> None:
    raise ConnectionError("the line is cut")


def garbage(dataset: Dataset, folder: Path) -> None:
    dataset.raw(folder).mkdir(parents=True)
    for file in dataset.sha256:
        (dataset.raw(folder) / file).write_bytes(b"not an image")


def from_this_machine(dataset: Dataset, folder: Path) -> None:
    shutil.copytree(dataset.raw(default_root()), dataset.raw(folder))


def test_a_corrupt_file_is_named_with_both_digests_and_never_used(tmp_path: Path) -> None:
    garbage(MNIST, tmp_path)
    path = MNIST.raw(tmp_path) / "train-images-idx3-ubyte"
    for use in (lambda: load("mnist", "test", tmp_path), lambda: fetch("mnist", tmp_path)):
        with pytest.raises(DataUnavailable) as caught:
            use()
        assert str(path) in str(caught.value)
        assert MNIST.sha256[path.name] in str(caught.value)
        assert hashlib.sha256(b"not an image").hexdigest() in str(caught.value)
    assert path.read_bytes() == b"not an image"


def test_loading_missing_files_names_them_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match=r"lacks train-images-idx3-ubyte, .*lethe-replay data"):
        load("mnist", "train", tmp_path)


def test_if_all_sources_fail_the_error_lists_them_with_reasons_and_what_to_do(tmp_path: Path) -> None:
    sources = [Source("the moon", nothing), Source("a mirror", unreachable), Source("a bin", garbage)]
    with pytest.raises(DataUnavailable) as caught:
        fetch("fashion-mnist", tmp_path, sources)
    said = str(caught.value)
    assert "the moon: it came without train-images-idx3-ubyte, " in said
    assert "a mirror: the line is cut" in said
    assert "a bin: " in said
    assert "is corrupt" in said
    assert str(tmp_path / "FashionMNIST" / "raw") in said
    assert all(f"{digest}  {file}" in said for file, digest in DATASETS["fashion-mnist"].sha256.items())
    assert list(tmp_path.iterdir()) == []


class Garbage(BaseHTTPRequestHandler):
    """A mirror that moved and answers everything with one page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"moved permanently")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Garbage) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_torchvisions_mirrors_fail_quietly_and_say_why(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from torchvision.datasets import MNIST as TORCHVISION_MNIST

    monkeypatch.setattr(TORCHVISION_MNIST, "mirrors", [mirror])
    with pytest.raises(DataUnavailable, match=r"torchvision's mirrors: .*corrupted"):
        fetch("mnist", tmp_path / "root", SOURCES["mnist"][:1])
    assert capfd.readouterr() == ("", "")


@pytest.mark.needs("datasets")
def test_a_later_source_is_used_recorded_and_not_asked_again(tmp_path: Path) -> None:
    sources = [Source("a bin", garbage), Source("this machine", from_this_machine)]
    assert fetch("mnist", tmp_path, sources) == "this machine"
    assert fetch("mnist", tmp_path, []) == "this machine"
    assert origin(MNIST, tmp_path) == "this machine"
    assert [path.name for path in tmp_path.iterdir()] == ["MNIST"]


@pytest.mark.needs("datasets")
def test_files_put_there_by_hand_are_taken(tmp_path: Path) -> None:
    MNIST.raw(tmp_path).mkdir(parents=True)
    for file in MNIST.sha256:
        shutil.copy(MNIST.raw(default_root()) / file, MNIST.raw(tmp_path) / file)
    assert fetch("mnist", tmp_path, []) == "found in place"


@pytest.mark.needs("datasets")
@pytest.mark.parametrize(
    ("name", "means"), [("mnist", (33.318, 33.791)), ("fashion-mnist", (72.940, 73.147))]
)
def test_the_pixels_and_labels_are_those_that_were_published(name: str, means: tuple[float, float]) -> None:
    dataset = next(dataset for dataset in DATASETS.values() if dataset.name == name)
    x_NCHW, y_N = load(dataset.name, "train", default_root())
    assert (x_NCHW.shape, y_N.shape) == ((60000, 1, 28, 28), (60000,))
    assert (x_NCHW.dtype.name, y_N.dtype.name) == ("uint8", "int64")
    assert x_NCHW.mean() == pytest.approx(means[0], abs=5e-4)
    assert tuple(np.bincount(y_N)) == dataset.rows_of_class
    x_NCHW, y_N = load(dataset.name, "test", default_root())
    assert (x_NCHW.shape, y_N.shape) == ((10000, 1, 28, 28), (10000,))
    assert x_NCHW.mean() == pytest.approx(means[1], abs=5e-4)


def test_the_root_is_lethes_own_variable_then_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LETHE_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_root() == tmp_path / ".cache" / "lethe"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_root() == tmp_path / "cache" / "lethe"
    monkeypatch.setenv("LETHE_DATA", str(tmp_path / "data"))
    assert default_root() == tmp_path / "data"
