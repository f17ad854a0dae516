"""Folders of images, a folder for each class: parts and classes are what the folders are called, nothing else."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..._support.errors import MinimandError
from ..data import Data
from .images import Undecoded, data_of_images
from .pictures import read_bytes, shown, suffixes
from .splitting import PARTS, as_parts, visible

_NAMED = 3  # the most files left out that a note names


def picture_files(folder: Path) -> list[Path]:
    """The images in a folder and the folders in it, hidden ones left out, in the order of their names.

    Raises MinimandError where there are none.
    """
    files = [Path(file) for file in _Reader(folder).images_below(folder)]
    if not files:
        raise MinimandError(f"the folder {shown(folder)!r} has no images; expected some, such as .png or .jpg files.")
    return files


@dataclass(frozen=True)
class ImageFiles(Undecoded):
    """Images in files of their own."""

    files: list[str]
    labels: Tensor

    def content(self, i: int) -> bytes:
        return read_bytes(self.files[i])

    def where(self, i: int) -> str:
        return shown(self.files[i])


@dataclass
class _Reader:
    """Looks for images below folders, and keeps what it leaves out, by reason."""

    place: Path
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, reason: str, path: Path | str) -> None:
        self.left_out.setdefault(reason, []).append(shown(os.path.relpath(path, self.place)))

    def images_below(self, folder: Path) -> list[str]:
        """The image files below a folder, at any depth; links are followed, but never back to where they stand."""
        visited = {_identity(above) for above in (*self.place.resolve().parents, self.place, folder)}
        images: list[str] = []
        waiting = [folder]
        while waiting:
            for path in visible(waiting.pop()):
                try:
                    mode = path.stat().st_mode
                except OSError:
                    self.leave_out("links to nothing", path)
                    continue
                if stat.S_ISDIR(mode):
                    if _identity(path) in visited:
                        self.leave_out("links to folders that are read already", path)
                    else:
                        visited.add(_identity(path))
                        waiting.append(path)
                elif path.suffix.lower() not in suffixes() or not stat.S_ISREG(mode):
                    self.leave_out("files that are no images", path)
                else:
                    images.append(str(path))
        return sorted(images)

    def by_class(self, folder: Path) -> dict[str, list[str]]:
        """The images of each class: of each folder in a folder that has any."""
        classes: dict[str, list[str]] = {}
        for path in visible(folder):
            if not path.is_dir():
                self.leave_out("files beside the folders of classes", path)
            elif images := self.images_below(path):
                classes[shown(path.name)] = images
            else:
                self.leave_out("folders without images", path)
        return classes

    def notes(self) -> tuple[str, ...]:
        """A sentence about what was left out, for each reason."""
        return tuple(
            f"left out, as {reason}: {', '.join(names[:_NAMED])}"
            + (f" and {len(names) - _NAMED:,} more." if len(names) > _NAMED else ".")
            for reason, names in self.left_out.items()
        )


def image_folder(data_folder: str, image_size: int | None = None) -> Data:
    """A folder with a folder of images per class; or such folders in `train`, `test` and `val`, in any case.

    Classes are the folders of the first level; what is nested in them belongs to them, what is hidden to none. `valid`
    and `validation` are `val`. Without a test part, the validation part takes its place, or a fixed fifth of the images
    is set aside. Images are scaled and cropped to `image_size` pixels; by default to the size they have, or, where that
    differs, to the median of their shorter sides, at most 224.

    Raises:
        MinimandError: fewer than two classes, a class without training images, an image that cannot be read.
    """
    place = Path(data_folder)
    reader = _Reader(place)
    part_folders = {path.name: path for path in visible(place) if path.name.lower() in PARTS and _holds_folders(path)}
    names = as_parts(part_folders)
    if names and "train" not in names:
        raise MinimandError(
            f"image folder {shown(place)!r} has the part {', '.join(names.values())} and no folder train with folders "
            "of images, one per class."
        )
    if names:
        by_part = {part: reader.by_class(part_folders[name]) for part, name in names.items()}
        for path in visible(place):
            if path.name not in names.values():
                reader.leave_out("neither train, test nor val", path)
    else:
        by_part = {"train": reader.by_class(place)}
    classes = tuple(by_part["train"])
    if len(classes) < 2:
        raise MinimandError(
            f"image folder {shown(place)!r}: expected at least two folders of images, one per class; found "
            f"{', '.join(classes) or 'none'}."
        )
    for part, images in by_part.items():
        if strange := ", ".join(sorted(images.keys() - {*classes})):
            raise MinimandError(
                f"image folder {shown(place)!r}: {strange} has {part} images and no training images; the classes are "
                f"{', '.join(classes)}."
            )
    parts = {part: _as_files(images, classes) for part, images in by_part.items() if images}
    notes = reader.notes()
    if all(name.lower().startswith(tuple(PARTS)) for name in classes):
        notes += (f"the classes are called {', '.join(classes)}; folders of parts are called train, test and val.",)
    return data_of_images(parts, classes, shown(place.resolve().name), shown(place), image_size=image_size, notes=notes)


def _holds_folders(folder: Path) -> bool:
    """Whether a folder holds folders, as a part does, and not images alone, as a class called train does."""
    return folder.is_dir() and any(path.is_dir() for path in visible(folder))


def _as_files(images: dict[str, list[str]], classes: tuple[str, ...]) -> ImageFiles:
    files = [file for name in classes for file in images.get(name, ())]
    labels = [c for c, name in enumerate(classes) for _ in images.get(name, ())]
    return ImageFiles(files, torch.tensor(labels))


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
