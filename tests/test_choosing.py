"""Choosing: which source decides, what the settings forbid, what the cost model counts."""

from __future__ import annotations

import dataclasses

import pytest

import fastconv
from fastconv.backends import TABLE, workspace_nbytes
from fastconv.backends.base import Work
from fastconv.calibration import current_machine, measured_rates
from fastconv.cli.cases import builtin_layers
from fastconv.cost import STREAM_SHOWN, predicted_s
from fastconv.machine import COPY_NBYTES, RATES, nominal_machine
from fastconv.planner import decide
from fastconv.problem import ConvProblem
from fastconv.wisdom import Wisdom

LAYER = ConvProblem.parse("g1mb1ic64ih56iw56oc64kh3kw3sh1sw1ph1pw1dh1dw1:float32")


@pytest.mark.parametrize("accuracy", ["strict", "standard", "fast"])
def test_the_accuracy_setting_is_obeyed(accuracy):
    rank = {"strict": 0, "standard": 1, "fast": 2}
    with fastconv.config(accuracy=accuracy, wisdom="off") as settings:
        decision = decide(LAYER, settings, is_prepared=True)
    assert all(rank[row.accuracy_for(LAYER)] <= rank[accuracy] for row in decision.ranked)
    if accuracy == "strict":
        assert all(row.rounding == "elementwise" for row in decision.ranked)


def test_the_source_is_named():
    with fastconv.config(wisdom="off") as settings:
        assert decide(LAYER, settings).source == "cost model"
        assert decide(LAYER, settings, "im2col").source == "argument"
    with fastconv.config(wisdom="off", backend="im2col") as settings:
        assert decide(LAYER, settings).source == "config"


def test_a_family_picks_among_its_variants_only():
    with fastconv.config(wisdom="off") as settings:
        assert decide(LAYER, settings, "direct").algorithm.family == "direct"


def test_naive_is_never_chosen_for_large_work():
    with fastconv.config(wisdom="off") as settings:
        assert decide(LAYER, settings).algorithm.name != "naive"
        assert decide(LAYER.replace(dtype="int32"), settings).algorithm.name != "naive"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_work_is_positive_and_grows_with_the_batch(row):
    machine = nominal_machine()
    for text in (
        "g1mb1ic64ih56iw56oc64kh3kw3sh1sw1ph1pw1dh1dw1:float32", "g1mb1ic1ih64iw64oc1kh5kw5sh1sw1ph2pw2dh1dw1:float64",
        "g16mb1ic16ih28iw28oc16kh3kw3sh2sw2ph1pw1dh1dw1:float32", "g1mb1ic16ih28iw28oc16kh1kw5sh1sw1ph0pw2dh1dw1:float32",
        "g4mb1ic16ih28iw28oc16kh3kw1sh1sw1ph1pw0dh1dw1:float32", "g1mb1ic16ih28iw28oc16kh1kw7sh1sw1ph0pw3dh1dw1:float32",
    ):  # fmt: skip
        problem = ConvProblem.parse(text)
        if row.why_not(problem) is not None:
            continue
        seconds = [predicted_s(row.work(p, machine), p, machine, 1, is_prepared=True) for p in (problem, problem.replace(mb=64))]
        assert 0 < seconds[0] < seconds[1]
        assert predicted_s(row.work(problem, machine), problem, machine, 1, is_prepared=False) >= seconds[0]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_no_layer_takes_more_than_64_mib_or_a_tenth_of_its_arrays(row):
    for _, layers in builtin_layers().values():
        for problem in (layer.problem for layer in layers):
            if row.why_not(problem) is None:
                booked = workspace_nbytes(row, problem, 2, None)
                assert booked is None or booked <= max(64 * 2**20, (problem.x_nbytes + problem.out_nbytes) / 10)


def test_bandwidth_lies_between_those_of_the_levels():
    machine = nominal_machine()
    sizes = list(COPY_NBYTES.values())
    assert [machine.bandwidth_within(size) for size in sizes] == pytest.approx([getattr(machine, name) for name in COPY_NBYTES])
    assert machine.bandwidth_within(1) == machine.l1_bandwidth
    assert machine.bandwidth_within(1e12) == machine.bandwidth
    assert machine.cache_bandwidth < machine.bandwidth_within(1e6) < machine.l2_bandwidth


def test_cores_share_memory_but_not_their_caches():
    machine = dataclasses.replace(nominal_machine(), shared_bandwidth=1.2 * nominal_machine().bandwidth)
    assert machine.bandwidth_within(1, 4) == 4 * machine.l1_bandwidth
    assert machine.bandwidth_within(1e12, 4) == machine.shared_bandwidth
    assert machine.bandwidth_within(1e12, 1) == machine.bandwidth


def test_a_stream_hides_behind_arithmetic_and_is_waited_for_beyond_it():
    machine = nominal_machine()
    second = Work(flops=machine.peak("float32"), nbytes=0.0, calls=0)
    quick, slow = (dataclasses.replace(second, streamed_nbytes=factor * machine.bandwidth) for factor in (0.5, 4.0))
    assert predicted_s(second, LAYER, machine, 1, is_prepared=True) == pytest.approx(1)
    assert predicted_s(quick, LAYER, machine, 1, is_prepared=True) == pytest.approx(1 + STREAM_SHOWN * 0.5)
    assert predicted_s(slow, LAYER, machine, 1, is_prepared=True) == pytest.approx(4)


@pytest.mark.parametrize("threads", [2, 4])
def test_a_slower_blas_is_chosen_less(threads):
    machine = dataclasses.replace(nominal_machine(), cores=threads)
    slower = dataclasses.replace(machine, blas_float32=machine.blas_float32 / 2)
    problem = ConvProblem.parse("g1mb1ic256ih14iw14oc1024kh1kw1sh1sw1ph0pw0dh1dw1:float32")
    (im2col,) = (row for row in TABLE if row.name == "im2col")
    (dense,) = (row for row in TABLE if row.name == "direct:dense")
    fast, slow = (predicted_s(im2col.work(problem, m), problem, m, threads, is_prepared=True) for m in (machine, slower))
    assert slow > 1.8 * fast
    alone, together = (predicted_s(dense.work(problem, machine), problem, machine, count, is_prepared=True) for count in (1, threads))
    assert alone > 0.8 * threads * together  # it is cut for the threads that there are


def test_calibration_is_measured_once_and_kept(tmp_path, monkeypatch):
    path = str(tmp_path / "w.json")
    current_machine.cache_clear()
    first = current_machine(path)
    assert first.is_measured
    assert set(Wisdom(tmp_path / "w.json").rates()) == set(RATES)
    current_machine.cache_clear()
    monkeypatch.setattr("fastconv.calibration.measured_rates", lambda: pytest.fail("measured again"))
    assert current_machine(path) == first
    current_machine.cache_clear()


def test_calibration_that_cannot_be_stored_warns_and_works(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    current_machine.cache_clear()
    with pytest.warns(RuntimeWarning, match="FASTCONV_WISDOM"):
        assert current_machine(str(blocked / "w.json")).is_measured
    current_machine.cache_clear()


def test_measured_rates_are_rates():
    rates = measured_rates()
    assert set(rates) == set(RATES)
    assert all(value > 0 for value in rates.values())
    assert rates["peak_float32"] > rates["peak_float64"]
