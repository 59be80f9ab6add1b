"""``fastconv bench``: what it writes, and that a wrong result does not pass."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastconv.backends import TABLE
from fastconv.backends.base import Algorithm
from fastconv.backends.naive import Naive
from fastconv.cli import measure, oracle
from fastconv.cli.bench import case_table
from fastconv.cli.cases import Layer, builtin_layers, layer_case, photograph_cases
from fastconv.cli.main import main
from fastconv.cli.report import html_report
from fastconv.cli.results import Run, geometric_mean
from fastconv.problem import ConvProblem

pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.xdist_group("cli")

Written = tuple[Path, Path, str]
#: A problem for few rows of the table, as each of them is compiled.
SMALL = "g1mb2ic3ih9iw11oc4kh2kw2sh2sw2ph1pw1dh1dw1:float32"


class Page(HTMLParser):
    """Collects what a page would fetch, and whether its elements are closed."""

    #: Elements without an end, or whose end may be left out.
    VOID = frozenset({"meta", "img", "line", "circle", "rect", "path", "td", "tr"})

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href", "action", "data"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Return report, JSON and table of a run over a small picture and a small layer."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("bench")
    levels = np.random.default_rng(0).integers(0, 256, (40, 41, 3), np.uint8)
    Image.fromarray(levels).save(folder / "in.png")
    words = ["bench", "--quick", "--threads", "1", "--image", str(folder / "in.png"), "--layers", SMALL]
    words += ["--report", str(folder / "r.html"), "--json", str(folder / "figures.json")]
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("fastconv.cli.bench.say", lambda text="": lines.append(text))
        patch.setattr("fastconv.cli.progress.say", lambda text="": lines.append(text))
        assert main(words) == 0
    return folder / "r.html", folder / "figures.json", "\n".join(lines)


def test_every_backend_that_can_is_in_the_table_checked_and_right(written: Written) -> None:
    _, figures, lines = written
    run = Run.from_json(figures)
    layer = run.cases[-1]
    problem = ConvProblem.parse(layer.problem)
    able = [algorithm.name for algorithm in TABLE if algorithm.why_not(problem) is None]
    assert [row.name for row in layer.rows] == able
    assert all(row.is_right for row in layer.rows if row.status == "measured")
    assert not run.wrong
    assert all(name in lines for name in able)
    assert "results are right" in lines


def test_the_json_carries_raw_samples_machine_and_figures(written: Written) -> None:
    content = json.loads(written[1].read_text())
    assert {
        "machine",
        "versions",
        "commit",
        "command",
        "date",
        "peak_gflops",
        "peak_looks",
        "threads",
        "settings",
        "cases",
        "seconds",
    } <= content.keys()
    assert {"cpu", "cores", "target", "caches", "system", "bandwidths_gb_per_s"} <= content["machine"].keys()
    assert {"numpy", "numba", "scipy", "python"} <= content["versions"].keys()
    assert content["threads"] == 1
    assert all(case["considered"] and case["nbytes"] for case in content["cases"])
    for case in content["cases"]:
        assert {"name", "problem", "flops", "chosen", "scipy_s", "checked_share", "rows"} <= case.keys()
        for row in case["rows"]:
            if row["status"] == "measured":
                assert len(row["samples_s"]) >= 1
                assert row["median_s"] == pytest.approx(np.median(row["samples_s"]), rel=1e-3)
                assert row["gflops"] == pytest.approx(case["flops"] / row["median_s"] / 1e9)
                assert row["speedup_over_scipy"] == pytest.approx(case["scipy_s"] / row["median_s"])
                assert 0 <= row["bound_share"] <= 1


def test_the_report_needs_no_other_file_and_is_well_formed(written: Written) -> None:
    text = written[0].read_text()
    page = Page()
    page.feed(text)
    assert not page.open
    assert all(value.startswith(("data:image/jpeg;base64,", "#")) for value in page.fetched)
    assert not re.search(r"url\(|@import|https?://", text)
    assert {"svg", "table", "img", "script", "style"} <= page.tags
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_the_report_has_every_section(written: Written) -> None:
    text = written[0].read_text()
    for title in (
        "At a glance",
        "Roofline",
        "Error against time",
        "What was chosen, and why",
        "How this was measured",
    ):
        assert f"<h2>{title}</h2>" in text, title
    tables = written[0].with_suffix(".md").read_text()
    assert SMALL in tables
    assert "| case | chosen |" in tables


def test_results_come_back_from_the_file(written: Written) -> None:
    run = Run.from_json(written[1])
    assert run.command in html_report(run, {})
    assert json.loads(run.to_json()) == json.loads(written[1].read_text())


def test_a_wrong_result_is_shown_and_makes_the_exit_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = measure.make_plan

    def off(algorithm: Algorithm, *args: Any, **settings: Any) -> Any:
        plan = real(algorithm, *args, **settings)
        if not isinstance(algorithm, Naive):
            return plan

        class Wrong:
            description = ""

            def __call__(self, x: Any) -> Any:
                y = plan(x)
                y[0, 0, 0, 0] *= 1 + 1e-3
                return y

        return Wrong()

    monkeypatch.setattr(measure, "make_plan", off)
    words = ["bench", "--quick", "--backend", "naive", "--layers", SMALL, "--report", str(tmp_path / "r.html")]
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "FAILED: naive" in out
    assert "1 of" in (tmp_path / "r.html").read_text()
    assert [row.name for _, row in Run.from_json(tmp_path / "r.json").wrong] == ["naive"]


def test_a_backend_that_breaks_is_a_failure_and_not_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Naive, "make_plan", broken)
    assert main(["bench", "--quick", "--layers", SMALL, "--backend", "naive", "--report", str(tmp_path / "r.html")]) == 1
    assert "ZeroDivisionError: a bug" in capsys.readouterr().out


def test_a_file_of_layers_is_run_and_a_damaged_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.json").write_text(json.dumps({"title": "Mine", "layers": [{"name": "one", "problem": SMALL}]}))
    words = ["bench", "--quick", "--backend", "naive", "--report", str(tmp_path / "r.html"), "--layers"]
    assert main([*words, str(tmp_path / "mine.json")]) == 0
    assert [case.name for case in Run.from_json(tmp_path / "r.json").cases] == ["one"]
    for text in ("{", "[]", '{"layers": [{"name": "x"}]}', '{"layers": [{"name": "x", "problem": "g1"}]}'):
        (tmp_path / "mine.json").write_text(text)
        assert main([*words, str(tmp_path / "mine.json")]) == 2
        assert "mine.json: does not have the form" in capsys.readouterr().err


def test_what_is_slow_is_skipped_by_the_stated_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fastconv.cli.bench.QUICK", measure.Effort(timing_s=0.01, scipy_s=0.1, slowest_call_s=0.0, compiling_s=60.0))
    assert main(["bench", "--quick", "--layers", SMALL, "--report", str(tmp_path / "r.html")]) == 0
    (case,) = Run.from_json(tmp_path / "r.json").cases
    assert {row.status for row in case.rows if row.name != case.chosen} == {"skipped"}
    assert all("more than the limit" in row.remark for row in case.rows if row.name != case.chosen)
    assert case.choice is not None
    assert "skipped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("looks", "measurements", "kept"),
    [
        ([100, 100, 90, 100], 2, 4),  # peak of one thread, of two, after the case with one, with two
        ([100, 200, 100, 199], 2, 4),
        ([100, 200, 100, 100, 101, 200, 198], 3, 7),  # the cores are shared for two looks
        ([100, 200, 100, *[100] * 22], 2, 24),  # and for good
        ([100, 200, 100, *[100, 200] * 2, 100], 4, 8),  # measured anew twice, no more
    ],
)
def test_a_case_measured_while_the_cores_were_shared_is_measured_anew(
    looks: list[float], measurements: int, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks, measured = iter(looks), []
    monkeypatch.setattr("fastconv.cli.bench.measured_peak", lambda *_, **__: next(peaks) * 1e9)
    monkeypatch.setattr("fastconv.cli.bench.PAUSE_S", 0.0)
    monkeypatch.setattr("fastconv.cli.bench.QUICK", measure.Effort(timing_s=0.001, scipy_s=0.1, slowest_call_s=0.0, compiling_s=60.0))
    measure_case = measure.measure_case
    monkeypatch.setattr("fastconv.cli.bench.measure_case", lambda *words: measured.append(words) or measure_case(*words))
    words = ["bench", "--quick", "--backend", "naive", "--layers", SMALL, "--threads", "1", "2", "--report", str(tmp_path / "r.html")]
    assert main(words) == 0
    run = Run.from_json(tmp_path / "r.json")
    assert len(run.cases) == 2
    assert len(measured) == measurements
    assert sum(map(len, run.peak_looks.values())) == kept


@pytest.mark.parametrize(
    "problem",
    [
        "g1mb2ic3ih9iw11oc4kh3kw2sh1sw1ph1_0pw1dh1dw1:float32",
        "g2mb1ic4ih9iw11oc6kh3kw2sh2sw3ph1pw0_2dh2dw1:float64",
        "g4mb3ic4ih7iw8oc4kh3kw3sh1sw1ph1pw1dh1dw2:float32:reflect",
    ],
)
@pytest.mark.parametrize("seconds", [1e-9, 2e-6, 1e-5, 1.0])
def test_the_reference_is_the_definition_on_whatever_part_is_chosen(problem: str, seconds: float) -> None:
    case = layer_case("", Layer("", "", ConvProblem.parse(problem)))
    p = case.problem
    found = oracle.reference(p, case.x, case.w, seconds)
    whole = Naive().make_plan(p.replace(dtype="float64"), case.w.astype("float64"))(case.x.astype("float64"))
    assert np.abs(found.selection.of(whole) - found.expected).max() < 1e-12
    assert found.selection.share == found.expected.size / whole.size
    assert (found.magnitude >= np.abs(found.expected) * (1 - 1e-6)).all()
    if seconds == 1.0:
        assert found.selection.share == 1


def test_the_layers_of_the_benchmark_parse_and_bear_different_names() -> None:
    names = [layer.name for _, layers in builtin_layers().values() for layer in layers]
    assert len(names) == len(set(names)) > 50


def test_the_photograph_comes_with_the_package() -> None:
    (case,) = photograph_cases(None, ["identity"])
    assert case.x.shape[0] == 3
    assert 0 <= case.x.min() < 0.1
    assert 0.9 < case.x.max() <= 1


def test_the_table_is_sorted_by_time(written: Written) -> None:
    run = Run.from_json(written[1])
    lines = case_table(run, run.cases[0]).splitlines()[2:]
    times = [
        float(line.split()[1].replace(",", ""))
        for line in lines
        if line.startswith("  ") and not line.startswith("  scipy") and ":" not in line.split()[0][-1]
    ]
    assert times == sorted(times)


def test_the_geometric_mean_of_ratios() -> None:
    assert geometric_mean([1, 4, 16]) == pytest.approx(4)
    assert geometric_mean([]) == 0
