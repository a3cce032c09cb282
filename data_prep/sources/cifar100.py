"""CIFAR-100, which CIFAR-FS and FC100 split in two ways: its classes, and the forms it comes in."""

from data_prep.archives import Tree
from data_prep.forms import Collection, Form
from data_prep.forms.class_folders import ClassFolders, check_counts, find_class_folders
from data_prep.images import Decoding
from data_prep.sources.base import read_list

IMAGE_SIZE = 32
IMAGES_CITATION = "Images: Krizhevsky: Learning multiple layers of features from tiny images. 2009."
ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
TERMS = "Research use; the images are from the 80 Million Tiny Images collection, which has been withdrawn."

_IMAGES_PER_CLASS = 600


def superclasses() -> dict[str, list[str]]:
    """Return the five classes of each of the 20 superclasses."""
    lines = (line.split(": ") for line in read_list("cifar100/superclasses.txt"))
    return {name: members.split() for name, members in lines}


def find_png_folders(tree: Tree) -> Collection | None:
    """Find <anything>/<class>/*.png for the 100 classes, official train and test parts joined."""
    classes = [name for members in superclasses().values() for name in members]
    files = find_class_folders(tree, classes, ".png", "CIFAR-100")
    if files is None:
        return None
    check_counts(tree, files, _IMAGES_PER_CLASS)
    decoding = Decoding(size=IMAGE_SIZE, channels=3, formats=("PNG",), native=IMAGE_SIZE)
    return ClassFolders(f"class folders of PNG files ({tree.kind})", tree, files, decoding)


FORMS: tuple[Form, ...] = (find_png_folders,)
