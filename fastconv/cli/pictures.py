"""Pictures to planes of numbers from 0 to 1, and back. Needs Pillow."""

from __future__ import annotations

import base64
import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fastconv._typing import Array
from fastconv.cli.console import CliError

#: The photograph that comes with fastconv: see data/PHOTOGRAPH.md.
PHOTOGRAPH = Path(__file__).parent / "data" / "cat.png"
INSTALL = 'pip install "fastconv[cli]"'
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


@dataclass(frozen=True)
class Picture:
    """A picture as numbers.

    Attributes
    ----------
    planes : ndarray of shape (1 or 3, H, W), float32
        Grey, or red, green and blue; from 0 to 1.
    alpha : ndarray of shape (H, W), uint8, or None
        Transparency, which filters leave alone.
    depth : {8, 16}
        Bits per sample of the file.
    """

    planes: Array
    alpha: Array | None = None
    depth: int = 8

    def with_planes(self, planes: Array) -> Picture:
        """Return a picture with other planes and the same transparency and depth."""
        return Picture(planes, self.alpha, self.depth)


def _pillow() -> ModuleType:
    try:
        import PIL  # noqa: PLC0415  optional: only commands that touch pictures need it
        from PIL import Image, ImageOps  # noqa: F401, PLC0415
    except ImportError:
        raise CliError(f"pictures need Pillow, which is not installed. Install it with: {INSTALL}") from None
    return PIL


def read_picture(path: str | Path) -> Picture:
    """Read a picture file: grey or colour, with or without transparency, 8 or 16 bits.

    Raises
    ------
    CliError
        If Pillow is missing, or the file is, or it holds no picture that Pillow reads.
    """
    pillow = _pillow()
    try:
        with pillow.Image.open(path) as file:
            image = pillow.ImageOps.exif_transpose(file)
            image.load()
    except FileNotFoundError:
        raise CliError(f"{path}: there is no such file.") from None
    except (OSError, SyntaxError, ValueError, pillow.Image.DecompressionBombError) as error:
        reason = "it is not a picture that Pillow can read" if isinstance(error, pillow.UnidentifiedImageError) else str(error)
        raise CliError(f"{path}: {reason}.") from None
    if image.mode in _SIXTEEN_BIT:
        return Picture(np.asarray(image).astype(np.float32)[np.newaxis] / 65535, depth=16)
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    is_grey = image.mode in {"1", "L", "LA"}
    bands = np.asarray(image.convert(("LA" if has_alpha else "L") if is_grey else ("RGBA" if has_alpha else "RGB")))
    if bands.ndim == 2:
        bands = bands[:, :, np.newaxis]
    colours = bands[:, :, :-1] if has_alpha else bands
    planes = np.ascontiguousarray(np.moveaxis(colours, -1, 0)).astype(np.float32) / 255
    return Picture(planes, np.ascontiguousarray(bands[:, :, -1]) if has_alpha else None)


def _image(picture: Picture) -> Any:
    pillow = _pillow()
    top = 65535 if picture.depth == 16 else 255
    levels = np.rint(np.clip(picture.planes, 0, 1).astype(np.float64) * top).astype(np.uint16 if picture.depth == 16 else np.uint8)
    if picture.depth == 16:
        return pillow.Image.fromarray(levels[0])
    bands = levels if picture.alpha is None else np.concatenate([levels, picture.alpha[np.newaxis]])
    array = np.ascontiguousarray(np.moveaxis(bands, 0, -1))
    return pillow.Image.fromarray(array[:, :, 0] if len(bands) == 1 else array)


def write_picture(path: str | Path, picture: Picture) -> None:
    """Write a picture file whose suffix names the format; the file appears whole or not at all.

    Raises
    ------
    CliError
        If the suffix is unknown, the format cannot hold the picture, or the place cannot be written.
    """
    pillow = _pillow()
    path = Path(path)
    formats = pillow.Image.registered_extensions()
    kind = formats.get(path.suffix.lower())
    if kind is None or kind not in pillow.Image.SAVE:
        raise CliError(f"{path}: the suffix {path.suffix!r} names no format that Pillow writes; .png and .jpg do.")
    image = _image(picture)
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind)
    except (OSError, ValueError) as error:
        raise CliError(f"{path}: {kind} cannot hold this picture ({error}). Write a .png instead.") from None
    write_whole(path, buffer.getvalue())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file at once: under another name in the same folder first, then renamed.

    Raises
    ------
    CliError
        If the place cannot be written.
    """
    temporary = ""
    try:
        if path.exists() and not path.is_file():  # a device such as /dev/null must not be replaced
            path.write_bytes(content)
            return
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise CliError(f"{path}: cannot be written: {error.strerror or error}.") from None


def data_url(picture: Picture) -> str:
    """Return the picture as a JPEG inside a URL, for a page that needs no other file: a tenth of a PNG, and no eye sees the difference."""
    buffer = io.BytesIO()
    _image(Picture(picture.planes)).save(buffer, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
