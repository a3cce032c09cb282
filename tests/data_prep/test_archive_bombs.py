"""Archives that say what is not true: nothing grows, hangs or surprises."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from data_prep_support import write_zip
from peak_memory import MIB, growth_below

from data_prep import DataError
from data_prep.archives import MAX_MEMBER_BYTES, Tree, open_tree


@pytest.fixture
def small_growth() -> Iterator[None]:
    with growth_below(60 * MIB):
        yield


def open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def zeros(path: Path, method: int, size: int) -> Path:
    """Write a zip whose member has nothing but zeros, block by block."""
    member = zipfile.ZipInfo("a.png")
    member.compress_type = method
    with zipfile.ZipFile(path, "w") as archive, archive.open(member, "w") as file:
        for _ in range(size // MIB):
            file.write(bytes(MIB))
    return path


def changed_directory(path: Path, at: int, data: bytes) -> Path:
    """Change what the directory of a zip says of its first member."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    content[start + at : start + at + len(data)] = data
    path.write_bytes(content)
    return path


FLAGS, METHOD, PACKED_SIZE, SIZE, PLACE = 8, 10, 20, 24, 42

READS: dict[str, Callable[[Tree], object]] = {
    "read": lambda tree: tree.read("a.png"),
    "head": lambda tree: tree.head("a.png", 4),
    "open": lambda tree: tree.open("a.png").read(),
}


@pytest.mark.usefixtures("small_growth")
@pytest.mark.parametrize("how", READS)
def test_a_zip_is_not_unpacked_beyond_the_size_that_it_says(tmp_path: Path, how: str) -> None:
    path = zeros(tmp_path / "lie.zip", zipfile.ZIP_DEFLATED, 80 * MIB)
    changed_directory(path, SIZE, struct.pack("<I", 100))
    with open_tree(path) as tree, pytest.raises(DataError, match=r"a\.png cannot be read \(Bad CRC-32"):
        READS[how](tree)


@pytest.mark.parametrize("how", READS)
@pytest.mark.parametrize(
    ("method", "said"), [(12, "bzip2"), (14, "LZMA"), (9, "Deflate64"), (77, "method 77")]
)
def test_other_compression_is_refused(tmp_path: Path, how: str, method: int, said: str) -> None:
    path = write_zip(tmp_path / "x.zip", {"a.png": b"image"})
    changed_directory(path, METHOD, struct.pack("<H", method))
    with open_tree(path) as tree, pytest.raises(DataError, match=rf"a\.png is compressed with {said},"):
        READS[how](tree)


@pytest.mark.parametrize("how", READS)
def test_encrypted_members_are_refused(tmp_path: Path, how: str) -> None:
    path = changed_directory(write_zip(tmp_path / "x.zip", {"a.png": b"image"}), FLAGS, b"\1")
    with open_tree(path) as tree, pytest.raises(DataError, match=r"a\.png is encrypted; zip it again"):
        READS[how](tree)


@pytest.mark.parametrize("how", READS)
@pytest.mark.parametrize(
    "change",
    [
        {SIZE: struct.pack("<I", 2**31)},
        {PACKED_SIZE: struct.pack("<I", 2**31), SIZE: struct.pack("<I", 2**31)},
        {PLACE: struct.pack("<I", 2**31)},
    ],
)
def test_members_of_a_zip_lie_in_it(tmp_path: Path, how: str, change: dict[int, bytes]) -> None:
    path = write_zip(tmp_path / "x.zip", {"a.png": b"image" * 100})
    for at, data in change.items():
        changed_directory(path, at, data)
    with open_tree(path) as tree, pytest.raises(DataError, match=r"a\.png has an impossible size"):
        READS[how](tree)


def test_members_of_a_zip_are_unpacked_to_one_file_within_one_budget(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(300):
            archive.writestr(f"{number:03}.pkl", bytes([number % 256]) * 1000)
        for number in range(8):
            archive.writestr(f"bomb{number}.pkl", bytes(20 * MIB))
    files = open_files()
    with open_tree(tmp_path / "x.zip") as tree:
        opened = {number: tree.open(f"{number:03}.pkl") for number in range(300)}
        assert open_files() <= files + 2
        assert all(file.read() == bytes([number % 256]) * 1000 for number, file in opened.items())
        with pytest.raises(DataError, match=r"bomb\d\.pkl unpacks to more than 100 times"):
            for number in range(8):
                tree.open(f"bomb{number}.pkl")


def header(size: bytes, kind: bytes = b"0", more: Callable[[bytearray], None] | None = None) -> bytes:
    block = bytearray(512)
    block[:8], block[100:108], block[108:124] = b"c0/a.png", b"0000644\0", b"0000000\0" * 2
    block[124:136], block[136:148], block[156:157] = size, b"00000000000\0", kind
    block[257:265] = b"ustar\x0000"
    if more:
        more(block)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def octal(size: int) -> bytes:
    return b"%011o\0" % size


def binary(size: int) -> bytes:
    return (b"\xff" if size < 0 else b"\x80") + (size % 256**11).to_bytes(11, "big")


def records(data: bytes, kind: bytes = b"x") -> bytes:
    return header(octal(len(data)), kind) + data + bytes(-len(data) % 512)


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    size = len(body) + 1
    while size != len(body) + len(str(size)):
        size = len(body) + len(str(size))
    return b"%d" % size + body


def holes(block: bytearray) -> None:
    block[257:265] = b"ustar  \0"
    block[386:410] = octal(0) + octal(512)
    block[482] = 1  # more of the map follows


def terabyte(block: bytearray) -> None:
    block[257:265] = b"ustar  \0"
    block[386:434] = binary(0) + binary(4) + binary(1 << 40) + binary(0)
    block[483:495] = binary(1 << 40)


GOOD = tarfile.TarInfo("good.png").tobuf()
END = bytes(1024)
TARS = {
    "negative size": header(binary(-512)) + END,
    "negative size in records": records(record(b"size", b"-1536")) + header(octal(0)) + END,
    "huge size": header(binary(1 << 62)) + END,
    "absurd size": header(binary(1 << 80)) + END,
    "huge size in records": records(record(b"size", b"1" + b"0" * 15)) + header(octal(4)) + b"data" + END,
    **{
        f"header {kind!r} of 2^{power}": header(binary(1 << power), kind) + END
        for kind in (b"L", b"K", b"x", b"g", b"X")
        for power in (20, 62, 80)
    },
    "map that is cut": header(octal(512), b"S", holes),
    "records within each other": records(b"".join(b"3 a" for _ in range(20_000))) + header(octal(0)) + END,
    "digits": records(record(b"comment", b"1" * 60_000)) + header(octal(0)) + END,
    "digits alone": records(b"1" * 60_000) + header(octal(0)) + END,
    "records of records": records(record(b"comment", b"x")) * 5_000 + header(octal(0)) + END,
    "damaged header": b"x" * 512 + END,
}


@pytest.mark.timeout(20)
@pytest.mark.usefixtures("small_growth")
@pytest.mark.parametrize("first", [b"", GOOD])
@pytest.mark.parametrize("kind", TARS)
def test_headers_of_a_tar_are_not_believed(tmp_path: Path, kind: str, first: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(first + TARS[kind])
    if kind == "damaged header" and not first:
        return  # this is no tar
    with pytest.raises(DataError, match=r"x\.tar cannot be read"):
        open_tree(tmp_path / "x.tar")


@pytest.mark.parametrize("gzipped", [False, True])
def test_holes_of_a_tar_are_not_filled(tmp_path: Path, gzipped: bool) -> None:
    data = GOOD + header(octal(4), b"S", terabyte) + b"data" + bytes(508) + END
    (tmp_path / "x.tar").write_bytes(gzip.compress(data) if gzipped else data)
    with open_tree(tmp_path / "x.tar") as tree:
        assert tree.names() == ["c0/a.png", "good.png"] and tree.read("good.png") == b""
        for read in (tree.read, tree.open):
            with pytest.raises(DataError, match="sparse file; create the archive again without --sparse"):
                read("c0/a.png")


def test_a_tar_that_is_cut_is_not_taken_for_a_shorter_one(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(3):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = 600
            archive.addfile(member, io.BytesIO(bytes(600)))
    for end in (512 + 1024 + 100, 512 + 1024 + 512 + 100):  # in a header, in a file
        (tmp_path / "x.tar").write_bytes(buffer.getvalue()[:end])
        with pytest.raises(DataError, match=r"x\.tar cannot be read"):
            open_tree(tmp_path / "x.tar")
    (tmp_path / "x.tar").write_bytes(buffer.getvalue()[: 3 * (512 + 1024)])  # but the end mark may be missing
    with open_tree(tmp_path / "x.tar") as tree:
        assert len(tree.names()) == 3
        (fault,) = tree.unreadable
        assert "no mark of its end: it may be cut short" in str(fault)
    (tmp_path / "x.tar").write_bytes(buffer.getvalue())
    with open_tree(tmp_path / "x.tar") as tree:
        assert len(tree.names()) == 3 and not tree.unreadable


def test_records_for_all_members_are_few(tmp_path: Path) -> None:
    """Each member goes through all of them."""
    for count, message in ((900, None), (1100, "more than 1000 records for all members")):
        headers = {f"a{i}": "x" for i in range(count)}
        with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
            archive.addfile(tarfile.TarInfo("0.png"), io.BytesIO())
        if message is None:
            with open_tree(tmp_path / "x.tar") as tree:
                assert tree.names() == ["0.png"]
        else:
            with pytest.raises(DataError, match=message):
                open_tree(tmp_path / "x.tar")


def test_gzip_that_is_no_tar_is_not_unpacked(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "notes.csv.gz", "wb", 1) as file:
        for _ in range(3 * MAX_MEMBER_BYTES // MIB):
            file.write(bytes(MIB))
    with open_tree(tmp_path / "notes.csv.gz") as tree:
        assert tree.kind == "file"
