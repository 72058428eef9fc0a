"""Tables 2 and 3: hyper-parameters as the paper prints them, as its code has them, and as runs had them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from covid_ct_mask_net.networks.settings import ClassifierSettings, DetectorSettings
from covid_ct_mask_net.training.runs import Run
from covid_ct_mask_net.training.tables.table import MISSING, Table

# (section of the run's settings, name) -> (what, paper, the paper's code)
_Row = tuple[str, str, str, str, str]
_SEGMENTATION: tuple[_Row, ...] = (
    ("detector", "anchor_sizes", "anchor sizes, pixels", "2^2 to 2^5", "2, 4, 8, 16, 32"),
    ("detector", "anchor_ratios", "anchor ratios", "6 from 0.1 to 2", "0.1, 0.25, 0.5, 1, 1.5, 2"),
    ("detector", "rpn_nms", "RPN NMS", "0.75", "0.75"),
    ("detector", "roi_nms", "RoI NMS", "0.25", "0.5 (README: 0.75)"),
    ("detector", "rpn_foreground_iou", "RPN foreground IoU", "0.75", "0.7"),
    ("detector", "rpn_background_iou", "RPN background IoU", MISSING, "0.3"),
    ("detector", "roi_foreground_iou", "RoI foreground IoU", "0.75", "0.75"),
    ("detector", "roi_background_iou", "RoI background IoU", MISSING, "0.5"),
    ("detector", "rpn_batch", "RPN batch", "256", "256"),
    ("detector", "roi_batch", "RoI batch", "256", "256"),
    ("detector", "rpn_positive_fraction", "RPN positive fraction", MISSING, "0.75"),
    ("detector", "roi_positive_fraction", "RoI positive fraction", MISSING, "0.75"),
    ("detector", "rpn_top_testing", "RPN output, testing", "1000", "1000"),
    ("detector", "rpn_top_training", "RPN output, training", MISSING, "2000"),
    ("detector", "detections", "RoI output", "100", "100 (AP: 128)"),
    ("detector", "roi_score", "RoI score threshold", "0.05", "0.05 (README's AP: 0.75)"),
    ("training", "minimum_area", "smallest lesion, pixels", "a threshold", "more than 100"),
    ("detector", "image_min_size", "image size", MISSING, "512"),
)
_CLASSIFIER: tuple[_Row, ...] = (
    ("classifier", "regions", "regions N", "256", "256"),
    ("classifier", "features", "features F of S", "1024", "1024"),
    ("classifier", "rpn_nms", "RPN NMS", "0.75", "0.75"),
    ("classifier", "roi_nms", "RoI NMS", "0.75", "0.75"),
    ("classifier", "roi_score", "RoI score threshold", "-0.01", "-0.01"),
)
_TRAINING: tuple[_Row, ...] = (
    ("training", "learning_rate", "Adam learning rate", "1e-5", "1e-5"),
    ("training", "weight_decay", "weight decay", "1e-3", "1e-3"),
)
_EPOCHS = {
    "segmentation": ("training", "epochs", "epochs", "100", "100"),
    "classifier": ("training", "epochs", "epochs", "50 (iCTCF: 10)", "50"),
}
_BATCH = {
    "segmentation": ("training", "batch_size", "batch size", "1", "1"),
    "classifier": ("training", "batch_size", "batch size", "8", "8, slice by slice"),
}


def table_2(runs: Sequence[Run]) -> Table:
    """Return Table 2: hyper-parameters of Mask R-CNN."""
    ours = [run for run in runs if run.info.kind == "segmentation"]
    rows = (*_SEGMENTATION, *_TRAINING, _EPOCHS["segmentation"], _BATCH["segmentation"])
    return _table("table-2", "Table 2: hyper-parameters of Mask R-CNN", rows, ours)


def table_3(runs: Sequence[Run]) -> Table:
    """Return Table 3: hyper-parameters of COVID-CT-Mask-Net."""
    ours = [run for run in runs if run.info.kind in ("classifier", "binary")]
    rows = (*_CLASSIFIER, *_TRAINING, _EPOCHS["classifier"], _BATCH["classifier"])
    return _table("table-3", "Table 3: hyper-parameters of COVID-CT-Mask-Net", rows, ours)


def _table(name: str, title: str, rows: Sequence[_Row], runs: Sequence[Run]) -> Table:
    defaults: Mapping[str, Mapping[str, Any]] = {
        "detector": DetectorSettings().to_dict(),
        "classifier": ClassifierSettings().to_dict(),
    }
    notes = [
        "Where paper and code differ, the default here is the code's value, except RoI NMS of segmentation, "
        "which is the paper's 0.25.",
        "Training values have no default in code: they are entries of the bundle's training configurations.",
    ]
    if not runs:
        notes.append("No run is shown: none of this kind was given.")
    columns = ("parameter", "paper", "the paper's code", "default here", *(run.folder.name for run in runs))
    cells = [
        (
            what, paper, code, _value(defaults.get(section, {}).get(key)),
            *(_value(run.info.settings.get(section, {}).get(key)) for run in runs),
        )
        for section, key, what, paper, code in rows
    ]  # fmt: skip
    return Table(name, title, columns, tuple(cells), tuple(notes))


def _value(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
