"""Settings: their sources, which one wins, and that they stay where they were set."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import fastconv
from fastconv.settings import forget_sources

pytestmark = pytest.mark.plain


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    forget_sources()
    return tmp_path


def where(name: str) -> tuple[object, str]:
    settings = fastconv.get_config()
    return getattr(settings, name), settings.sources[name]


def test_the_defaults(folder: Path) -> None:  # noqa: ARG001  an empty one
    settings = fastconv.get_config()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert (settings.backend, settings.threads, settings.accuracy) == ("auto", cores, "standard")
    assert (settings.max_workspace, settings.effort, settings.wisdom) == (None, "estimate", "auto")
    assert set(settings.sources.values()) == {"default"}


def test_each_source_wins_over_the_weaker_ones(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "fastconv.toml").write_text('backend = "im2col"\nthreads = 3\n', encoding="utf-8")
    forget_sources()
    assert where("backend") == ("im2col", str(folder / "fastconv.toml"))
    assert where("accuracy") == ("standard", "default")
    monkeypatch.setenv("FASTCONV_BACKEND", "naive")
    forget_sources()
    assert where("backend") == ("naive", "environment variable FASTCONV_BACKEND")
    assert where("threads") == (3, str(folder / "fastconv.toml"))
    fastconv.set_config(backend="direct")
    assert where("backend") == ("direct", "set_config")
    with fastconv.config(backend="naive"):
        assert where("backend") == ("naive", "with fastconv.config")
        with fastconv.config(backend="im2col", threads=1):
            assert where("backend") == ("im2col", "with fastconv.config")
            assert where("threads") == (1, "with fastconv.config")
            assert fastconv.explain((1, 1, 5, 5), (1, 1, 3, 3)).decision.source == "config"
            chosen = fastconv.explain((1, 1, 5, 5), (1, 1, 3, 3), backend="naive")
            assert (chosen.chosen, chosen.decision.source) == ("naive", "argument")
            assert fastconv.explain((1, 1, 5, 5), (1, 1, 3, 3), backend="auto").decision.source == "cost model"
        assert where("backend") == ("naive", "with fastconv.config")
    assert where("backend") == ("direct", "set_config")
    fastconv.set_config(backend=None)
    assert where("backend") == ("naive", "environment variable FASTCONV_BACKEND")


@pytest.mark.parametrize("variable", ["BACKEND", "THREADS", "ACCURACY", "MAX_WORKSPACE", "EFFORT", "WISDOM"])
def test_every_setting_has_its_environment_variable(folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:  # noqa: ARG001
    text, value = {
        "BACKEND": ("im2col", "im2col"), "THREADS": ("2", 2), "ACCURACY": ("fast", "fast"), "MAX_WORKSPACE": ("64MiB", 64 * 2**20),
        "EFFORT": ("measure", "measure"), "WISDOM": ("off", "off"),
    }[variable]  # fmt: skip
    monkeypatch.setenv(f"FASTCONV_{variable}", text)
    forget_sources()
    assert where(variable.lower()) == (value, f"environment variable FASTCONV_{variable}")


@pytest.mark.parametrize(
    ("text", "nbytes"), [("0", 0), ("123", 123), ("1kB", 1000), ("1.5 KiB", 1536), ("2mib", 2**21), ("3 GB", 3 * 10**9), ("auto", None)]
)
def test_sizes_of_workspace(text: str, nbytes: int | None) -> None:
    assert fastconv.config(max_workspace=text).max_workspace == nbytes


def test_the_file_is_found_from_the_working_folder_upwards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.fastconv]\naccuracy = "strict"\n', encoding="utf-8")
    below = folder / "a" / "b"
    below.mkdir(parents=True)
    (folder / "a" / "pyproject.toml").write_text("[tool.other]\n", encoding="utf-8")
    monkeypatch.chdir(below)
    forget_sources()
    assert where("accuracy") == ("strict", str(folder / "pyproject.toml"))
    (folder / "a" / "fastconv.toml").write_text('accuracy = "fast"\n', encoding="utf-8")
    forget_sources()
    assert where("accuracy") == ("fast", str(folder / "a" / "fastconv.toml"))


def test_a_file_of_others_that_is_no_toml_is_passed_over(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("this is not toml", encoding="utf-8")
    forget_sources()
    assert where("accuracy") == ("standard", "default")


def test_config_is_also_a_call_that_changes_nothing() -> None:
    before = fastconv.get_config()
    assert fastconv.config(threads=1, backend="naive").threads == 1
    assert fastconv.get_config() == before
    assert fastconv.config() == before
    with fastconv.config(threads=1) as inside:
        assert inside == fastconv.get_config()
        assert inside.threads == 1


def test_an_exception_ends_the_block() -> None:
    before = fastconv.get_config()
    with pytest.raises(KeyError), fastconv.config(threads=1):
        raise KeyError
    assert fastconv.get_config() == before


def test_one_object_may_be_entered_twice() -> None:
    settings = fastconv.config(threads=1)
    with settings, settings:
        assert fastconv.get_config().threads == 1
    with settings:
        assert fastconv.get_config().threads == 1
    assert fastconv.get_config().sources["threads"] == "default"


def test_settings_of_a_block_do_not_reach_other_threads() -> None:
    seen = []
    with fastconv.config(backend="naive"):
        thread = threading.Thread(target=lambda: seen.append(fastconv.get_config().backend))
        thread.start()
        thread.join()
    assert seen == ["auto"]
    fastconv.set_config(backend="im2col")
    thread = threading.Thread(target=lambda: seen.append(fastconv.get_config().backend))
    thread.start()
    thread.join()
    assert seen == ["auto", "im2col"]


def test_settings_of_a_block_do_not_reach_other_tasks() -> None:
    async def inside(name: str, ready: asyncio.Event, other: asyncio.Event) -> str:
        with fastconv.config(backend=name):
            ready.set()
            await other.wait()
            return fastconv.get_config().backend

    async def both() -> list[str]:
        first, second = asyncio.Event(), asyncio.Event()
        return list(await asyncio.gather(inside("naive", first, second), inside("im2col", second, first)))

    assert asyncio.run(both()) == ["naive", "im2col"]
    assert fastconv.get_config().backend == "auto"


def test_nothing_is_set_where_one_setting_is_wrong() -> None:
    with pytest.raises(fastconv.ConfigError):
        fastconv.set_config(threads=1, accuracy="sloppy")
    assert fastconv.get_config().sources["threads"] == "default"


def test_a_config_compares_by_value_and_survives_pickling() -> None:
    settings = fastconv.config(threads=1, backend="naive")
    assert settings == fastconv.config(backend="naive", threads=1)
    assert hash(settings) == hash(fastconv.config(backend="naive", threads=1))
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(AttributeError):
        settings.threads = 2  # type: ignore[misc]


def test_importing_reads_no_settings_and_compiles_nothing() -> None:
    code = "import fastconv, sys; print('numba' in sys.modules and fastconv.__version__)"
    environment = {**os.environ, "FASTCONV_BACKEND": "nonsense"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_wrong_environment_is_told_at_the_first_call() -> None:
    code = "import fastconv, numpy as np; fastconv.conv2d(np.ones((1, 3, 3)), np.ones((1, 1, 2, 2)))"
    environment = {**os.environ, "FASTCONV_THREADS": "many"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "fastconv.errors.ConfigError: environment variable FASTCONV_THREADS: threads must be 'auto' or an integer of at least 1; got 'many'."
    )
