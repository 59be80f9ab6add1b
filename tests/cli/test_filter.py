"""``fastconv filter``: what is written equals what conv2d computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv.backends import backends
from fastconv.cli.filters import FILTERS, gaussian, named_filter
from fastconv.cli.main import main

Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.xdist_group("cli")

#: A level is the nearest integer, up to float32 rounding before it.
ROUNDED = 0.5 + 1e-3


def picture(mode: str, height: int = 13, width: int = 17) -> np.ndarray:
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (height, width) if bands == 1 else (height, width, bands)
    return np.random.default_rng(bands).integers(0, 256, shape, np.uint8)


def expected(colours: np.ndarray, name: str) -> np.ndarray:
    """Return the filtered colours (planes, H, W) on the scale of 8-bit levels but not rounded, from conv2d alone."""
    item = named_filter(name)
    source = colours[:, np.newaxis].astype(np.float32) / 255
    y = fastconv.conv2d(source, item.kernels.astype(np.float32), padding="same", padding_mode="symmetric")
    joined = y[:, 0] if y.shape[1] == 1 else np.hypot(y[:, 0], y[:, 1])
    return np.clip(joined + 0.5 * item.is_signed, 0, 1) * 255


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("name", ["sharpen", "sobel", "emboss", "sobel-x", "gaussian5"])
def test_the_file_holds_what_conv2d_computes(tmp_path: Path, mode: str, name: str) -> None:
    levels = picture(mode)
    Image.fromarray(levels).save(tmp_path / "in.png")
    assert main(["filter", str(tmp_path / "in.png"), "--kernel", name, "-o", str(tmp_path / "out.png")]) == 0
    with Image.open(tmp_path / "out.png") as written:
        assert written.mode == mode
        found = np.asarray(written)
    found, levels = (np.moveaxis(a.reshape(*a.shape[:2], -1), -1, 0) for a in (found, levels))
    colours = len(levels) - mode.endswith("A")
    assert np.abs(found[:colours] - expected(levels[:colours], name)).max() <= ROUNDED
    assert np.array_equal(found[colours:], levels[colours:])


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 65536, (9, 11), np.uint16)
    Image.fromarray(levels).save(tmp_path / "in.png")
    assert main(["filter", str(tmp_path / "in.png"), "-k", "identity", "-o", str(tmp_path / "out.png")]) == 0
    with Image.open(tmp_path / "out.png") as written:
        assert np.array_equal(np.asarray(written), levels)


@pytest.mark.parametrize("name", FILTERS)
def test_a_flat_picture_stays_flat(name: str) -> None:
    item = named_filter(name)
    total = item.kernels.sum(axis=(1, 2, 3))
    assert np.allclose(total, round(float(total[0])))
    flat = item.picture(fastconv.conv2d(np.full((1, 1, 9, 9), 0.5), item.kernels, padding="same", padding_mode="symmetric"))
    assert np.ptp(flat) < 1e-12


def test_kernels_given_several_times_run_one_after_another(tmp_path: Path) -> None:
    levels = picture("L")
    Image.fromarray(levels).save(tmp_path / "in.png")
    assert (
        main(["filter", str(tmp_path / "in.png"), "-k", "identity", "-k", "blur", "-k", "identity", "-o", str(tmp_path / "out.png")]) == 0
    )
    with Image.open(tmp_path / "out.png") as written:
        assert np.abs(np.asarray(written) - expected(levels[np.newaxis], "blur")[0]).max() <= ROUNDED


def test_a_placeholder_makes_a_picture_for_each_kernel(tmp_path: Path) -> None:
    Image.fromarray(picture("L")).save(tmp_path / "in.png")
    assert main(["filter", str(tmp_path / "in.png"), "-k", "blur", "-k", "box5", "-o", str(tmp_path / "out-{kernel}.png")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"in.png", "out-blur.png", "out-box5.png"}


@pytest.mark.parametrize("backend", ["auto", *backends()])
def test_each_backend_that_can_makes_the_same_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str], backend: str) -> None:
    levels = picture("L")
    Image.fromarray(levels).save(tmp_path / "in.png")
    status = main(["filter", str(tmp_path / "in.png"), "-k", "blur", "--backend", backend, "-o", str(tmp_path / "out.png")])
    if status == 2:
        assert "cannot compute" in capsys.readouterr().err
        assert not (tmp_path / "out.png").exists()
        return
    with Image.open(tmp_path / "out.png") as written:
        assert np.abs(np.asarray(written) - expected(levels[np.newaxis], "blur")[0]).max() <= ROUNDED


def test_list_names_every_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["filter", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in (*FILTERS, "gaussianN", "boxN"))


def test_what_is_no_picture_is_refused_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.png").write_bytes(b"not a picture")
    assert main(["filter", str(tmp_path / "in.png"), "-k", "blur", "-o", str(tmp_path / "out.png")]) == 2
    assert "is not a picture that Pillow can read" in capsys.readouterr().err
    Image.fromarray(picture("RGBA")).save(tmp_path / "in.png")
    for name, sentence in (("out.xyz", "names no format"), ("out.jpg", "cannot hold this picture"), ("no/out.png", "cannot be written")):
        assert main(["filter", str(tmp_path / "in.png"), "-k", "blur", "-o", str(tmp_path / name)]) == 2
        assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


@pytest.mark.parametrize("size", [3, 15, 31])
def test_a_gaussian_sums_to_one_and_is_symmetric(size: int) -> None:
    kernel = gaussian(size)
    assert kernel.shape == (size, size)
    assert abs(kernel.sum() - 1) < 1e-12
    assert np.array_equal(kernel, kernel.T)
    assert np.array_equal(kernel, kernel[::-1, ::-1])
    assert kernel.max() == kernel[size // 2, size // 2]
