"""What the benchmark computes: the classic kernels on a photograph, and the layers of networks."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastconv._typing import Array
from fastconv.cli.console import CliError
from fastconv.cli.filters import Filter, named_filter
from fastconv.cli.pictures import PHOTOGRAPH, Picture, read_picture
from fastconv.problem import ConvProblem

LAYERS_FOLDER = Path(__file__).parent / "data" / "layers"
#: All layers of whole networks, with how often each occurs; written by bench/networks.py.
NETWORKS_FOLDER = LAYERS_FOLDER.parent / "networks"
PHOTOGRAPH_GROUP = "photograph"
PHOTOGRAPH_KERNELS = ("identity", "edges", "sharpen", "blur", "gaussian15", "gaussian31")
#: The layers of ``--quick``: a first layer, a 3x3, a 1x1, a depthwise and a strided one.
QUICK_LAYERS = ("r50_3x3_64-64@56", "r50_1x1_64-256@56", "dw3x3s1_144@56", "r50_3x3s2_128-128@56")
QUICK_KERNELS = PHOTOGRAPH_KERNELS


@dataclass(frozen=True)
class Layer:
    """A named convolution of a network, and how often it occurs there."""

    name: str
    group: str
    problem: ConvProblem
    count: int = 1


@dataclass(frozen=True)
class Case:
    """One convolution with its data.

    Attributes
    ----------
    name, group, title : str
        Its name, that of the network or set it belongs to, and that set's heading.
    problem : ConvProblem
    x, w : ndarray
        Source (N, IC, IH, IW) and weights (OC, IC/G, KH, KW).
    filter : Filter or None
        The picture filter it is, if any.
    count : int
        How often the layer occurs in its network.
    """

    name: str
    group: str
    title: str
    problem: ConvProblem
    x: Array
    w: Array
    filter: Filter | None = None
    count: int = 1


def photograph_cases(path: Path | None, kernels: Sequence[str] = PHOTOGRAPH_KERNELS) -> list[Case]:
    """Return the classic kernels on the colour planes of a picture (the one that comes with fastconv by default).

    Each plane is an image of the batch; borders mirror the picture, size stays.
    """
    picture = read_picture(PHOTOGRAPH if path is None else path)
    x = np.ascontiguousarray(picture.planes[:, np.newaxis])
    cases = []
    for name in kernels:
        item = named_filter(name)
        w = item.kernels.astype(np.float32)
        cases.append(Case(name, PHOTOGRAPH_GROUP, "Classic kernels on a photograph", picture_problem(x, w), x, w, item))
    return cases


def picture_problem(x: Array, w: Array) -> ConvProblem:
    """Return the problem of filtering planes (N, 1, H, W) to their own size, with mirrored borders."""
    (mb, ic, ih, iw), (oc, _, kh, kw) = x.shape, w.shape
    return ConvProblem(
        1, mb, ic, ih, iw, oc, kh, kw,
        ph_lo=(kh - 1) // 2, ph_hi=kh // 2, pw_lo=(kw - 1) // 2, pw_hi=kw // 2,
        dtype=str(x.dtype), padding_mode="symmetric",
    )  # fmt: skip


def filtered(case: Case, y: Array) -> Picture:
    """Return the result of a photograph case as the picture to show."""
    if case.filter is None:
        raise ValueError(f"{case.name} is not a picture filter")
    return Picture(case.filter.picture(y))


@functools.cache
def builtin_layers() -> dict[str, tuple[str, tuple[Layer, ...]]]:
    """Return group -> (heading, layers) of the lists that come with fastconv."""
    found = {}
    for path in sorted(LAYERS_FOLDER.glob("*.json")):
        heading, layers = _read_layers(path)
        found[path.stem] = (heading, layers)
    return found


def network_layers(names: Sequence[str]) -> list[tuple[str, Layer]]:
    """Return (heading, layer) for each different layer of whole networks; of all that come with fastconv if `names` is empty.

    Raises
    ------
    CliError
        If there is no such network.
    """
    paths = {path.stem: path for path in sorted(NETWORKS_FOLDER.glob("*.json"))}
    found = []
    for name in names or paths:
        if name not in paths:
            raise CliError(f"there is no network {name!r}; there are {', '.join(paths)}.")
        heading, layers = _read_layers(paths[name])
        found += [(heading, layer) for layer in layers]
    return found


def find_layer(name: str) -> Layer | None:
    """Return the layer of that name, None if there is none."""
    for _, layers in builtin_layers().values():
        for layer in layers:
            if layer.name == name:
                return layer
    return None


def chosen_layers(words: Sequence[str]) -> list[tuple[str, Layer]]:
    """Return (heading, layer) for each of `words`: "all", a group, a layer, a problem string or a file.

    A file holds ``{"title": ..., "layers": [{"name": ..., "problem": ...}, ...]}`` with problem strings.

    Raises
    ------
    CliError
        If a word is none of these, or a file does not have this form.
    """
    found: list[tuple[str, Layer]] = []
    groups = builtin_layers()
    for word in words:
        layer = find_layer(word)
        if word == "all":
            found += [(heading, one) for heading, layers in groups.values() for one in layers]
        elif word in groups:
            found += [(groups[word][0], one) for one in groups[word][1]]
        elif layer is not None:
            found.append((groups[layer.group][0], layer))
        elif word.endswith(".json"):
            heading, layers = _read_layers(Path(word))
            found += [(heading, one) for one in layers]
        else:
            found.append(("Layers", Layer(word, "layers", problem_of(word))))
    return list(dict.fromkeys(found))


def problem_of(word: str) -> ConvProblem:
    """Return the problem of a layer's name or of a problem string."""
    layer = find_layer(word)
    if layer is not None:
        return layer.problem
    if word.startswith("g") and word[1:2].isdigit():
        try:
            return ConvProblem.parse(word)
        except (ValueError, TypeError) as error:
            raise CliError(f"{error}") from None
    names = [one.name for _, layers in builtin_layers().values() for one in layers]
    near = difflib.get_close_matches(word, [*names, *builtin_layers()], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise CliError(
        f"{word!r} is neither a layer, nor a group of layers ({', '.join(builtin_layers())}), nor a problem string such as "
        f"g1mb1ic64ih56iw56oc64kh3kw3sh1sw1ph1pw1dh1dw1:float32.{hint}"
    )


def _read_layers(path: Path) -> tuple[str, tuple[Layer, ...]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        heading = str(content.get("title", path.stem))
        layers = tuple(
            Layer(str(row["name"]), path.stem, ConvProblem.parse(row["problem"]), int(row.get("count", 1))) for row in content["layers"]
        )
    except OSError as error:
        raise CliError(f"{path}: cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        form = '{"title": ..., "layers": [{"name": ..., "problem": ...}]}'
        what = f"there is no key {error}" if isinstance(error, KeyError) else str(error)
        raise CliError(f"{path}: does not have the form {form}: {what}") from None
    return heading, layers


def layer_case(heading: str, layer: Layer, seed: int = 0) -> Case:
    """Return `layer` with random data from -1 to 1."""
    rng = np.random.default_rng(seed)
    p = layer.problem
    if p.has_bias or p.has_residual or p.activation is not None or np.dtype(p.dtype).kind != "f" or p.dtype == "float16":
        raise CliError(f"{layer.name}: the benchmark takes float32 and float64 without bias, residual and activation; got {p}.")
    x = rng.uniform(-1, 1, p.x_shape).astype(p.dtype)
    w = rng.uniform(-1, 1, p.w_shape).astype(p.dtype)
    return Case(layer.name, layer.group, heading, p, x, w, count=layer.count)
