"""``fastconv tune`` and ``fastconv warmup``: what they measure, keep, show, carry elsewhere and drop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastconv.backends import named
from fastconv.cli.cases import Layer
from fastconv.cli.main import main
from fastconv.cli.tune import onnx_problems
from fastconv.machine import RATES
from fastconv.problem import ConvProblem
from fastconv.wisdom import Wisdom

pytestmark = pytest.mark.xdist_group("cli")

PROBLEM = ConvProblem.parse("g1mb1ic4ih9iw9oc4kh3kw3sh1sw1ph1pw1dh1dw1:float32")
#: Rows that need no compiler.
FEW = (*named("im2col"), *named("naive"))


@pytest.fixture
def wisdom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("fastconv.tuning.TABLE", FEW)
    return tmp_path / "w.json"


def test_a_problem_is_measured_listed_exported_forgotten_and_merged(wisdom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ["--wisdom", str(wisdom)]
    elsewhere = wisdom.with_name("elsewhere.json")
    assert main(["tune", str(PROBLEM), "--threads", "1", "--list", "--export", str(elsewhere), *file]) == 0
    out = capsys.readouterr().out
    assert "1 problems on this machine" in out
    assert "im2col" in out
    measured = Wisdom(wisdom).seconds(PROBLEM, 1)
    assert "im2col" in measured
    assert Wisdom(wisdom).seconds(PROBLEM, 2) == {}
    assert main(["tune", "--forget", str(PROBLEM), *file]) == 0
    assert Wisdom(wisdom).seconds(PROBLEM, 1) == {}
    assert main(["tune", "--merge", str(elsewhere), *file]) == 0
    assert Wisdom(wisdom).seconds(PROBLEM, 1) == measured


def test_a_layer_file_is_read_and_a_time_limit_begins_nothing_more(wisdom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = wisdom.with_name("layers.json")
    names = ("first", "second")
    content = {"title": "Two layers", "layers": [{"name": n, "problem": str(PROBLEM.replace(oc=4 + i))} for i, n in enumerate(names)]}
    layers.write_text(json.dumps(content))
    assert main(["tune", str(layers), "--time-limit", "-1", "--wisdom", str(wisdom)]) == 0
    assert capsys.readouterr().out.count("not begun: the time limit is over") == 2
    assert not Wisdom(wisdom).problems()


def test_the_machine_is_measured_and_kept(wisdom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--machine", "--wisdom", str(wisdom)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(RATES)
    assert set(Wisdom(wisdom).rates()) == set(RATES)


def test_the_convolutions_of_an_onnx_file_are_found(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    w = helper.make_tensor("w", float32, (6, 2, 3, 3), np.zeros(108, np.float32))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], name="strided", strides=[2, 1], pads=[1, 0, 2, 3], group=2, dilations=[1, 2]),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    values = [helper.make_tensor_value_info(name, float32, shape) for name, shape in (("x", ("batch", 4, 10, 12)), ("z", None))]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], [w]))
    onnx.save(model, str(tmp_path / "m.onnx"))
    ((name, problem),) = onnx_problems(tmp_path / "m.onnx")
    assert name == "strided"
    assert problem == ConvProblem(2, 1, 4, 10, 12, 6, 3, 3, 2, 1, ph_lo=1, ph_hi=2, pw_lo=0, pw_hi=3, dw=2)


def test_warmup_runs_each_kind_of_layer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    layers = [Layer(str(i), "few", PROBLEM.replace(ic=ic, oc=ic)) for i, ic in enumerate((64, 128, 8))]
    monkeypatch.setattr("fastconv.cli.warmup.builtin_layers", lambda: {"few": ("Few", layers)})
    monkeypatch.setattr("fastconv.cli.warmup.TABLE", FEW)
    assert main(["warmup", "--dtypes", "float32"]) == 0
    assert capsys.readouterr().out.startswith("2 kernels ready after ")
