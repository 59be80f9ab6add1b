"""``fastconv bench compare``: it sees changes beyond noise, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastconv.cli.compare import changes
from fastconv.cli.main import main
from fastconv.cli.results import CaseResult, Row, Run

PROBLEM = "g1mb1ic1ih8iw8oc1kh3kw3sh1sw1ph0pw0dh1dw1:float32"


def run(times: dict[str, list[float]], *, peak: float = 100.0, chosen: str = "direct:dense", status: str = "measured") -> Run:
    kinds = {"torch": "peer"}
    rows = [Row(name, kinds.get(name, "backend"), status, samples_s=samples) for name, samples in times.items()]
    case = CaseResult("layer", "layers", "Layers", PROBLEM, "", "float32", 1000, chosen, 1.0, 1.0, rows)
    return Run("", "", False, 1, {"cpu": "x"}, {}, None, {"float32, 1": [peak, 0.9 * peak]}, {"accuracy": "standard"}, cases=[case])


def files(folder: Path, before: Run, after: Run) -> list[str]:
    for name, content in (("a.json", before), ("b.json", after)):
        (folder / name).write_text(content.to_json(), encoding="utf-8")
    return ["bench", "compare", str(folder / "a.json"), str(folder / "b.json")]


STEADY = [1.0e-3, 1.001e-3, 0.999e-3, 1.0e-3, 1.0e-3]
NOISY = [1.0e-3, 1.3e-3, 0.8e-3, 1.1e-3, 0.9e-3]


def scaled(samples: list[float], factor: float) -> list[float]:
    return [factor * value for value in samples]


@pytest.mark.parametrize(
    ("samples", "factor", "is_beyond"),
    [(STEADY, 1.04, False), (STEADY, 1.06, True), (STEADY, 0.9, True), (STEADY, 0.97, False), (NOISY, 1.2, False), (NOISY, 2.5, True)],
)
def test_a_change_counts_from_five_percent_and_from_three_deviations(samples: list[float], factor: float, *, is_beyond: bool) -> None:
    (change,) = changes(run({"direct:dense": samples}), run({"direct:dense": scaled(samples, factor)}))
    assert change.ratio == pytest.approx(factor)
    assert change.is_beyond_noise is is_beyond


def test_slower_is_status_one_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = (
        run({"direct:dense": STEADY, "im2col": STEADY}),
        run({"direct:dense": scaled(STEADY, 1.5), "im2col": scaled(STEADY, 0.5)}),
    )
    assert main(files(tmp_path, before, after)) == 1
    said = capsys.readouterr().out
    assert "+50 %" in said
    assert "-50 %" in said
    assert "1 slower and 1 faster" in said


def test_the_same_and_faster_are_status_zero(tmp_path: Path) -> None:
    assert main(files(tmp_path, run({"im2col": STEADY}), run({"im2col": scaled(STEADY, 0.5)}))) == 0
    assert main(files(tmp_path, run({"im2col": STEADY}), run({"im2col": STEADY}))) == 0


def test_another_library_that_slowed_down_is_no_regression(tmp_path: Path) -> None:
    assert main(files(tmp_path, run({"torch": STEADY}), run({"torch": scaled(STEADY, 3.0)}))) == 0


def test_a_result_that_became_wrong_is_status_one(tmp_path: Path) -> None:
    assert main(files(tmp_path, run({"im2col": STEADY}), run({"im2col": STEADY}, status="failed"))) == 1


def test_what_is_not_comparable_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(files(tmp_path, run({"im2col": STEADY}), run({"im2col": STEADY}, peak=80.0, chosen="im2col")))
    said = capsys.readouterr().out
    assert "peak with 1 thread was 100" in said
    assert "chosen now: layer, 1 thread: direct:dense -> im2col" in said


def test_other_words_are_refused_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "compare", "one.json"]) == 2
    assert "fastconv bench compare before.json after.json" in capsys.readouterr().err
