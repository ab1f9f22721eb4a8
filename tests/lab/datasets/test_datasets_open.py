"""Every data set in its official layout, made in miniature, in its pack, and missing or damaged."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from firewall.errors import DataError, FirewallError, ImageError, UsageError
from firewall.lab.datasets import Dataset, data_root, open_dataset
from tests.conftest import SHARED_DATA

RNG = np.random.default_rng(0)
SYNSETS = [f"n{10_000_000 + 7 * number:08d}" for number in range(1000)]


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def pack(path: Path, images: list[np.ndarray], **columns: np.ndarray) -> None:
    parts = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="PNG")
        parts.append(np.frombuffer(file.getvalue(), np.uint8))
    np.savez(path, blob=np.concatenate(parts), off=np.cumsum([0, *map(len, parts)]), **columns)


@pytest.mark.parametrize(
    ("prefix", "suffix", "folder"), [("-", "", "."), ("-", ".gz", "mnist"), (".", "", "MNIST/raw")], ids=str
)
def test_mnist_is_read_from_idx_files(tmp_path: Path, prefix: str, suffix: str, folder: str) -> None:
    """Plain and compressed idx files, under both spellings of their names, give grey images and their labels."""
    images, labels = noise(5, 28, 28), np.array([7, 2, 1, 0, 4], np.uint8)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name, array in ((f"t10k-images{prefix}idx3-ubyte", images), (f"t10k-labels{prefix}idx1-ubyte", labels)):
        content = idx(array)
        (tmp_path / folder / (name + suffix)).write_bytes(gzip.compress(content) if suffix else content)

    data = open_dataset("mnist", tmp_path)

    assert data.images[3].shape == (28, 28, 1) and data.sources[3] == "mnist_test/00003"
    np.testing.assert_array_equal(np.stack(list(data.images))[..., 0], images)
    np.testing.assert_array_equal(data.labels, labels)


def test_mnist_is_read_from_npz(tmp_path: Path) -> None:
    """The npz file holds both parts under their usual names."""
    np.savez(tmp_path / "mnist.npz", x_train=noise(3, 28, 28), y_train=np.array([1, 2, 3], np.uint8))

    assert open_dataset("mnist", tmp_path, part="train").labels.tolist() == [1, 2, 3]
    with pytest.raises(DataError, match=r"mnist\.npz"):
        open_dataset("mnist", tmp_path, part="test")


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08\x03", idx(noise(3, 28, 28))[:-1], idx(noise(3, 28, 28)) + b"x", idx(noise(3, 28, 27))],
    ids=["empty", "header", "short", "long", "narrow"],
)
def test_a_broken_idx_file_is_named(tmp_path: Path, content: bytes) -> None:
    """A file that doesn't hold what its header promises is an error with its name, not a crash."""
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(content)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))

    with pytest.raises(DataError, match="t10k-images-idx3-ubyte"):
        open_dataset("mnist", tmp_path)


def batch(labels: list[int]) -> tuple[bytes, np.ndarray]:
    images = noise(len(labels), 32, 32, 3)
    rows = np.concatenate(
        [np.array(labels, np.uint8)[:, None], images.transpose(0, 3, 1, 2).reshape(len(labels), -1)], 1
    )
    return rows.tobytes(), images


def test_cifar10_is_read_from_the_binary_batches(tmp_path: Path) -> None:
    """Labels and pixels of the official records, channels last; the lossless part is the begin of the training set."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    content, images = batch([3, 9])
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(content)

    data = open_dataset("cifar10", tmp_path, part="train")

    assert data.labels.tolist() == [3, 9] * 5 and data.sources[3] == "data_batch_2/00001"
    np.testing.assert_array_equal(data.images[1], images[1])
    assert len(open_dataset("cifar10", tmp_path)) == len(open_dataset("cifar10", tmp_path, part="lossless")) == 2


@pytest.mark.parametrize("content", [b"", b"12345", batch([10])[0]], ids=["empty", "short", "label 10"])
def test_a_broken_batch_is_named(tmp_path: Path, content: bytes) -> None:
    """Records of another length, or with an eleventh class, are refused."""
    (tmp_path / "test_batch.bin").write_bytes(content)

    with pytest.raises(DataError, match=r"test_batch\.bin"):
        open_dataset("cifar10", tmp_path)


def test_the_pickled_cifar10_is_not_read(tmp_path: Path) -> None:
    """A pickle can run anything: the error says so and names the binary version."""
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"\x80\x02}.")

    with pytest.raises(DataError, match=r"pickled.*cifar-10-binary"):
        open_dataset("cifar10", tmp_path)


def validation(folder: Path, count: int = 3) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        Image.fromarray(noise(9, 12, 3)).save(folder / f"ILSVRC2012_val_{number:08d}.JPEG")


def kit(folder: Path) -> None:
    """The development kit: class n is the n-th *last* WordNet id, and image n has class n."""
    synsets = np.zeros(1074, [("ILSVRC2012_ID", object), ("WNID", object)])
    for number in range(1074):
        synsets[number] = (number + 1, SYNSETS[999 - number] if number < 1000 else "n00000001")
    savemat(folder / "meta.mat", {"synsets": synsets})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(str(n) for n in range(1, 1001)))


def val_txt(folder: Path) -> None:
    (folder / "val.txt").write_text("".join(f"ILSVRC2012_val_{n:08d}.JPEG {1000 - n}\n" for n in range(1, 1001)))


def synset_labels(folder: Path) -> None:
    (folder / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(SYNSETS[::-1]))


@pytest.mark.parametrize("truth", [kit, val_txt, synset_labels], ids=lambda function: function.__name__)
def test_imagenet_is_read_from_one_folder(tmp_path: Path, truth: Callable[[Path], None]) -> None:
    """Each form of the ground truth gives the same classes, counted in the order of the WordNet ids."""
    validation(tmp_path / "imagenet")
    truth(tmp_path / "imagenet")

    data = open_dataset("imagenet", tmp_path)

    assert data.labels.tolist() == [999, 998, 997] and len(data.class_names) == 1000
    assert data.images[0].shape == (9, 12, 3) and data.sources[2] == "imagenet_val/ILSVRC2012_val_00000003"


def test_the_kits_class_numbers_are_not_taken_as_they_stand(tmp_path: Path) -> None:
    """Without meta.mat the development kit's numbers would be wrong classes: refused."""
    validation(tmp_path)
    kit(tmp_path)
    (tmp_path / "meta.mat").unlink()

    with pytest.raises(DataError, match=r"meta\.mat"):
        open_dataset("imagenet", tmp_path)


@pytest.mark.parametrize("lines", ["1\n2", "1\n2\n1001", "1\n2\nthree"], ids=["too few", "too large", "a word"])
def test_a_wrong_ground_truth_is_named(tmp_path: Path, lines: str) -> None:
    """Fewer lines than images, a class that doesn't exist, or no number: an error that names the file."""
    validation(tmp_path)
    kit(tmp_path)
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text(lines)

    with pytest.raises(DataError, match="ILSVRC2012_validation_ground_truth"):
        open_dataset("imagenet", tmp_path)


def test_imagenet_is_read_from_folders_of_wordnet_ids(tmp_path: Path) -> None:
    """A few class folders are enough if a list of all ids tells their numbers; without it they are refused."""
    for number in (2, 5):
        folder = tmp_path / "val" / SYNSETS[number]
        folder.mkdir(parents=True)
        Image.fromarray(noise(8, 8, 3)).save(folder / f"ILSVRC2012_val_{number:08d}.JPEG")

    with pytest.raises(DataError, match="synset_words"):
        open_dataset("imagenet", tmp_path)
    (tmp_path / "synset_words.txt").write_text("\n".join(f"{name} thing {name}" for name in SYNSETS))

    assert open_dataset("imagenet", tmp_path).labels.tolist() == [2, 5]
    (tmp_path / "val" / SYNSETS[8]).mkdir()
    with pytest.raises(DataError, match=SYNSETS[8]):
        open_dataset("imagenet", tmp_path)


def test_nips17_is_read_from_the_contests_layout(tmp_path: Path) -> None:
    """The table counts classes from 1, the data set from 0; an image that is missing is an error."""
    folder = tmp_path / "nips17" / "images"
    folder.mkdir(parents=True)
    Image.fromarray(noise(299, 299, 3)).save(folder / "ab12.png")
    table = tmp_path / "nips17" / "images.csv"
    table.write_text("ImageId,URL,TrueLabel,TargetClass\nab12,-,306,779\n")

    data = open_dataset("nips17", tmp_path)

    assert data.labels.tolist() == [305] and data.sources == ("nips17/ab12",) and data.images[0].shape == (299, 299, 3)
    table.write_text("ImageId,TrueLabel\nab12,306\ncd34,1\n")
    with pytest.raises(DataError, match=r"1 of 2 images"):
        open_dataset("nips17", tmp_path)


def test_a_folder_of_folders_is_a_data_set(tmp_path: Path) -> None:
    """Classes by name, images decoded when asked for, copies of one file in one group, sources without the folder."""
    for name, count in (("stop", 2), ("give way", 1)):
        (tmp_path / name / "deep").mkdir(parents=True)
        for number in range(count):
            Image.fromarray(noise(5 + number, 7, 3)).save(tmp_path / name / "deep" / f"{number}.png")
    (tmp_path / "give way" / "copy.png").write_bytes((tmp_path / "stop" / "deep" / "0.png").read_bytes())
    (tmp_path / "stop" / "notes.txt").write_text("not an image")

    data = open_dataset(f"folder:{tmp_path}")

    assert data.class_names == ("give way", "stop") and data.labels.tolist() == [0, 0, 1, 1]
    assert data.sources[3] == "stop/deep/1.png" and data.images[3].shape == (6, 7, 3)
    assert data.groups[0] == data.groups[2] and len(set(data.groups.tolist())) == 3


def test_an_empty_class_and_a_corrupt_image_are_named(tmp_path: Path) -> None:
    """A class without images is told when the folder is opened, a damaged image when it is asked for."""
    with pytest.raises(DataError, match="sub-folder"):
        open_dataset(f"folder:{tmp_path}")
    (tmp_path / "stop").mkdir()
    with pytest.raises(DataError, match="stop"):
        open_dataset(f"folder:{tmp_path}")
    (tmp_path / "stop" / "half.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    data = open_dataset(f"folder:{tmp_path}")
    with pytest.raises(ImageError, match=r"half\.png"):
        data.images[0]


@pytest.mark.parametrize("name", ["gtsrb", "mnist", "cifar10", "imagenet", "nips17"])
def test_missing_data_says_what_to_get_and_where_to_put_it(tmp_path: Path, name: str) -> None:
    """No download, no traceback: which files, and the option that names their folder."""
    with pytest.raises(DataError, match=r"get .*--data"):
        open_dataset(name, tmp_path)


@pytest.mark.parametrize(
    ("spec", "part"), [("svhn", "test"), ("folder:", "test"), ("mnist", "dev"), ("cifar10", "dev"), ("nips17", "train")]
)
def test_an_unknown_data_set_or_part_is_wrong_use(tmp_path: Path, spec: str, part: str) -> None:
    """The error says what there is."""
    with pytest.raises(UsageError, match=r"known|parts|only"):
        open_dataset(spec, tmp_path, part=part)


def test_a_pack_without_its_columns_is_refused(tmp_path: Path) -> None:
    """Packs are told apart by their columns, and a column of another length is damage."""
    for name, spec in (("cifar10_test_jpeg75", "cifar10"), ("nips17_dev", "nips17")):
        pack(tmp_path / f"{name}.npz", [noise(4, 4, 3)])
        with pytest.raises(DataError, match=name):
            open_dataset(spec, tmp_path)
    pack(tmp_path / "cifar10_test_jpeg75.npz", [noise(4, 4, 3)], label=np.zeros(2, np.uint8))
    with pytest.raises(DataError, match="another length"):
        open_dataset("cifar10", tmp_path)


def test_a_wrong_label_is_told_with_its_file(tmp_path: Path) -> None:
    """An eleventh digit or a forty-fourth sign: which label, of which image, in which file."""
    np.savez(tmp_path / "mnist.npz", x_test=noise(3, 28, 28), y_test=np.array([1, 10, 3], np.uint8))
    pack(tmp_path / "cifar10_test_jpeg75.npz", [noise(4, 4, 3)] * 2, label=np.array([1, 11]))
    pack(tmp_path / "nips17_dev.npz", [noise(4, 4, 3)] * 2, id=np.array(["a", "b"]), label1001=np.array([0, 1]))
    pack(tmp_path / "gtsrb_test32.npz", [noise(4, 4, 3)] * 2, label=np.array([1, 43]))
    for name, file in (("mnist", "mnist"), ("cifar10", "jpeg75"), ("nips17", "nips17_dev"), ("gtsrb", "gtsrb_test32")):
        with pytest.raises(DataError, match=rf"{file}.*label (10|11|-1|43) for image"):
            open_dataset(name, tmp_path)


def test_gtsrb_names_a_damaged_image_and_a_damaged_table(tmp_path: Path) -> None:
    """In the official layout: which picture can't be read, which table has no labels or a class that isn't one."""
    folder = tmp_path / "Final_Test" / "Images"
    folder.mkdir(parents=True)
    (folder / "00000.ppm").write_bytes(b"P6 9 9 255 short")
    table = tmp_path / "GT-final_test.csv"
    for text, message in (
        ("Filename;ClassId\n00000.ppm;3\n", r"00000\.ppm, which can't be read"),
        ("Filename;ClassId\n", "names no images"),
        ("File;Class\n00000.ppm;3\n", "ClassId"),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=message):
            open_dataset("gtsrb", tmp_path)
    Image.fromarray(noise(5, 5, 3)).save(folder / "00000.ppm")
    table.write_text("Filename;ClassId\n00000.ppm;43\n")
    with pytest.raises(DataError, match=r"GT-final_test\.csv has label 43"):
        open_dataset("gtsrb", tmp_path)
    table.write_text("Filename;ClassId\n00000.ppm;42\n")
    assert open_dataset("gtsrb", tmp_path).sources == ("gtsrb_test/00000",)


def test_labels_and_images_must_belong_together() -> None:
    """A label without a class, or a label too few, is an error when the data set is made."""
    for labels in ([0, 2], [0], [-1, 0]):
        with pytest.raises(DataError, match="mine"):
            Dataset("mine", [noise(2, 2, 3)] * 2, np.array(labels), np.arange(2), ("a", "b"), ("x", "y"), "", "")


def test_the_data_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument wins over the variable, the variable over the usual places; what isn't there is an error."""
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "data").mkdir(parents=True)
    there.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("FIREWALL_DATA", raising=False)
    assert data_root() == Path("data")
    monkeypatch.setenv("FIREWALL_DATA", str(there))
    assert data_root() == there and data_root(here) == here
    monkeypatch.setenv("FIREWALL_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FirewallError, match="FIREWALL_DATA"):
        data_root()


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the packs are not here")
@pytest.mark.parametrize(
    ("spec", "part", "count", "shape", "notes"),
    [
        ("mnist", "test", 10_000, (28, 28, 1), ""),
        ("cifar10", "test", 10_000, (32, 32, 3), "quality 75"),
        ("cifar10", "lossless", 4_000, (32, 32, 3), "has seen them"),
        ("nips17", "test", 300, (299, 299, 3), ""),
    ],
)
def test_the_real_packs_are_read(spec: str, part: str, count: int, shape: tuple[int, ...], notes: str) -> None:
    """Sizes, and what a card has to repeat of where the images come from."""
    data = open_dataset(spec, SHARED_DATA, part=part)

    assert len(data) == count == len(set(data.sources)) and notes in data.notes
    assert data.images[-1].shape == shape and data.images[:2][0].dtype == np.uint8
    assert not any(str(SHARED_DATA) in source for source in data.sources)
