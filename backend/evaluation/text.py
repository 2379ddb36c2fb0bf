"""A scoring document as text for the terminal."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from backend.errors import counted
from backend.evaluation.comparison_text import comparison_text
from backend.evaluation.effort import BARELY
from backend.evaluation.tables import HEADLINE, as_number, table
from backend.evaluation.verdict import verdict

MOST_FAULTS = 20


def upstream_lines(view: Mapping[str, Any]) -> str:
    """The three lines that upstream YOLO-SAM2 prints."""
    figures = view["figures"]
    classes = " ".join(f"{one['value']}: {as_number(one['iou'])}" for one in view["classes"])
    return (
        f"Pixel_Accuracy: {as_number(figures['pixel_accuracy']['value'])}\nMean_IOU:"
        f" {as_number(figures['mean_iou']['value'])}\nClass_IOU: {classes}"
    )


def figures_text(view: Mapping[str, Any]) -> str:
    """The figures over all classes, with their intervals."""
    rows = []
    for name, title in HEADLINE.items():
        one = view["figures"].get(name)
        if one is not None:
            interval = one["interval"]
            rows.append(
                [
                    title,
                    as_number(one["value"]),
                    f"[{as_number(interval[0])}, {as_number(interval[1])}]" if interval else "",
                ]
            )
    return table(["", "", "95 % interval" if any(row[2] for row in rows) else ""], rows)


def classes_text(view: Mapping[str, Any]) -> str:
    """The figures by class name."""
    columns = {"IoU": "iou", "Dice": "dice", "accuracy": "accuracy", "boundary F": "boundary_f"}
    if view["scores"] is not None:
        columns |= {
            "precision": "precision_50",
            "recall": "recall_50",
            "F1": "f1_50",
            "F1@75": "f1_75",
            "AP": "ap",
            "PQ": "panoptic_quality",
        }
    rows = [
        [one["name"], *(as_number(one.get(key), 3) for key in columns.values())]
        for one in view["classes"]
    ]
    return table(["class", *columns], rows)


def would_have_been(effort: Mapping[str, Any] | None) -> str:
    """What predictions that no annotator saw would have left to do."""
    said = "edit effort: no annotation began from one of these predictions"
    unshown = (effort or {}).get("would_have_been")
    if not unshown:
        return said
    names = ("untouched", "relabelled", "reshaped", "relabelled_and_reshaped", "deleted")
    count = {name: unshown.get(name, 0) for name in (*names, "added", "barely_touched")}
    change = count["reshaped"] + count["relabelled_and_reshaped"] - count["barely_touched"]
    n = counted(sum(count[name] for name in names), "pre-label")
    return (
        f"{said}; had they been shown, of {n}"
        f" {count['untouched'] + count['barely_touched']} would have been good to less than"
        f" {100 * BARELY:.0f} % of their pixels, {change} would have been reshaped,"
        f" {count['relabelled'] + count['relabelled_and_reshaped']} renamed,"
        f" {count['deleted']} deleted, and {counted(count['added'], 'object')} added"
    )


def effort_text(view: Mapping[str, Any]) -> str:
    """What annotators did to the predicted regions."""
    effort = view["effort"]
    if not effort or not effort["annotations"]:
        return would_have_been(effort)
    n = effort["predicted"]
    share = effort["changed_share_of_reshaped"]

    def line(name: str, more: str = "") -> list[str]:
        return [
            f"  {name.replace('_', ' ')}",
            str(effort[name]),
            f"{100 * effort[name] / n:.1f} %" if n else "n/a",
            more,
        ]

    changed = ""
    if share is not None:
        changed = (
            f"{100 * share:.1f} % of their pixels changed, and in {effort['barely_touched']} of"
            f" them less than {100 * BARELY:.0f} %"
        )
    rows = [
        line("untouched"),
        line("relabelled"),
        line("reshaped", changed),
        line("relabelled_and_reshaped"),
        line("deleted"),
        ["  added", str(effort["added"]), "", ""],
    ]
    text = table(
        [
            f"edit effort, {counted(n, 'predicted region')} in"
            f" {counted(effort['annotations'], 'annotation')}",
            "",
            "",
            "",
        ],
        rows,
    )
    moved = [
        f"  {one['from']} became {one['to']}: {one['count']}" for one in effort["relabellings"][:5]
    ]
    return "\n".join([text, *moved])


def tracks_text(tracks: Mapping[str, Any]) -> str:
    """Objects of videos, and their means."""
    columns = {
        "J": "j",
        "recall": "j_recall",
        "decay": "j_decay",
        "F": "f",
        "recall ": "f_recall",
        "decay ": "f_decay",
        "J&F": "j_and_f",
    }
    rows = [
        [f"{one['video']} {one['object']}", *(as_number(one[key]) for key in columns.values())]
        for one in tracks["objects"]
    ]
    mean = ["mean over objects", *(as_number(tracks["mean"][key]) for key in columns.values())]
    told = [table(["object", *columns], [*rows, mean])]
    if not tracks["ends_count"]:
        told.append("the first and last frame of a video do not count, as in DAVIS")
    if tracks["identity"] is not None:
        told.append(_identity_line(tracks["identity"]))
    if tracks["failed"]:
        n = counted(len(tracks["failed"]), "frame")
        told.append(
            f"{n} without a prediction that can be read, taken as empty: {tracks['failed'][0]}"
        )
    return "\n".join(told)


def _identity_line(identity: Mapping[str, Any]) -> str:
    figures = ", ".join(
        f"{name} {as_number(identity[key])}"
        for name, key in (
            ("HOTA", "hota"),
            ("DetA", "det_a"),
            ("AssA", "ass_a"),
            ("IDF1", "idf1"),
        )
    )
    switches = counted(int(identity["switches"]), "switch")
    return f"identities, whatever the numbers of the tracks: {figures}, {switches}"


def groups_text(document: Mapping[str, Any]) -> str:
    """A row for every annotator and model version, where there are several."""
    rows = []
    for view in document["views"]:
        if view["annotator"] is None and view["model_version"] is None:
            continue
        effort = view["effort"]
        figures = view["figures"]
        f1 = figures.get("f1_50", {"value": None})["value"]
        untouched = None if not effort else effort["untouched_share"]
        rows.append(
            [
                view["annotator"] or "(all)",
                view["model_version"] or "(all)",
                str(view["images"]),
                as_number(figures["mean_iou"]["value"]),
                as_number(f1),
                as_number(untouched),
                str(effort["annotations"]) if effort else "n/a",
            ]
        )
    return (
        table(
            ["annotator", "model_version", "images", "mean IoU", "F1@50", "untouched", "shown to"],
            rows,
        )
        if rows
        else ""
    )


def suggestions_text(view: Mapping[str, Any]) -> str:
    """The thresholds, ready to paste, and what each would change."""
    scores = view["scores"]
    if not scores or not scores["suggested"]:
        return (
            "no threshold can be suggested: no predicted region has a score, or no class is both"
            " predicted and accepted"
        )
    better = [one for one in scores["suggested"] if one["n_kept"] < one["n_predicted"]]
    as_good = [one["label"] for one in scores["suggested"] if one["n_kept"] == one["n_predicted"]]
    width = max((len(one["tag"]) for one in better), default=0)
    lines = [
        f"{one['tag'].ljust(width)}  <!-- F1 {as_number(one['f1_now'], 3)} -> "
        f"{as_number(one['f1'], 3)}, keeps {one['n_kept']} of {one['n_predicted']} -->"
        for one in better
    ]
    if as_good:
        lines.append(f"<!-- none is better than what was shown: {', '.join(as_good)} -->")
    place = (
        ["<!-- in place of the same labels under BrushLabels, not under a smart tag -->"]
        if better
        else []
    )
    return "\n".join(
        [
            *place,
            *lines,
            (
                f"<!-- the lowest score seen is {scores['lowest']:g}: what lies below was never"
                " predicted, so lower thresholds cannot be judged -->"
            ),
        ]
    )


def stopped_text(document: Mapping[str, Any]) -> str:
    """Why the run stopped early, and how many images the figures are of."""
    settings = document["settings"]
    listed = f" of {settings['listed_images']}" if "listed_images" in settings else ""
    return (
        f"stopped early, {settings['stopped']}: these figures are of"
        f" {counted(document['views'][0]['images'], 'image')}{listed}"
        if settings.get("stopped")
        else ""
    )


def faults_text(document: Mapping[str, Any]) -> str:
    """What could not be scored."""
    faults = document["failed"]
    if not faults:
        return ""
    lines = [f"failed {len(faults)}:", *(f"  {one['reason']}" for one in faults[:MOST_FAULTS])]
    rest = len(faults) - MOST_FAULTS
    return "\n".join(
        lines + ([f"  and {rest} more; --json FILE lists them all"] if rest > 0 else [])
    )


def one_sided(view: Mapping[str, Any]) -> list[str]:
    """Labels that only one side has, which often are one label under two names."""
    rows = [row for row in view["classes"] if row["value"]]
    predicted = [
        row["name"] for row in rows if not row["pixels"]["true"] and row["pixels"]["predicted"]
    ]
    accepted = [
        row["name"] for row in rows if row["pixels"]["true"] and not row["pixels"]["predicted"]
    ]
    if not predicted or not accepted:
        return []
    close = difflib.get_close_matches(accepted[0], predicted, 1, 0)[0]
    return [
        f"only predicted: {', '.join(predicted)}; only accepted: {', '.join(accepted)}; the same"
        f" under other names? --rename {accepted[0]}={close},.."
    ]


def score_texts(document: Mapping[str, Any], with_thresholds: bool) -> list[str]:
    """Everything that ``score`` prints."""
    view = document["views"][0]
    settings = document["settings"]
    what = f"compared {counted(view['images'], 'image')}" + (
        f" in {counted(view['compared'], 'annotation')}"
        if view["compared"] != view["images"]
        else ""
    )
    remarks = [what]
    if settings["tasks_without_annotation"]:
        remarks.append(
            f"{counted(settings['tasks_without_annotation'], 'task')} without an annotation that"
            " counts took no part"
        )
    if settings.get("tasks_without_chosen_version"):
        remarks.append(
            f"{counted(settings['tasks_without_chosen_version'], 'annotated task')} without a"
            " prediction of the chosen version took no part"
        )
    remarks += one_sided(view)
    places = settings.get("left_out_in", {})
    if settings["regions_left_out"]:
        remarks.append(
            "not taken as they are: "
            + "; ".join(
                f"{n} {what}" + (f" ({', '.join(where)})" if (where := places.get(what)) else "")
                for what, n in settings["left_out"].items()
            )
        )
    if len(document["model_versions"]) > 1:
        remarks.append(
            "there are several model versions: each annotation is compared with the one it began"
            " from, else with the newest; the table at the end has each, --model-version chooses"
            " one, --compare sets two side by side"
        )
    if settings.get("tasks_held_out"):
        remarks.append(
            f"{counted(settings['tasks_held_out'], 'task')} of the control group without"
            " pre-labels: for the times alone"
        )
    opening = "\n".join(f"{one[0].upper()}{one[1:]}." for one in verdict(document))
    if document.get("comparison"):
        return ["\n".join(remarks), comparison_text(document["comparison"])]
    texts = [
        *([opening] if opening else []),
        "\n".join(remarks),
        figures_text(view),
        classes_text(view),
        effort_text(view),
    ]
    if view["scores"] and view["scores"]["by_class"][""]["expected_calibration_error"] is not None:
        texts.append(
            "calibration of scores: expected error"
            f" {as_number(view['scores']['by_class']['']['expected_calibration_error'])}"
        )
    texts.append(groups_text(document))
    return [*texts, suggestions_text(view)] if with_thresholds else texts
