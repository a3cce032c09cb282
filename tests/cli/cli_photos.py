"""Tasks as folders of images, as somebody has them who wants labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli_support import Result
from PIL import Image

from data_prep import Store

Predict = Callable[..., Result]
CLASSES = [f"class{label:02}" for label in range(5)]


def save(images: Any, folder: Path) -> None:
    """Write images uint8 (N, H, W, 1 or 3) as PNG files 000.png, 001.png …"""
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image.squeeze()).save(folder / f"{number:03}.png")


def write_task(store: Store, task: int, folder: Path, shot: int = 1) -> None:
    """Write a frozen test task as folders ``support`` and ``query`` of class folders."""
    split = store.split("test")
    rows = split.episodes(5, shot)
    assert rows is not None
    images = split.read()
    for name, row in zip(CLASSES, rows[task], strict=True):
        save(images[row[:shot]], folder / "support" / name)
        save(images[row[shot:]], folder / "query" / name)
