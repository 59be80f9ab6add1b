"""README.md and its companions: links lead somewhere, and the chart and table are those of the committed result file."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from fastconv.cli.results import Run

ROOT = Path(__file__).parents[2]


def test_chart_tables_and_page_are_those_of_the_result_file() -> None:
    spec = importlib.util.spec_from_file_location("report", ROOT / "bench" / "report.py")
    assert spec is not None
    assert spec.loader is not None
    report = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(report)
    run = Run.from_json(report.RESULTS)
    networks = Run.from_json(report.NETWORKS) if report.NETWORKS.exists() else None
    assert report.readme_part(run, networks) in report.README.read_text(encoding="utf-8")
    assert report.PAGE.read_text(encoding="utf-8") == report.page(run, networks)
    assert report.CHART.read_text(encoding="utf-8") == report.chart(run)
    assert report.SPEEDUP.read_text(encoding="utf-8") == report.speedup(run)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    assert all((ROOT / link).is_file() for link in links if "://" not in link)
