"""The report page in headless Chromium: no error, nothing from the network, charts drawn, filters
that filter, paper and dark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.support.exports import SIZE, disc, regions, task, write
from tests.support.lab import OUT, browser_page, needs_chromium

HOSTILE = "</script><img src=x onerror=alert(1)>"
CHARTS = (
    "chart-classes",
    "chart-instances",
    "chart-confusion",
    "chart-scores",
    "chart-calibration",
    "chart-effort",
)


def tasks() -> list[dict]:
    """Sixty tasks of two annotators and two model versions.

    The second version is better, one annotator has a name that is code.
    """
    rng = np.random.default_rng(3)
    made = []
    for k in range(60):
        truth = [
            ("car", disc(20 + rng.integers(-5, 5), 20, 10), 1.0),
            ("dog", disc(60, 40 + rng.integers(-5, 5), 9), 1.0),
        ]
        version = "v1" if k % 2 else "v2"
        shift = 4 if version == "v1" else 1
        found = [
            (label, np.roll(frame, rng.integers(-shift, shift + 1), 1), float(rng.uniform(0.5, 1)))
            for label, frame, _ in truth
        ]
        if rng.random() < 0.5:
            found.append(("cat", disc(40, 10, 6), float(rng.uniform(0.2, 0.6))))
        predicted = regions(*found)
        accepted = [*regions(*[(label, frame, 1.0) for label, frame, _ in truth])]
        for region, before in zip(accepted, predicted, strict=False):
            region["id"] = before["id"]
            if rng.random() < 0.3:
                region["value"] = before["value"]
        one = task(k, accepted, predicted)
        one["annotations"][0]["completed_by"] = {"email": HOSTILE if k % 3 else "anna@example.com"}
        one["predictions"][0]["model_version"] = version
        made.append(one)
    return made


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from backend.cli.main import main

    folder = tmp_path_factory.mktemp("report")
    write(
        folder / "export.json",
        [*tasks(), task(99, None, None), {"id": 98, "annotations": [{"result": f"{HOSTILE}"}]}],
    )
    pictures = folder / "pictures"
    pictures.mkdir()
    import PIL.Image

    for k in range(0, 60, 2):
        PIL.Image.new("RGB", SIZE[::-1], (90, 120, 90)).save(pictures / f"{k}.jpg")
    options = [
        "--report",
        str(folder / "report.html"),
        "--json",
        str(folder / "scores.json"),
        "--images",
        str(pictures),
        "--no-progress",
        "--resamples",
        "100",
    ]
    assert main(["score", str(folder / "export.json"), *options]) == 1
    return folder / "report.html"


def test_the_page_is_one_file_that_names_no_address(report: Path) -> None:
    text = report.read_text()
    without_library = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert not re.findall(r"""(?:src|href)=["'](?!data:)[^"']+""", without_library)
    assert "default-src 'none'" in text
    assert HOSTILE not in without_library


@pytest.fixture
def page(report: Path) -> Iterator:
    with browser_page(viewport={"width": 1280, "height": 900}) as opened:
        opened.faults = []
        opened.asked = []
        opened.on(
            "console",
            lambda message: (
                opened.faults.append(message.text) if message.type in ("error", "warning") else None
            ),
        )
        opened.on("pageerror", lambda error: opened.faults.append(str(error)))
        opened.on("request", lambda request: opened.asked.append(request.url))
        opened.on("dialog", lambda dialog: opened.faults.append(f"dialog {dialog.message}"))
        opened.goto(report.as_uri())
        opened.wait_for_selector("#chart-effort .bars path")
        yield opened
        assert opened.faults == []
        assert [
            url for url in opened.asked if not url.startswith(("file:", "data:", "blob:"))
        ] == []


def card(page, name: str) -> str:
    return str(
        page.locator(".card", has=page.get_by_text(name, exact=True)).locator("b").text_content()
    )


@needs_chromium
def test_numbers_and_charts_are_those_of_the_json(page, report: Path) -> None:
    document = json.loads((report.parent / "scores.json").read_text())
    whole = document["views"][0]
    assert card(page, "mean IoU") == f"{whole['figures']['mean_iou']['value']:.3f}"
    assert card(page, "untouched") == f"{100 * whole['figures']['untouched_share']['value']:.1f} %"
    assert card(page, "mask AP") == f"{whole['figures']['AP']['value']:.3f}"
    for chart in CHARTS:
        assert page.locator(f"#{chart} .main-svg").count() > 0, chart
    bars = page.evaluate("document.querySelectorAll('#chart-classes .bars .point').length")
    assert bars == len(whole["classes"])
    drawn = page.evaluate("byId('chart-classes').data[0].y")
    assert drawn == [row["iou"] for row in whole["classes"]]
    assert page.evaluate("byId('chart-confusion').data[0].z.length") == len(whole["classes"])
    heights = page.evaluate("byId('chart-scores').data.map(t => t.y.reduce((a, b) => a + b, 0))")
    assert sum(heights) == sum(
        row["instances"]["predicted"] for row in whole["classes"] if row["value"]
    )
    assert page.locator("#table-classes tbody tr").count() == len(whole["classes"])
    better = [
        row["tag"] for row in whole["scores"]["suggested"] if row["n_kept"] < row["n_predicted"]
    ]
    assert [
        line.split("  <!--")[0] for line in page.locator("#thresholds").text_content().splitlines()
    ] == better
    assert "task 98" in page.locator(".failed").text_content()
    OUT.mkdir(exist_ok=True)
    page.screenshot(path=str(OUT / "report.png"), full_page=True)


@needs_chromium
def test_filters_filter(page, report: Path) -> None:
    document = json.loads((report.parent / "scores.json").read_text())

    def value(annotator: str | None, version: str | None) -> float:
        view = next(
            one
            for one in document["views"]
            if (one["annotator"], one["model_version"]) == (annotator, version)
        )
        return view["figures"]["mean_iou"]["value"]

    everything = page.locator("#gallery button").count()
    page.select_option("#version", "v2")
    assert card(page, "mean IoU") == f"{value(None, 'v2'):.3f}" != f"{value(None, None):.3f}"
    assert page.locator("#scope").text_content() == "30 images"
    assert 0 < page.locator("#gallery button").count() < everything
    page.select_option("#annotator", HOSTILE)
    assert card(page, "mean IoU") == f"{value(HOSTILE, 'v2'):.3f}"
    page.select_option("#class", label="cat")
    assert page.evaluate("byId('chart-classes').layout.xaxis.ticktext") == ["cat"]
    assert page.locator("#table-classes tbody tr").count() == 1
    assert card(page, "IoU") == "0.000"
    names = page.locator("#gallery button span").all_text_contents()
    assert names
    assert all("IoU of cat" in name for name in names)
    page.select_option("#class", "")
    page.select_option("#annotator", "")
    page.select_option("#version", "")
    assert card(page, "mean IoU") == f"{value(None, None):.3f}"
    assert page.locator("#gallery button").count() == everything


@needs_chromium
def test_a_picture_opens_when_it_is_clicked(page) -> None:
    assert not page.locator("#viewer").is_visible()
    button = page.locator("#gallery button").first
    button.scroll_into_view_if_needed()
    button.click()
    assert page.locator("#viewer").is_visible()
    assert page.evaluate("byId('viewer-image').naturalWidth") > 1000
    first = page.locator("#viewer-name").text_content()
    assert "mean IoU" in page.locator("#viewer-facts").text_content()
    page.keyboard.press("ArrowRight")
    assert page.locator("#viewer-name").text_content() != first
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()
    notes = page.locator("#gallery button small").all_text_contents()
    assert any("not at hand" in note for note in notes)  # every other picture is missing
    assert any("not at hand" not in note for note in notes)


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_light_and_dark(report: Path, scheme: str) -> None:
    with browser_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme) as page:
        page.goto(report.as_uri())
        page.wait_for_selector("#chart-effort .bars path")
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        inks = page.evaluate(
            "['h1', '.card span', '#table-classes td', '#chart-classes .xtick text', '#chart-effort"
            " .legendtext', '#chart-confusion .ytick text'].map(s => { const e ="
            " document.querySelector(s), c = getComputedStyle(e); return s.includes('chart') ?"
            " c.fill : c.color; })"
        )
        page.screenshot(path=str(OUT / f"report-{scheme}.png"))
    for ink in inks:
        assert contrast(ink, paper) >= 4.5, (ink, paper)


def contrast(first: str, second: str) -> float:
    """WCAG 2 contrast of two CSS colours."""

    def luminance(colour: str) -> float:
        parts = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
@needs_chromium
def test_forty_classes_with_long_names(tmp_path: Path) -> None:
    from backend.cli.main import main

    names = [f"vehicle of the municipal fleet, kind number {k}" for k in range(39)] + [
        "constructor"
    ]
    made = []
    for k in range(40):
        result = regions(
            ("car", disc(20, 20, 9), 0.3 + k / 70), ("dog", disc(60, 40, 9), 0.9 - k / 70)
        )
        for region, name in zip(result, (names[k], names[(k * 7) % 40]), strict=True):
            region["value"]["brushlabels"] = [name]
        made.append(task(k, result, result))
    write(tmp_path / "e.json", made)
    assert (
        main(
            [
                "score",
                str(tmp_path / "e.json"),
                "--report",
                str(tmp_path / "r.html"),
                "--no-progress",
                "--resamples",
                "0",
            ]
        )
        == 0
    )
    with browser_page(viewport={"width": 1366, "height": 768}) as page:
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto((tmp_path / "r.html").as_uri())
        page.wait_for_selector("#chart-effort .bars path", state="attached")
        page.wait_for_timeout(300)
        for chart in ("chart-classes", "chart-instances", "chart-confusion", "chart-effort"):
            texts = f"[...document.querySelectorAll('#{chart} .ytick text')]"
            assert page.evaluate(f"new Set({texts}.map(e => e.textContent)).size") >= 40, (
                f"names of {chart} cannot be told apart"
            )
            boxes = sorted(
                page.evaluate(
                    f"{texts}.map(e => e.getBoundingClientRect()).map(b => [b.y, b.height])"
                )
            )
            assert all(low[0] - high[0] >= 0.8 * high[1] for high, low in pairwise(boxes)), (
                f"names of {chart} lie over each other"
            )
        page.screenshot(path=str(OUT / "report-many.png"), full_page=True)
        page.select_option("#class", label="constructor")
        assert card(page, "IoU") == "1.000"
    assert faults == []


@needs_chromium
def test_it_fits_on_paper_and_on_a_telephone(report: Path, tmp_path: Path) -> None:
    wide = (
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, .chart, pre') &&"
        " e.getBoundingClientRect().right > innerWidth + 1).length"
    )
    with browser_page(viewport={"width": 720, "height": 1000}) as page:
        page.goto(report.as_uri())
        page.wait_for_selector("#chart-effort .bars path")
        page.emulate_media(media="print")
        assert page.evaluate(wide) == 0
        figure = page.evaluate(
            "document.querySelector('#chart-classes').parentElement.getBoundingClientRect().width"
        )
        svg = page.evaluate(
            "document.querySelector('#chart-classes .main-svg').getBoundingClientRect().width"
        )
        assert 0.8 * figure < svg <= figure
        page.pdf(path=str(tmp_path / "report.pdf"), format="A4")
        assert (tmp_path / "report.pdf").stat().st_size > 20_000
        page.emulate_media(media="screen")
        page.set_viewport_size({"width": 390, "height": 800})
        page.wait_for_timeout(300)
        assert page.evaluate(wide) == 0
