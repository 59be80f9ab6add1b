"""Whole networks: their layers are the published ones, and their totals count every layer as often as it occurs."""

from __future__ import annotations

import re

import pytest

from fastconv.cli.bench import totals_table
from fastconv.cli.cases import NETWORKS_FOLDER, network_layers
from fastconv.cli.console import CliError
from fastconv.cli.main import main
from fastconv.cli.report import html_report
from fastconv.cli.results import CaseResult, Row, Run

#: Layers and billions of multiply-adds of the convolutions, as published or as counted in the authors' own code.
PUBLISHED = {
    "resnet50": (53, 4.09),
    "vgg16": (13, 15.35),
    "mobilenetv2": (52, 0.30),
    "efficientnet_b0": (81, 0.38),
    "convnext_tiny": (58, 4.45),
    "unet": (19, 144.8),
}


def test_all_networks_are_known() -> None:
    assert {path.stem for path in NETWORKS_FOLDER.glob("*.json")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_layers_and_multiplications_are_the_published_ones(name: str) -> None:
    layers = [layer for _, layer in network_layers([name])]
    count, gmacs = PUBLISHED[name]
    assert sum(layer.count for layer in layers) == count
    assert sum(layer.count * layer.problem.macs for layer in layers) / 1e9 == pytest.approx(gmacs, rel=0.02)
    assert len({layer.name for layer in layers}) == len({layer.problem for layer in layers}) == len(layers)


def test_an_unknown_network_is_refused_with_those_there_are() -> None:
    with pytest.raises(CliError, match=r"no network 'alexnet'; there are convnext_tiny, .*vgg16"):
        network_layers(["alexnet"])
    assert main(["bench", "--networks", "alexnet"]) == 2


def network() -> Run:
    def case(name: str, count: int, *libraries: str) -> CaseResult:
        rows = [Row("im2col", "backend", "measured", samples_s=[0.010]), Row("naive", "backend", "measured", samples_s=[0.001])]
        rows += [Row(library, "peer", "measured", samples_s=[0.020]) for library in libraries]
        return CaseResult(name, "net", "Net", name, "", "float32", 100, "im2col", 1.0, 1.0, rows, count=count)

    machine = {
        "cpu": "x",
        "target": "y",
        "llvm_cpu": "z",
        "cores": 1,
        "system": "s",
        "vector_nbytes": 32,
        "vector_registers": 16,
        "caches": {},
    }
    peaks = {"float32, 1": [1.0]}
    run = Run("", "2026-01-01T00:00:00", False, 1, machine, {"fastconv": "0", "numpy": "0"}, None, peaks, {})
    run.cases = [case("a", 3, "torch", "ncnn"), case("b", 1, "torch")]
    run.networks = ["Net"]
    return run


def test_totals_count_layers_as_often_as_they_occur_and_only_libraries_that_do_them_all() -> None:
    (total,) = network().totals()
    assert (total.layers, total.flops) == (4, 400)
    assert total.seconds == pytest.approx({"fastconv": 0.040, "torch": 0.080, "scipy.signal": 4.0})
    assert list(total.seconds) == ["fastconv", "torch", "scipy.signal"]
    assert "40.0" in totals_table(network())


def test_the_report_shows_them() -> None:
    page = html_report(network(), {})
    assert "<h2>Whole networks</h2>" in page
    assert "4 layers" in page


def test_groups_of_layers_have_no_totals() -> None:
    run = network()
    run.networks = []
    assert run.totals() == []
    assert "Whole networks" not in html_report(run, {})


def test_a_notebook_shows_a_run_as_a_table() -> None:
    page = network()._repr_html_()
    assert page.count("<tr>") == 3
    assert re.search(r">2.00</td><td [^>]*>torch</td>", page)
    assert ">threads</th>" in page
