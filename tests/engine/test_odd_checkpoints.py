"""Files that are no checkpoint, or a damaged one: never taken for one."""

import json
from pathlib import Path

import pytest
from checkpoint_support import TENSOR_FILES, conv_learner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pamela_cli.engine.checkpoint import FORMAT, Checkpoint, CheckpointError, largest

FILE_SETTINGS = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_and_restore(path: Path) -> bool:
    """Whether the file is used; any other error than CheckpointError is one of the test."""
    try:
        Checkpoint.read(path).restore(conv_learner())
    except CheckpointError:
        return False
    return True


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"not a checkpoint",
        b"\x00" * 100,
        b"\xff" * 100,
        b"PK\x03\x04 a zip file",
        b"\x80\x04\x95.",
    ],
)
def test_another_kind_of_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"odd\.safetensors is not a readable checkpoint"):
        Checkpoint.read(path)


@given(st.binary(max_size=200))
@FILE_SETTINGS
def test_random_bytes_are_refused(tmp_path, content):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        Checkpoint.read(path)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        Checkpoint.read(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError):
        Checkpoint.read(tmp_path)


def test_a_file_cut_short_anywhere_is_refused(written):
    whole = written.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for length in [*range(0, header, 97), header - 1, header, header + 1, len(whole) // 2, len(whole) - 1]:
        written.write_bytes(whole[:length])
        assert not read_and_restore(written), f"cut to {length} of {len(whole)} bytes"


def test_a_file_with_bytes_behind_it_is_refused(written):
    written.write_bytes(written.read_bytes() + b"\x00")
    assert not read_and_restore(written)


def test_a_flipped_bit_in_the_header_raises_nothing_but_checkpoint_errors(written):
    whole = written.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    used = 0
    for place in range(header):
        bit = place % 8
        written.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        used += read_and_restore(written)
    # A space between JSON values may become another one; nothing that means something may change unseen.
    assert used <= 3


def test_a_flipped_bit_in_the_tensors_is_noticed(written):
    whole = written.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for place in range(header, len(whole), 7):
        written.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match="is damaged: its checksum does not match"):
            Checkpoint.read(written)


def safetensors_with(metadata: dict[str, str] | None, path: Path, written: Path) -> Path:
    save_file(load_file(written), path, metadata)
    return path


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"other": "tool"},
        {"pamela": "no JSON"},
        {"pamela": "[]"},
        {"pamela": "null"},
        {"pamela": "3"},
        {"pamela": "{}"},
        {"pamela": json.dumps({"format": FORMAT})},
        {"pamela": json.dumps({"format": "pamela checkpoint 3", "progress": {}})},
        {"pamela": json.dumps({"format": 1, "progress": {}})},
    ],
    ids=str,
)
def test_safetensors_of_other_tools_and_versions_are_refused(tmp_path, written, metadata):
    with pytest.raises(CheckpointError, match=r"odd\.safetensors is not"):
        Checkpoint.read(safetensors_with(metadata, tmp_path / "odd.safetensors", written))


def test_another_version_is_named_as_such(tmp_path, written):
    metadata = {"pamela": json.dumps({"format": "pamela checkpoint 3", "progress": {}})}
    path = safetensors_with(metadata, tmp_path / "odd.safetensors", written)
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        Checkpoint.read(path)


@pytest.mark.parametrize("kind", TENSOR_FILES)
def test_tensor_files_of_strangers_are_refused(tmp_path, kind):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(TENSOR_FILES[kind])
    for rule in (None, conv_learner().rule):
        with pytest.raises(CheckpointError, match=r"odd\.safetensors"):
            Checkpoint.read(path, rule)


def test_a_file_larger_than_the_learner_is_refused(tmp_path, written):
    """At least twice the largest: a learner has θ alone, and Adam's moments of it."""
    small = conv_learner("maml", None, way=2).rule
    assert Checkpoint.read(written, conv_learner().rule)
    with written.open("ab") as file:
        file.truncate(2 * largest(small) + (2 << 20))
    with pytest.raises(CheckpointError, match=r"it has [0-9,]+ bytes, but such a file has at most"):
        Checkpoint.read(written, small)
