"""Wisdom: stored at once or not at all, merged, forgotten; damaged and foreign files are reported and left alone."""

from __future__ import annotations

import json
import multiprocessing
import warnings

import numpy as np
import pytest

import fastconv
from fastconv import api, tuning
from fastconv.errors import WisdomError
from fastconv.planner import decide
from fastconv.problem import ConvProblem
from fastconv.wisdom import FORMAT, Wisdom, machine_key, opened, read

PROBLEM = ConvProblem.parse("g1mb1ic8ih16iw16oc8kh3kw3sh1sw1ph1pw1dh1dw1:float32")


def stored(path, problem=PROBLEM, threads=1, **seconds):
    known = Wisdom(path)
    known.store(problem, threads, {name.replace("_", ":"): value for name, value in seconds.items()})
    return known


def test_a_missing_file_knows_nothing(tmp_path):
    assert Wisdom(tmp_path / "none.json").seconds(PROBLEM, 1) == {}


def test_what_is_stored_is_read_by_another_object(tmp_path):
    path = tmp_path / "deep" / "wisdom.json"
    stored(path, naive=1.5, im2col=0.5)
    assert Wisdom(path).seconds(PROBLEM, 1) == {"naive": 1.5, "im2col": 0.5}
    assert Wisdom(path).seconds(PROBLEM, 2) == {}
    assert [item.name for item in path.parent.iterdir()] == ["wisdom.json"]  # no lock, no temporary file is left


def test_the_measured_best_is_chosen_and_named_as_wisdom(tmp_path):
    path = tmp_path / "w.json"
    stored(path, naive=0.001, im2col=0.5)
    with fastconv.config(wisdom=path, threads=1) as settings:
        decision = decide(PROBLEM, settings, is_prepared=True)
    assert (decision.algorithm.name, decision.source) == ("naive", "wisdom")


def test_wisdom_ignores_the_epilogue_and_keeps_to_the_accuracy(tmp_path):
    path = tmp_path / "w.json"
    known = Wisdom(path)
    known.store(PROBLEM, 1, {"winograd:f6x3": 1e-6, "im2col": 1e-3})
    with fastconv.config(wisdom=path, threads=1, accuracy="strict") as settings:
        assert decide(PROBLEM.replace(has_bias=True, activation="relu"), settings, is_prepared=True).algorithm.name == "im2col"
    with fastconv.config(wisdom=path, threads=1, accuracy="fast") as settings:
        assert decide(PROBLEM, settings, is_prepared=True).algorithm.name == "winograd:f6x3"


def test_wisdom_that_changes_holds_for_the_next_call(tmp_path):
    path = tmp_path / "w.json"
    x, w = np.ones((1, 8, 16, 16), np.float32), np.ones((8, 8, 3, 3), np.float32)
    layer = fastconv.Conv2d(w, padding=1)
    with fastconv.config(wisdom=path, threads=1):
        for name in ("naive", "im2col"):
            Wisdom(path).store(PROBLEM, 1, {name: 1e-9})  # as another process does
            assert fastconv.plan(x.shape, w, padding=1).backend == name
            assert layer.plan_for(x.shape).backend == name
            for _ in range(2):
                fastconv.conv2d(x, w, padding=1)
            kept = list(api._one_shot_plans._entries.values())[-1].plan
            assert kept.backend == name


def test_a_named_backend_wins_over_wisdom(tmp_path):
    path = tmp_path / "w.json"
    stored(path, naive=0.001)
    with fastconv.config(wisdom=path, threads=1) as settings:
        assert decide(PROBLEM, settings, "im2col").algorithm.name == "im2col"


def test_autotune_measures_and_later_calls_follow_it(tmp_path):
    path = tmp_path / "w.json"
    with fastconv.config(wisdom=path, threads=1):
        explanation = fastconv.autotune((1, 4, 9, 9), (4, 4, 3, 3), padding=1, time_limit=0.0)
        assert explanation.decision.source == "wisdom"
        again = fastconv.explain((1, 4, 9, 9), (4, 4, 3, 3), True, padding=1, activation="relu")
    measured = {row[0]: row[3] for row in again.rows}
    assert measured[again.chosen].endswith("s")  # with its unit
    assert again.chosen == explanation.chosen
    assert "wisdom" in str(again)
    assert "wisdom" in again._repr_html_()


def test_effort_measure_tunes_a_new_problem_on_first_use(tmp_path):
    path = tmp_path / "w.json"
    problem = PROBLEM.replace(ih=7, iw=7, ic=2, oc=2)
    with fastconv.config(wisdom=path, threads=1, effort="measure") as settings:
        assert decide(problem, settings, is_prepared=True).source == "wisdom"
    assert Wisdom(path).seconds(problem, 1)


def test_a_hopeless_candidate_is_given_up_after_one_run():
    calls = []

    def plan(x, out):
        del x, out
        calls.append(None)

    tuning._seconds(plan, None, None, budget=0.0, hopeless_s=0.0)
    assert len(calls) == 1
    tuning._seconds(plan, None, None, budget=0.0)
    assert len(calls) == 1 + 3


@pytest.mark.parametrize(
    "content",
    [
        "not json at all", "", "[1, 2]", '{"format": "something else"}', json.dumps({"format": FORMAT, "version": 999, "machines": {}}),
        json.dumps({"format": FORMAT, "version": 1, "machines": {"m": {"problems": {"p": {"seconds": {"naive": "__import__"}}}}}}),
        json.dumps({"format": FORMAT, "version": 1, "machines": {"m": {"problems": {"p": {"seconds": {"naive": -1}}}}}}),
        json.dumps({"format": FORMAT, "version": 1, "machines": {"m": {"problems": 3}}}),
        json.dumps({"format": FORMAT, "version": 1, "machines": []}), "[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_file_is_reported_once_ignored_and_never_overwritten(tmp_path, content):
    path = tmp_path / "w.json"
    path.write_text(content)
    known = Wisdom(path)
    with pytest.warns(RuntimeWarning, match=r"w\.json"):
        assert known.seconds(PROBLEM, 1) == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert known.seconds(PROBLEM, 1) == {}
        known.refresh()
    with pytest.raises(WisdomError, match=r"w\.json"):
        known.store(PROBLEM, 1, {"naive": 1.0})
    assert path.read_text() == content


def test_bytes_that_are_no_text_are_damage(tmp_path):
    path = tmp_path / "w.json"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(WisdomError, match="damaged"):
        read(path)


def test_a_place_that_cannot_be_written_is_a_wisdom_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(WisdomError, match="FASTCONV_WISDOM"):
        Wisdom(blocked / "w.json").store(PROBLEM, 1, {"naive": 1.0})


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "w.json"
    known = stored(path, naive=1.0)
    before = path.read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastconv.wisdom.os.fsync", full)
    with pytest.raises(WisdomError, match="No space left"):
        known.store(PROBLEM, 2, {"naive": 2.0})
    assert path.read_text() == before
    assert [item.name for item in tmp_path.iterdir()] == ["w.json"]


def _store_many(path, first):
    known = Wisdom(path)
    for i in range(10):
        known.store(PROBLEM.replace(ih=100 + first + i), 1, {"naive": 1.0})


def test_concurrent_writers_lose_nothing(tmp_path):
    path = tmp_path / "w.json"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_store_many, args=(path, 10 * k)) for k in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len(Wisdom(path).problems()) == 30


def test_export_merge_forget(tmp_path):
    a, b, out = (tmp_path / name for name in ("a.json", "b.json", "out.json"))
    first = stored(a, naive=1.0)
    stored(b, PROBLEM.replace(ih=20), naive=2.0)
    assert first.merge(b) == 1
    assert len(first.problems()) == 2
    first.export(out)
    assert set(read(out)["machines"]) == {machine_key()}
    assert first.forget(PROBLEM) == 1
    assert first.forget() == 1
    assert first.problems() == {}
    assert len(Wisdom(out).problems()) == 2


def test_wisdom_of_another_machine_is_kept_and_not_used(tmp_path):
    path = tmp_path / "w.json"
    entry = {"problems": {f"{PROBLEM} threads=1": {"seconds": {"naive": 1e-9}}}}
    path.write_text(json.dumps({"format": FORMAT, "version": 1, "machines": {"another machine": entry}}))
    known = Wisdom(path)
    assert known.seconds(PROBLEM, 1) == {}
    known.store(PROBLEM, 1, {"im2col": 1.0})
    assert "another machine" in read(path)["machines"]


def test_off_means_no_file():
    assert opened("off") is None
