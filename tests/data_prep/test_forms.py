"""Every form of a dataset, made from the same images, gives the same store."""

import io
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import forms_support as forms
import numpy as np
import pytest
from data_prep_support import shared_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep import DataError, Prepared, Store, prepare, verify_store
from data_prep.sources import cifar100, find_source, mini_imagenet, tiered_imagenet

FEW = 3

# Form: what writes it, what it is called, and whether it has class names and file names to order by.
FORMS: dict[str, dict[str, tuple[forms.Writer, str, bool]]] = {
    "cifar-fs": {
        "folders": (forms.cifar_folders, "class folders of PNG files", True),
        "official": (forms.cifar_official, "official pickles of CIFAR-100", True),
        "official, protocol 5": (forms.cifar_official_5, "official pickles of CIFAR-100", True),
        "parquet": (forms.cifar_parquet, "parquet of uoft-cs/cifar100", False),
        "splits": (forms.cifar_fs_pickles, "pickles of the splits of CIFAR-FS", False),
    },
    "fc100": {
        "folders": (forms.cifar_folders, "class folders of PNG files", True),
        "official": (forms.cifar_official, "official pickles of CIFAR-100", True),
        "parquet": (forms.cifar_parquet, "parquet of uoft-cs/cifar100", False),
    },
    "miniimagenet": {
        "cache": (forms.mini_caches, "cache pickles of miniImageNet", True),
        "cache of Python 2": (forms.mini_old_caches, "cache pickles of miniImageNet", True),
        "category split": (forms.mini_category_splits, "category split pickles of miniImageNet", True),
        "lists": (forms.mini_lists, "images and Ravi and Larochelle's CSV files", True),
        "ILSVRC": (forms.mini_imagenet_tree, "images and CSV files over ImageNet", True),
        "split folders": (forms.split_folders, "class folders of images", True),
        "class folders": (forms.class_folders, "class folders of images", True),
        "parquet": (forms.mini_parquet, "parquet of timm/mini-imagenet", True),
    },
    "tieredimagenet": {
        "split folders": (forms.split_folders, "class folders of images", True),
        "class folders": (forms.class_folders, "class folders of images", True),
        "png": (forms.tiered_png_pickles, "pickles of PNG files", True),
        "png of Python 2": (forms.tiered_old_png_pickles, "pickles of PNG files", False),
        "npz": (forms.tiered_npz, "npz arrays, blue and red swapped back", False),
        "packed npz": (forms.tiered_packed_npz, "npz arrays, blue and red swapped back", False),
    },
}
ALL = [(dataset, form) for dataset, own in FORMS.items() for form in own]


@pytest.fixture(scope="session")
def pictures() -> dict[str, dict[str, forms.Pictures]]:
    """Return the images of each dataset by split, class and file name."""
    result = {}
    for dataset in FORMS:
        source = find_source(dataset)
        size, kind = (32, "PNG") if source.image_size == 32 else (84, "JPEG")
        kind = "PNG" if dataset == "tieredimagenet" else kind
        lists = source.splits(None)  # type: ignore[arg-type]  # these follow their lists
        result[dataset] = {
            split: forms.make_pictures(dict.fromkeys(sorted(names), few(dataset)), size, kind, seed)
            for seed, (split, names) in enumerate(lists.items())
        }
    return result


def few(dataset: str) -> int:
    return 1 if dataset == "tieredimagenet" else FEW


@pytest.fixture(autouse=True)
def small_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the datasets have a few images a class."""
    monkeypatch.setattr(cifar100, "IMAGES_PER_CLASS", FEW)
    monkeypatch.setattr(mini_imagenet, "IMAGES_PER_CLASS", FEW)
    monkeypatch.setattr(mini_imagenet, "IN_PARQUET", FEW)
    counts = {split: (classes, classes) for split, (classes, _) in tiered_imagenet.COUNTS.items()}
    monkeypatch.setattr(tiered_imagenet, "COUNTS", counts)


def write(folder: Path, dataset: str, form: str, pictures: dict[str, dict[str, forms.Pictures]]) -> Path:
    """Write a form into a folder that says nothing about it."""
    folder.mkdir(parents=True, exist_ok=True)
    FORMS[dataset][form][0](folder, pictures[dataset])
    return folder


Pack = Callable[[Path, Path], Path]


@pytest.mark.parametrize("pack", [None, forms.pack_zip, forms.pack_tar], ids=["folder", "zip", "tar.gz"])
@pytest.mark.parametrize(("dataset", "form"), ALL)
def test_every_form_gives_the_same_store(
    tmp_path: Path,
    pictures: dict[str, dict[str, forms.Pictures]],
    dataset: str,
    form: str,
    pack: Pack | None,
) -> None:
    source = write(tmp_path / "x", dataset, form, pictures)
    if pack:
        source = pack(source, tmp_path / "packed")
    (tmp_path / "y").mkdir()
    made = prepare(dataset, source, tmp_path / "y" / "store.h5")
    _, called, ordered = FORMS[dataset][form]
    kind = {None: "folder", forms.pack_zip: "zip", forms.pack_tar: "tar"}[pack]
    assert made.form == f"{called} ({kind})"
    assert verify_store(made.store).sha256 == made.sha256
    assert not list(made.store.parent.glob(".*"))  # nothing half-written
    with Store.open(made.store) as store:
        for split, own in pictures[dataset].items():
            expected, _ = forms.stacked(own)
            found = store.split(split).read()
            assert len(store.split(split).class_names) == len(own)
            if ordered:
                assert store.split(split).class_names == list(own)
                np.testing.assert_array_equal(found, expected)
            else:
                assert as_sets(found, few(dataset)) == as_sets(expected, few(dataset))


def as_sets(images: forms.Array, per_class: int) -> set[frozenset[bytes]]:
    classes = images.reshape(-1, per_class, *images.shape[1:])
    return {frozenset(image.tobytes() for image in own) for own in classes}


def test_forms_that_differ_say_so(tmp_path: Path, pictures: dict[str, dict[str, forms.Pictures]]) -> None:
    made = prepare(
        "miniimagenet", write(tmp_path / "x", "miniimagenet", "parquet", pictures), tmp_path / "s.h5"
    )
    assert "do not compare" in made.notes[0]


def test_photographs_of_other_sizes_are_squeezed(tmp_path: Path) -> None:
    lists = mini_imagenet.SOURCE.splits(None)  # type: ignore[arg-type]
    wide = Image.fromarray(np.tile(np.linspace(0, 255, 200).astype(np.uint8)[None, :, None], (100, 1, 3)))
    buffer = io.BytesIO()
    wide.save(buffer, "JPEG")
    splits = {
        split: {name: {f"{name}_{n}.JPEG": buffer.getvalue() for n in range(FEW)} for name in names}
        for split, names in lists.items()
    }
    forms.mini_imagenet_tree(tmp_path / "x", splits)
    with Store.open(prepare("miniimagenet", tmp_path / "x", tmp_path / "s.h5").store) as store:
        image = store.split("val").read()[0]
    assert image.shape == (84, 84, 3)
    assert image[40, 0, 0] < 10 and image[40, -1, 0] > 245  # from edge to edge


def test_the_other_split_is_named_and_taken_only_when_asked(tmp_path: Path) -> None:
    source, splits = tmp_path / "x", {"train": 60, "val": 16, "test": 24}
    (source / "images").mkdir(parents=True)
    for number, (split, classes) in enumerate(splits.items()):
        names = {f"n{number}{label:07}": FEW for label in range(classes)}
        rows = []
        for name, files in forms.make_pictures(names, 84, "JPEG").items():
            for file, data in files.items():
                (source / "images" / file).write_bytes(data)
                rows.append((file, name))
        forms.write_csv(source / f"{split}.csv", ("filename", "class"), rows)
    out = tmp_path / "store.h5"
    with pytest.raises(DataError, match=r"Vinyals et al\..*--other-split"):
        prepare("miniimagenet", source, out)
    assert not out.exists()
    made = prepare("miniimagenet", source, out, other_split=True)
    assert {split: own["classes"] for split, own in made.splits.items()} == splits
    assert "Vinyals" in made.form


def without(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        next(folder.rglob(name)).unlink()

    return change


def changed(name: str, change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = next(folder.rglob(name))
        value = pickle.loads(path.read_bytes())
        change(value)
        path.write_bytes(pickle.dumps(value))

    return apply


def twice(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = next(folder.rglob(name))
        shutil.copy(path, path.with_name("again-" + path.name))

    return change


WRONG: dict[str, tuple[str, str, Callable[[Path], None], str]] = {
    "official part": ("cifar-fs", "official", without("test"), "apple has 2 images, not 3"),
    "official label": (
        "cifar-fs",
        "official",
        changed("train", lambda v: v.update({b"fine_labels": [100, *v[b"fine_labels"][1:]]})),  # type: ignore[index]
        "the label 100",
    ),
    "official names": (
        "cifar-fs",
        "official",
        changed("train", lambda v: v.update({b"filenames": []})),
        "a file name for each image",
    ),
    "official shape": (
        "cifar-fs",
        "official",
        changed("train", lambda v: v.update({b"data": v[b"data"].astype(np.float32)})),  # type: ignore[attr-defined]
        "no images of 32 × 32",
    ),
    "splits part": ("cifar-fs", "splits", without("*val*"), "lacks val of CIFAR-FS"),
    "splits twice": ("cifar-fs", "splits", twice("*val*"), "val of CIFAR-FS more than once"),
    "splits labels": (
        "cifar-fs",
        "splits",
        changed("*val*", lambda v: v.update(labels=[label - 64 for label in v["labels"]])),  # type: ignore[attr-defined]
        "a label in two splits",
    ),
    "cache part": ("miniimagenet", "cache", without("*test*"), "lacks test of miniImageNet"),
    "cache twice": ("miniimagenet", "cache", twice("*test*"), "test of miniImageNet more than once"),
    "cache index": (
        "miniimagenet",
        "cache",
        changed("*val*", lambda v: v["class_dict"].update(n01855672=[0, 1, 9999])),  # type: ignore[attr-defined]
        "indices of images that are not there",
    ),
    "cache count": (
        "miniimagenet",
        "cache",
        changed("*val*", lambda v: v["class_dict"].update(n01855672=[0, 1])),  # type: ignore[attr-defined]
        "n01855672 has 2 images, not 3",
    ),
    "category": ("miniimagenet", "category split", without("*phase_train*"), "lacks train of miniImageNet"),
    "list": ("miniimagenet", "lists", without("val.csv"), "not exactly one CSV file of images for val"),
    "listed": ("miniimagenet", "lists", without("*.jpg"), "lists is not there"),
    "folder": ("miniimagenet", "split folders", without("*.jpg"), "has 2 images, not 3"),
    "labels": ("tieredimagenet", "png", without("val_labels.pkl"), "lacks images or labels of val"),
    "images": ("tieredimagenet", "npz", without("val_images.npz"), "lacks images or labels of val"),
    "one image": ("tieredimagenet", "class folders", without("*.png"), "lacks 1 of the"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_form_is_said(
    tmp_path: Path, pictures: dict[str, dict[str, forms.Pictures]], case: str
) -> None:
    dataset, form, change, sentence = WRONG[case]
    source = write(tmp_path / "x", dataset, form, pictures)
    change(source)
    with pytest.raises(DataError, match=sentence) as error:
        prepare(dataset, source, tmp_path / "store.h5")
    assert "\n" not in str(error.value) and str(source) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_hostile_pickle_among_the_parts_is_named(
    tmp_path: Path, pictures: dict[str, dict[str, forms.Pictures]]
) -> None:
    source = write(tmp_path / "x", "miniimagenet", "cache", pictures)
    target = tmp_path / "it-ran"
    bad = f"cos\nsystem\n(S'touch {target}'\ntR.".encode()
    (source / "notes.pkl").write_bytes(b"\x80\x02" + bad)  # a stranger does no harm
    prepare("miniimagenet", source, tmp_path / "one.h5")
    for path in source.glob("mini*"):
        path.write_bytes(b"\x80\x02" + bad)
    with pytest.raises(DataError, match=r"asks for os\.system"):
        prepare("miniimagenet", source, tmp_path / "two.h5")
    assert not target.exists()


def test_classes_of_one_name_are_kept_apart(
    tmp_path: Path, pictures: dict[str, dict[str, forms.Pictures]]
) -> None:
    source = write(tmp_path / "x", "tieredimagenet", "png", pictures)
    for split, at in (("train", 3), ("train", 9), ("test", 5)):
        rename = changed(
            f"{split}_labels.pkl", lambda v, at=at: v["label_specific_str"].__setitem__(at, "crane")
        )  # type: ignore[misc,attr-defined]
        rename(source)
    with Store.open(prepare("tieredimagenet", source, tmp_path / "s.h5").store) as store:
        assert {"crane", "crane (2)"} <= set(store.split("train").class_names)
        assert "crane (3)" in store.split("test").class_names


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, pictures: dict[str, dict[str, forms.Pictures]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "x", "cifar-fs", "parquet", pictures)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r'pip install "pamela-cli\[parquet\]"'):
        prepare("cifar-fs", source, tmp_path / "s.h5")


def damage(folder: Path, data: st.DataObject) -> None:
    """Cut, flip or swap bytes of one file of a form."""
    path = data.draw(st.sampled_from(sorted(path for path in folder.rglob("*") if path.is_file())))
    content = bytearray(path.read_bytes())
    # The start and the end of a file say what is in between.
    end = max(len(content) - 1, 0)
    place = st.one_of(st.integers(0, min(400, end)), st.integers(max(end - 400, 0), end), st.integers(0, end))
    at, other = data.draw(place), data.draw(place)
    match data.draw(st.sampled_from(["cut", "flip", "swap"])):
        case "cut":
            del content[at:]
        case "flip" if content:
            content[at] ^= data.draw(st.integers(1, 255))
        case "swap" if content:
            content[at], content[other] = content[other], content[at]
    path.write_bytes(content)


def check_damaged(folder: Path, dataset: str, source: Path, data: st.DataObject) -> None:
    work = folder / "damaged"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(source, work / "x")
    for _ in range(data.draw(st.integers(1, 3))):
        damage(work / "x", data)
    made: Prepared | None = None
    try:
        made = prepare(dataset, work / "x", work / "store.h5")
    except DataError as error:
        assert "\n" not in str(error) and str(error).endswith((".", "…"))
        assert [path.name for path in work.iterdir()] == ["x"]
    if made:
        assert verify_store(made.store).sha256 == made.sha256


FUZZED = [("cifar-fs", form) for form in ("official", "parquet", "splits")] + [
    ("miniimagenet", form) for form in ("cache", "cache of Python 2", "category split", "lists", "parquet")
]
FUZZED += [("tieredimagenet", form) for form in ("png", "npz", "packed npz")]
FUZZ = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture], "derandomize": True}


@pytest.fixture(scope="session")
def written(
    tmp_path_factory: pytest.TempPathFactory, pictures: dict[str, dict[str, forms.Pictures]]
) -> Callable[[str, str], Path]:
    """Return what writes a form once."""
    folder = tmp_path_factory.mktemp("forms")

    def get(dataset: str, form: str) -> Path:
        path = folder / dataset / form
        return path if path.exists() else write(path, dataset, form, pictures)

    return get


@pytest.mark.parametrize(("dataset", "form"), FUZZED)
def test_damaged_forms_never_surprise(
    tmp_path: Path, written: Callable[[str, str], Path], dataset: str, form: str
) -> None:
    @settings(max_examples=8, **FUZZ)  # type: ignore[arg-type]
    @given(st.data())
    def check(data: st.DataObject) -> None:
        check_damaged(tmp_path, dataset, written(dataset, form), data)

    check()


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("dataset", "form"), FUZZED)
def test_damaged_forms_never_surprise_for_long(
    tmp_path: Path, written: Callable[[str, str], Path], dataset: str, form: str
) -> None:
    @settings(max_examples=100, **FUZZ)  # type: ignore[arg-type]
    @given(st.data())
    def check(data: st.DataObject) -> None:
        check_damaged(tmp_path, dataset, written(dataset, form), data)

    check()


@pytest.mark.slow
def test_the_official_pickles_equal_the_real_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar100, "IMAGES_PER_CLASS", 600)
    archive_path = shared_data("cifar100.zip")
    pictures: forms.Pictures = {name: {} for name in cifar100.class_names()}
    with zipfile.ZipFile(archive_path) as archive:
        for name in archive.namelist():
            if name.endswith(".png"):
                pictures[name.split("/")[-2]][name.split("/")[-1]] = archive.read(name)
    forms.cifar_official(tmp_path / "x", {"all": pictures})
    packed = forms.pack_tar(tmp_path / "x", tmp_path / "cifar-100-python.tar.gz")
    for dataset in ("cifar-fs", "fc100"):
        stores = [
            prepare(dataset, source, tmp_path / f"{number}.h5", force=True)
            for number, source in enumerate((archive_path, tmp_path / "x", packed))
        ]
        assert len({made.sha256 for made in stores}) == 1
