"""The command line as people meet it: output, exit statuses, mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fastconv
from fastconv.backends import TABLE
from fastconv.cli.cases import builtin_layers
from fastconv.cli.main import main
from fastconv.settings import DEFAULTS, forget_sources

pytestmark = pytest.mark.xdist_group("cli")

LAYER = "r50_3x3_64-64@56"
PROBLEM = "g1mb1ic64ih56iw56oc64kh3kw3sh1sw1ph1pw1dh1dw1:float32"


def test_info_names_each_setting_with_value_and_source(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONV_ACCURACY", "strict")
    forget_sources()
    try:
        assert main(["info"]) == 0
    finally:
        monkeypatch.undo()
        forget_sources()
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line.split()}
    assert all(name in lines for name in DEFAULTS)
    assert "strict" in lines["accuracy"]
    assert "environment variable FASTCONV_ACCURACY" in lines["accuracy"]
    assert fastconv.__version__ in lines["fastconv"]
    assert all(algorithm.name in lines for algorithm in TABLE)


@pytest.mark.parametrize("word", [LAYER, PROBLEM])
def test_explain_shows_each_backend_and_the_choice(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert main(["explain", word]) == 0
    out = capsys.readouterr().out
    assert PROBLEM in out
    assert "chosen: " in out
    assert all(algorithm.name in out for algorithm in TABLE)


def test_explain_lists_every_layer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(layer.name in out and str(layer.problem) in out for _, layers in builtin_layers().values() for layer in layers)


def test_version_and_help_end_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert fastconv.__version__ in capsys.readouterr().out
    for words in (["--help"], ["bench", "--help"], ["filter", "--help"], ["info", "--help"], ["explain", "--help"]):
        assert main(words) == 0
        assert "usage: fastconv" in capsys.readouterr().out


MISTAKES = [
    ([], "COMMAND"),
    (["bnech"], "invalid choice"),
    (["explain"], "PROBLEM is missing"),
    (["explain", "r50_3x3_64-64@57"], f"Did you mean '{LAYER}'?"),
    (["explain", "g1mb1ic64"], "does not have the form"),
    (["explain", LAYER, "--backend", "naiv"], "Did you mean 'naive'?"),
    (["explain", LAYER, "--threads", "0"], "threads must be 'auto' or an integer of at least 1"),
    (["bench", "--layers", "resnet5"], "Did you mean 'resnet50'?"),
    (["bench", "--layers", "missing.json"], "missing.json: cannot be read"),
    (["bench", "--backend", "direkt"], "Did you mean 'direct'?"),
    (["bench", "--threads", "0"], "--threads must be at least 1; got 0."),
    (["bench", "--report", "no/such/folder/report.html"], "there is no folder no/such/folder"),
    (["bench", "--image", "missing.png"], "missing.png: there is no such file."),
    (["filter"], "the picture IN is missing"),
    (["filter", "cat.png"], "--kernel NAME is missing"),
    (["filter", "cat.png", "-k", "sobel"], "-o OUT is missing"),
    (["filter", "missing.png", "-k", "sobel", "-o", "out.png"], "missing.png: there is no such file."),
    (["filter", "missing.png", "-k", "sobbel", "-o", "out.png"], "Did you mean 'sobel'?"),
    (["filter", "missing.png", "-k", "gaussian4", "-o", "out.png"], "the size must be odd"),
    (["filter", "missing.png", "-k", "sobel", "-o", "out.png", "--backend", "ftf"], "Did you mean 'fft'?"),
]


@pytest.mark.parametrize(("words", "sentence"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_mistake_is_one_sentence_and_exit_status_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert "Traceback" not in captured.err
    assert not list(tmp_path.iterdir())


def test_a_wrong_setting_in_the_environment_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONV_THREADS", "many")
    forget_sources()
    try:
        assert main(["info"]) == 2
    finally:
        monkeypatch.undo()
        forget_sources()
    assert "environment variable FASTCONV_THREADS" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m fastconv explain --list | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
