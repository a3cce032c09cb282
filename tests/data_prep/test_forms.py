"""Every form of a dataset, made from the same images, gives the same store."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import forms_cifar
import forms_imagenet
import forms_support as forms
import numpy as np
import pytest
from data_prep_support import shared_data
from known_forms import ALL, FEW, FORMS, AllPictures, changed, few, write
from PIL import Image

from data_prep import DataError, Store, prepare, verify_store
from data_prep.sources import cifar100
from data_prep.sources.base import read_split_lists

pytestmark = pytest.mark.usefixtures("small_datasets")

Pack = Callable[[Path, Path], Path]


@pytest.mark.parametrize("pack", [None, forms.pack_zip, forms.pack_tar], ids=["folder", "zip", "tar.gz"])
@pytest.mark.parametrize(("dataset", "form"), ALL)
def test_every_form_gives_the_same_store(
    tmp_path: Path,
    pictures: AllPictures,
    written: Callable[[str, str], Path],
    expected: Callable[[str, str], forms.Array],
    dataset: str,
    form: str,
    pack: Pack | None,
) -> None:
    source = written(dataset, form)
    if pack:
        source = pack(source, tmp_path / "packed")
    made = prepare(dataset, source, tmp_path / "y" / "store.h5")
    _, called, ordered = FORMS[dataset][form]
    kind = {None: "folder", forms.pack_zip: "zip", forms.pack_tar: "tar"}[pack]
    assert made.form == f"{called} ({kind})"
    assert verify_store(made.store).sha256 == made.sha256
    assert not list(made.store.parent.glob(".*"))  # nothing half-written
    with Store.open(made.store) as store:
        for split, own in pictures[dataset].items():
            images = expected(dataset, split)
            found = store.split(split).read()
            assert len(store.split(split).class_names) == len(own)
            if ordered:
                assert store.split(split).class_names == list(own)
                np.testing.assert_array_equal(found, images)
            else:
                assert as_sets(found, few(dataset)) == as_sets(images, few(dataset))


def as_sets(images: forms.Array, per_class: int) -> set[frozenset[bytes]]:
    classes = images.reshape(-1, per_class, *images.shape[1:])
    return {frozenset(image.tobytes() for image in own) for own in classes}


def test_forms_that_differ_say_so(tmp_path: Path, pictures: AllPictures) -> None:
    made = prepare(
        "miniimagenet", write(tmp_path / "x", "miniimagenet", "parquet", pictures), tmp_path / "s.h5"
    )
    assert "are not comparable" in made.notes[0]


def test_photographs_of_other_sizes_are_squeezed(tmp_path: Path) -> None:
    lists = read_split_lists("mini_imagenet")
    wide = Image.fromarray(np.tile(np.linspace(0, 255, 200).astype(np.uint8)[None, :, None], (100, 1, 3)))
    buffer = io.BytesIO()
    wide.save(buffer, "JPEG")
    splits = {
        split: {name: {f"{name}_{n}.JPEG": buffer.getvalue() for n in range(FEW)} for name in names}
        for split, names in lists.items()
    }
    forms_imagenet.mini_imagenet_tree(tmp_path / "x", splits)
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


def test_classes_of_one_name_are_kept_apart(tmp_path: Path, pictures: AllPictures) -> None:
    source = write(tmp_path / "x", "tieredimagenet", "png", pictures)
    for split, at in (("train", 3), ("train", 9), ("test", 5)):
        rename = changed(
            f"{split}_labels.pkl", lambda v, at=at: v["label_specific_str"].__setitem__(at, "crane")
        )  # type: ignore[misc,attr-defined]
        rename(source)
    with Store.open(prepare("tieredimagenet", source, tmp_path / "s.h5").store) as store:
        assert {"crane", "crane (2)"} <= set(store.split("train").class_names)
        assert "crane (3)" in store.split("test").class_names


@pytest.mark.slow
def test_the_official_pickles_equal_the_real_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar100, "IMAGES_PER_CLASS", 600)
    archive_path = shared_data("cifar100.zip")
    pictures: forms.Pictures = {name: {} for name in cifar100.class_names()}
    with zipfile.ZipFile(archive_path) as archive:
        for name in archive.namelist():
            if name.endswith(".png"):
                pictures[name.split("/")[-2]][name.split("/")[-1]] = archive.read(name)
    forms_cifar.cifar_official(tmp_path / "x", {"all": pictures})
    packed = forms.pack_tar(tmp_path / "x", tmp_path / "cifar-100-python.tar.gz")
    for dataset in ("cifar-fs", "fc100"):
        stores = [
            prepare(dataset, source, tmp_path / f"{number}.h5", force=True)
            for number, source in enumerate((archive_path, tmp_path / "x", packed))
        ]
        assert len({made.sha256 for made in stores}) == 1
