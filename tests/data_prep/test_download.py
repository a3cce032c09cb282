"""Downloads: the cache, mirrors, and what turns out to be something else; all from 127.0.0.1."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from data_prep_support import omniglot_files, write_zip
from loopback import DATA, MD5, Script, files_of

from data_prep import DataError, prepare, verify_store
from data_prep.download import DownloadOptions, discard, fetch
from data_prep.errors import WrongUsage
from data_prep.sources import omniglot
from data_prep.sources.remote import REMOTE, RemoteFiles

pytestmark = pytest.mark.usefixtures("only_loopback")


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Script, options: DownloadOptions) -> None:
    for checksum in (MD5, None):
        path = fetch("some", files_of(server, checksum), options, None)
        path.write_bytes(DATA[:-1] + b"?")
        with pytest.raises(DataError, match="and --offline"):
            fetch("some", files_of(server, checksum), replace(options, offline=True), None)
        assert fetch("some", files_of(server, checksum), options, None).read_bytes() == DATA
        path.unlink()


def test_offline_takes_what_is_there_and_asks_nobody(server: Script, options: DownloadOptions) -> None:
    offline = replace(options, offline=True)
    with pytest.raises(DataError, match=rf"--offline forbids .* from {server.address}data\.bin"):
        fetch("some", files_of(server), offline, None)
    (options.cache / "some").mkdir(parents=True)
    (options.cache / "some" / "data.bin").write_bytes(DATA)  # put there by hand
    for checksum in (MD5, None):
        assert fetch("some", files_of(server, checksum), offline, None).read_bytes() == DATA
    assert server.log == []


def test_only_what_was_downloaded_unchecked_is_discarded(server: Script, options: DownloadOptions) -> None:
    for checksum, by_hand, kept in ((MD5, False, True), (None, True, True), (None, False, False)):
        remote = replace(files_of(server, checksum), folder=f"{checksum}-{by_hand}".replace(":", "-"))
        path = options.cache / remote.folder / "data.bin"
        if by_hand:
            path.parent.mkdir(parents=True)
            path.write_bytes(DATA)
        assert fetch("some", remote, options, None) == path
        discard(remote, options)
        assert list(path.parent.iterdir()) == [path] * kept


def test_mirrors_are_asked_in_order_and_instead(server: Script, options: DownloadOptions) -> None:
    server.files = {"/second/data.bin": DATA}
    mirrors = (server.address + "first/", server.address + "second/")
    remote = replace(files_of(server), address="http://published.example/")
    assert fetch("some", remote, replace(options, mirrors=mirrors), None).read_bytes() == DATA
    assert [path for path, _ in server.log] == ["/first/data.bin", "/second/data.bin"]
    server.files.clear()
    with pytest.raises(DataError, match=r"first/data\.bin .*404.* or .*second/data\.bin .*404"):
        fetch("else", replace(remote, folder="else"), replace(options, mirrors=mirrors), None)


def test_several_files_make_a_folder(server: Script, options: DownloadOptions) -> None:
    server.files["/b.bin"] = b"b"
    remote = RemoteFiles("two", server.address, {"data.bin": MD5, "b.bin": None})
    assert fetch("two", remote, options, None) == options.cache / "two"
    assert (options.cache / "two" / "b.bin").read_bytes() == b"b"


def test_settings_come_from_flag_or_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert DownloadOptions.from_environment().mirrors == ()
    assert DownloadOptions.from_environment().cache.name == "pamela"
    monkeypatch.setenv("PAMELA_MIRROR", "http://a.example/x https://b.example/,http://c.example")
    monkeypatch.setenv("PAMELA_CACHE_DIR", str(tmp_path))
    found = DownloadOptions.from_environment(offline=True)
    assert found.mirrors == ("http://a.example/x/", "https://b.example/", "http://c.example/")
    assert (found.cache, found.offline) == (tmp_path, True)
    assert DownloadOptions.from_environment("http://d.example").mirrors == ("http://d.example/",)
    for wrong in ("ftp://a.example", "mirror", "http:///x"):
        with pytest.raises(DataError, match="begins with http"):
            DownloadOptions.from_environment(wrong)


def test_a_cache_that_cannot_be_written_is_said(server: Script, options: DownloadOptions) -> None:
    options.cache.write_text("a file")
    with pytest.raises(DataError, match=r"The cache .* cannot be used .*PAMELA_CACHE_DIR"):
        fetch("some", files_of(server), options, None)


def test_prepare_downloads_omniglot(server: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(omniglot, "_DRAWINGS", 1)
    monkeypatch.setenv("PAMELA_CACHE_DIR", str(tmp_path / "cache"))
    checksums: dict[str, str | None] = {}
    for part in ("background", "evaluation"):
        name = f"images_{part}.zip"
        data = write_zip(tmp_path / name, omniglot_files(part)).read_bytes()
        server.files[f"/{name}"] = data
        checksums[name] = "md5:" + hashlib.md5(data).hexdigest()
    monkeypatch.setitem(REMOTE, "omniglot", RemoteFiles("omniglot", "http://published.example/", checksums))
    seen: list[str] = []
    made = prepare(
        "omniglot",
        None,
        tmp_path / "o.h5",
        mirror=server.address,
        progress=lambda stage, *_: seen.append(stage),
    )
    verify_store(made.store)
    assert list(dict.fromkeys(seen)) == [
        "download images_background.zip",
        "download images_evaluation.zip",
        "train",
        "val",
        "test",
    ]
    assert prepare("omniglot", None, tmp_path / "again.h5", offline=True).sha256 == made.sha256
    assert len(server.log) == 2


def test_what_turns_out_to_be_something_else_does_not_stay(
    server: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAMELA_CACHE_DIR", str(tmp_path / "cache"))
    remote = RemoteFiles("omniglot", server.address, {"data.bin": None})
    monkeypatch.setitem(REMOTE, "omniglot", remote)
    with pytest.raises(DataError, match="The files downloaded for omniglot cannot be used") as error:
        prepare("omniglot", None, tmp_path / "o.h5")
    assert "\n" not in str(error.value) and "`pamela prepare omniglot SOURCE`" in str(error.value)
    assert list((tmp_path / "cache" / "omniglot").iterdir()) == []
    assert not (tmp_path / "o.h5").exists()


def test_what_turns_out_to_be_broken_at_its_last_image_does_not_stay(
    server: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAMELA_CACHE_DIR", str(tmp_path / "cache"))
    files = omniglot_files("background") | omniglot_files("evaluation")
    monkeypatch.setattr(omniglot, "_DRAWINGS", 1)
    bad = dict(files) | {max(files): b"no image"}
    monkeypatch.setitem(REMOTE, "omniglot", RemoteFiles("omniglot", server.address, {"data.bin": None}))
    server.files["/data.bin"] = write_zip(tmp_path / "bad.zip", bad).read_bytes()
    with pytest.raises(DataError, match=r"is broken .*; run the command again to download them anew"):
        prepare("omniglot", None, tmp_path / "o.h5")
    assert list((tmp_path / "cache" / "omniglot").iterdir()) == []
    server.files["/data.bin"] = write_zip(tmp_path / "good.zip", files).read_bytes()
    assert prepare("omniglot", None, tmp_path / "o.h5").splits["train"]["classes"] == 1028


def test_what_is_no_fault_of_a_download_leaves_it(
    server: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAMELA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(omniglot, "_DRAWINGS", 1)
    files = omniglot_files("background") | omniglot_files("evaluation")
    server.files["/data.bin"] = write_zip(tmp_path / "good.zip", files).read_bytes()
    monkeypatch.setitem(REMOTE, "omniglot", RemoteFiles("omniglot", server.address, {"data.bin": None}))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="file is a file, not a folder"):
        prepare("omniglot", None, tmp_path / "file" / "o.h5")
    assert (tmp_path / "cache" / "omniglot" / "data.bin").exists()


@pytest.mark.parametrize("options", [{}, {"offline": True}])
def test_a_dataset_without_a_download_needs_its_source(tmp_path: Path, monkeypatch, options) -> None:
    monkeypatch.delitem(REMOTE, "omniglot")
    with pytest.raises(WrongUsage, match=r"omniglot has no download; pass its images: .* omniglot SOURCE`"):
        prepare("omniglot", None, tmp_path / "omniglot.h5", **options)
    assert list(tmp_path.iterdir()) == []
