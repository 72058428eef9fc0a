"""What a bundle says about scans whose truth is known: slice logits, lesions found, lesions there."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from covid_ct_mask_net.declining import SLICE_SAMPLING, declined
from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.geometry import voxel_spacing
from covid_ct_mask_net.labels import LesionClass, SliceClass
from covid_ct_mask_net.pipeline import VolumePipeline
from covid_ct_mask_net.postprocessing import canonical_grid
from covid_ct_mask_net.training.files import write_text
from covid_ct_mask_net.training.metrics.calibration import probabilities
from covid_ct_mask_net.transforms.orientation import to_source
from covid_ct_mask_net.triage.pooling import PoolingRule
from covid_ct_mask_net.triage.support import LesionSupport

ANY = "lesion"
_NAMES = {LesionClass.GROUND_GLASS_OPACITY: "ggo", LesionClass.CONSOLIDATION: "consolidation"}
# As in the cohorts: slices with less lesion do not count as diseased.
_LEAST_LESION_PIXELS = 30


@dataclass(frozen=True)
class Overlap:
    """Lesion volumes in ml: in both, found by the model, and truly there."""

    both: float
    found: float
    true: float

    @property
    def dice(self) -> float:
        """2 both / (found + true); NaN where there is neither."""
        either = self.found + self.true
        return 2 * self.both / either if either else float("nan")


@dataclass(frozen=True)
class AssessedScan:
    """One scan.

    Attributes
    ----------
    name
        Of the patient.
    scan_class
        True class id; None where it is not known.
    logits
        (slices, 3), in the order in which they are read: some pooling rules depend on it.
    slice_classes
        True class ids of the slices; empty where they are not known.
    percent
        Share of the lungs that lesions take, in per cent.
    overlaps
        By ``lesion`` (both classes together), ``ggo`` and ``consolidation``; empty without truth.
    reason
        Code of the reason why the scan was not assessed; the rest is empty then.
    step_mm
        Millimetres of lung for each slice.
    lesion_scores
        Of each slice, see `SliceEvidence`; in the order of the logits.
    """

    name: str
    scan_class: int | None
    logits: tuple[tuple[float, ...], ...] = ()
    slice_classes: tuple[int, ...] = ()
    percent: float = 0.0
    overlaps: dict[str, Overlap] | None = None
    reason: str | None = None
    step_mm: float = 1.0
    lesion_scores: tuple[float, ...] = ()


def assess(
    pipeline: VolumePipeline,
    name: str,
    hu: NDArray[np.float32],
    affine: NDArray[np.float64],
    scan_class: SliceClass | None = None,
    truth: NDArray[np.integer] | None = None,
) -> AssessedScan:
    """Run a scan through the bundle.

    Parameters
    ----------
    pipeline : VolumePipeline
    name : str
    hu : [X, Y, Z]
    affine : (4, 4)
        To RAS mm.
    scan_class : SliceClass, optional
    truth : [X, Y, Z], optional
        0, 1 GGO, 2 consolidation.
    """
    volume = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(hu, dtype=np.float32))[None], affine=torch.as_tensor(affine)
    )
    data = pipeline.prepare({"volume": volume, "source_key": name})
    data = pipeline.assess(pipeline.infer(data))
    known = None if scan_class is None else int(scan_class)
    refusal = declined(data)
    if refusal is not None:
        return AssessedScan(name, known, reason=refusal.code)
    outcome, grid = data["outcome"], canonical_grid(data["volume"])
    found = {one.slice_index: one for one in data["pred"]}
    sampling = data.get(SLICE_SAMPLING)
    order = sorted(found) if sampling is None else [index for index in sampling.order if index in found]
    evidence = [found[index] for index in order]
    places = [grid.source_slice(one.slice_index) for one in evidence]
    slice_classes: tuple[int, ...] = ()
    overlaps = None
    if truth is not None and known is not None:
        shows = np.count_nonzero(truth, axis=(0, 1)) >= _LEAST_LESION_PIXELS
        slice_classes = tuple(known if shows[place] else int(SliceClass.CONTROL) for place in places)
        outlined = np.asarray(to_source(data["lesion_mask"]))[0]
        voxel_ml = float(abs(np.linalg.det(affine[:3, :3]))) / 1000
        overlaps = _overlaps(outlined, np.asarray(truth), voxel_ml)
    return AssessedScan(
        name,
        known,
        tuple(tuple(one.logits) for one in evidence),
        slice_classes,
        float(outcome.involvement.total.percent),
        overlaps,
        step_mm=float(voxel_spacing(grid.affine)[2]) if sampling is None else sampling.step_mm,
        lesion_scores=tuple(one.lesion_score for one in evidence),
    )


def _overlaps(found: NDArray[np.integer], truth: NDArray[np.integer], voxel_ml: float) -> dict[str, Overlap]:
    def overlap(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> Overlap:
        counts = (np.count_nonzero(ours & theirs), np.count_nonzero(ours), np.count_nonzero(theirs))
        return Overlap(*(count * voxel_ml for count in counts))

    return {ANY: overlap(found > 0, truth > 0)} | {
        name: overlap(found == lesion_class, truth == lesion_class) for lesion_class, name in _NAMES.items()
    }


def assess_cohort(
    pipeline: VolumePipeline, folder: Path, progress: Callable[[str], object] | None = None
) -> Iterator[AssessedScan]:
    """Yield the scans of a cohort that ``synthesize`` wrote as NIfTI.

    Raises
    ------
    RefusedInputError
        If the folder holds no such cohort.
    """
    listed = folder / "scans.csv"
    if not listed.is_file() or not (folder / "images").is_dir():
        raise RefusedInputError(
            "NO_COHORT", f"{folder} holds no scans.csv and images; make it by synthesize --format nifti."
        )
    with listed.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        image = nibabel.Nifti1Image.from_filename(folder / "images" / f"{row['patient']}.nii.gz")
        mask = nibabel.Nifti1Image.from_filename(folder / "masks" / f"{row['patient']}.nii.gz")
        yield assess(
            pipeline,
            row["patient"],
            np.asarray(image.dataobj, dtype=np.float32),
            np.asarray(image.affine),
            SliceClass(int(row["class_id"])),
            np.asarray(mask.dataobj),
        )
        if progress is not None:
            progress(row["patient"])


def counted(scan: AssessedScan, temperature: float, support: LesionSupport) -> NDArray[np.float64]:
    """Return what the slices of an assessed scan count, (n, 3), before they are pooled."""
    slices = probabilities(np.array(scan.logits), temperature)
    return support.weighed(slices, np.array(scan.lesion_scores))


def pooled(
    scan: AssessedScan, rule: PoolingRule, temperature: float, support: LesionSupport
) -> NDArray[np.float64]:
    """Return the class probabilities (3,) of an assessed scan under a rule."""
    return rule.at_step(scan.step_mm)(counted(scan, temperature, support))


def write_scans(path: Path, scans: Iterable[AssessedScan]) -> None:
    """Write scans, one a line, so that rules can be fitted without reading them again."""
    write_text(path, "".join(json.dumps(asdict(scan)) + "\n" for scan in scans))


def read_scans(path: Path) -> list[AssessedScan]:
    """Read what `write_scans` wrote."""
    scans = []
    for line in path.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        overlaps = values["overlaps"]
        values["overlaps"] = overlaps and {name: Overlap(**one) for name, one in overlaps.items()}
        values["logits"] = tuple(tuple(row) for row in values["logits"])
        values["slice_classes"] = tuple(values["slice_classes"])
        values["lesion_scores"] = tuple(values["lesion_scores"])
        scans.append(AssessedScan(**values))
    return scans
