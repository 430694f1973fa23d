from __future__ import annotations

import re

import pytest

from trainers.evaluation.report import Report, Score, Sheet, Step, curves_svg, render, smooth, text_table

SCORES = [
    Score("bc-x-s0-1", "bc", "cog/PickTray-v0", 5, 100),
    Score("bc-x-s0-1", "bc", "cog/PlaceTray-v0", 90, 100),
    Score("bfn-x-s0-2", "bfn <&>", "cog/PickTray-v0", 95, 100),
]


def test_the_table_has_a_row_per_method_and_says_what_was_not_judged() -> None:
    lines = text_table(SCORES).splitlines()
    assert lines[0].split("  ")[0] == "success [95 % interval]"
    assert re.split(r"\s{2,}", lines[1]) == ["bc", "5/100 = 0.05 [0.02, 0.11]", "90/100 = 0.90 [0.83, 0.94]"]
    assert re.split(r"\s{2,}", lines[2]) == ["bfn <&>", "95/100 = 0.95 [0.89, 0.98]", "–"]


def test_smoothing_by_hand() -> None:
    # totals .1, .1*.9 + .2 = .29 over 1 - .9 = .1 and 1 - .81 = .19
    assert smooth([1.0, 2.0], weight=0.9) == pytest.approx([1.0, 0.29 / 0.19])
    assert smooth([3.0] * 50) == pytest.approx([3.0] * 50)


def test_curves_have_a_panel_for_each_metric_that_exists() -> None:
    curves = {"bc-x": [{"update": 1, "loss": 2.0}, {"update": 2, "loss": 1.0}]}
    svg = curves_svg(curves, ["loss", "q_mean"])
    assert svg.startswith("<svg")
    assert svg.count('id="axes_') == 1
    assert curves_svg({}, ["loss"]) == ""


def test_the_page_needs_no_other_file_and_escapes_what_it_shows() -> None:
    report = Report(
        title="Demo",
        summary="Two methods.",
        scores=SCORES,
        sheets=[Sheet("weak grasps", b"\x89PNG")],
        curves={"bc-x": [{"update": 1, "loss": 2.0}, {"update": 2, "loss": 1.0}]},
        lineage=[Step("Mixture", {"digest": "abc"}, "select * from episodes where t < 3")],
    )
    page = render(report)
    assert "bfn &lt;&amp;&gt;" in page
    assert "t &lt; 3" in page
    assert "data:image/png;base64,iVBORw==" in page
    external = [url for url in re.findall(r'(?:src|href)="([^"#]+)"', page) if not url.startswith("data:")]
    assert external == []
