"""Other libraries beside fastconv: each computes the problems it takes, and a loss is shown as one."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.cli import measure
from fastconv.cli.cases import Layer, layer_case
from fastconv.cli.markdown import losses
from fastconv.cli.oracle import judge, reference
from fastconv.cli.peers import PEERS, Peer
from fastconv.cli.report.compared import against_peers, scaling
from fastconv.cli.results import CaseResult, Row, Run
from fastconv.problem import ConvProblem
from fastconv.settings import get_config

pytestmark = pytest.mark.xdist_group("cli")

PROBLEMS = (
    "g1mb1ic8ih14iw15oc6kh3kw3sh1sw1ph1pw1dh1dw1:float32",
    "g1mb2ic3ih15iw17oc8kh3kw5sh2sw1ph0_1pw2dh1dw2:float32",
    "g4mb1ic4ih12iw13oc8kh3kw3sh2sw2ph1pw1dh1dw1:float32",
    "g2mb1ic4ih12iw13oc6kh3kw3sh1sw1ph1pw1dh1dw1:float32",
    "g1mb2ic1ih33iw41oc1kh7kw7sh1sw1ph3pw3dh1dw1:float64:symmetric",
    "g1mb3ic1ih33iw41oc1kh7kw7sh1sw1ph3pw3dh1dw1:float32:symmetric",
    "g1mb1ic1ih33iw41oc1kh15kw16sh1sw1ph2_7pw7dh1dw1:float32",
)


@pytest.mark.filterwarnings("ignore")  # their own warnings are no finding about fastconv
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_library_computes_what_it_takes(peer: Peer) -> None:
    if not peer.is_installed:
        pytest.skip(f"peer {peer.package} is not installed")
    taken = 0
    for text in PROBLEMS:
        p = ConvProblem.parse(text)
        case = layer_case("", Layer("", "", p))
        call = peer.prepare(p, case.x, case.w, 2)
        if call is None:
            continue
        taken += 1
        # What the library points at without keeping it is overwritten now.
        fillers = [np.full((p.mb, p.ic, p.ih + dy, p.iw + dx), np.nan, p.dtype) for dy in range(15) for dx in range(15)]
        y = call()
        del fillers
        assert y.dtype == case.x.dtype
        assert judge(reference(p, case.x, case.w, 1.0), None, case.x, case.w, y).error < 1e-4, text
    assert taken


def test_a_library_that_computes_something_else_is_left_out() -> None:
    case = layer_case("", Layer("", "", ConvProblem.parse(PROBLEMS[0])))
    wrong = Peer("wrong", "numpy", "numpy", lambda p, x, w, threads: lambda: np.zeros(p.out_shape, p.dtype))  # noqa: ARG005
    found = reference(case.problem, case.x, case.w, 1.0)
    effort = measure.Effort(timing_s=0.001, scipy_s=0.1, slowest_call_s=0.0, compiling_s=0.0)
    result, _ = measure.measure_case(case, found, get_config(), "naive", [wrong], effort, lambda _: None)
    (row,) = (row for row in result.rows if row.kind == "peer")
    assert row.status == "skipped"
    assert "not this convolution" in row.remark


def two_counts() -> Run:
    cases = []
    for threads, ours, other in ((1, 0.010, 0.030), (2, 0.008, 0.004)):
        rows = [Row("im2col", "backend", "measured", samples_s=[ours]), Row("torch", "peer", "measured", samples_s=[other])]
        cases.append(CaseResult("a", "net", "Net", "a", "", "float32", 100, "im2col", 1.0, 1.0, rows, threads=threads, nbytes=8))
    return Run("", "", False, 2, {}, {}, None, {"float32, 1": [1.0], "float32, 2": [2.0]}, {}, cases=cases)


def test_every_loss_is_named() -> None:
    assert "On 1 of 2 cases" in losses(two_counts())
    assert "| a | im2col | torch | 2 | 8.00 | 4.00 | 0.50 |" in losses(two_counts())
    page = against_peers(two_counts())
    assert "slower on 1 of 1 cases" in page
    assert "slower on 0 of 1 cases" in page


def test_scaling_compares_the_same_candidate_with_few_and_many_threads() -> None:
    page = scaling(two_counts())
    assert "im2col: 1.25x" in page
    assert "torch: 7.50x" in page
