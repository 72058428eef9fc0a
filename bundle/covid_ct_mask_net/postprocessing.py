"""MONAI dictionary transforms behind the networks: triage of the volume and its result file."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from covid_ct_mask_net import assemble
from covid_ct_mask_net.axial_planes import plane_tilt
from covid_ct_mask_net.declining import DECLINED, SLICE_SAMPLING, declined
from covid_ct_mask_net.errors import NotAssessableError, RefusedInputError, UsageError
from covid_ct_mask_net.geometry import CanonicalGrid, voxel_spacing
from covid_ct_mask_net.identifiers import pseudonym
from covid_ct_mask_net.nifti_file import NIFTI_SUFFIXES
from covid_ct_mask_net.reduction import FULL_GRID, FullGrid
from covid_ct_mask_net.result_set import is_unfinished, write_result_set
from covid_ct_mask_net.results import GeometryReport, ModelReport, StudyResult
from covid_ct_mask_net.triage.volume_triage import VolumeTriage

_RESULT, _MASK = "result.json", "lesion_mask.nii.gz"


class SourceKeyd(Transform):
    """Put the SHA-256 of a volume's file under ``source_key``: identifiers of its result derive from it.

    Parameters
    ----------
    key : str
        Entry with the path of the file.

    Raises
    ------
    RefusedInputError
        ``NIFTI_UNREADABLE``.
    """

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with ``source_key`` and ``source_path``."""
        path = Path(data[self.key])
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise RefusedInputError(
                "NIFTI_UNREADABLE", f"The file cannot be read ({error.strerror})."
            ) from error
        return {**data, "source_key": digest, "source_path": str(path)}


class TriageVolumed(Transform):
    """Turn slice evidence into the triage of the volume.

    Reads the canonical HU volume, the lung mask, ``source_key`` and the evidence; adds ``outcome``
    (`TriageOutcome`) and ``lesion_mask`` (canonical label map, uint8 (1, X, Y, Z)). A volume that was
    declined passes unchanged; one with a reason in place of evidence (`DecliningInferer`) is declined.

    Parameters
    ----------
    triage : VolumeTriage
    model : ModelReport
        The model that gave the evidence; part of the lesions' tracking UIDs.
    volume_key, lungs_key, evidence_key : str
        Entries of the data dictionary.
    """

    def __init__(
        self,
        triage: VolumeTriage,
        model: ModelReport,
        volume_key: str = "volume",
        lungs_key: str = "lung_mask",
        evidence_key: str = "pred",
    ) -> None:
        self.triage = triage
        self.model = model
        self.volume_key = volume_key
        self.lungs_key = lungs_key
        self.evidence_key = evidence_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with ``outcome`` and ``lesion_mask``, or with the reason it was declined."""
        if declined(data) is not None:
            return dict(data)
        evidence = data[self.evidence_key]
        if isinstance(evidence, NotAssessableError):
            return {**data, DECLINED: evidence}
        volume = data[self.volume_key]
        grid = canonical_grid(volume)
        try:
            outcome = self.triage(
                volume[0].numpy(),
                np.asarray(data[self.lungs_key][0], dtype=np.uint8),
                grid,
                evidence,
                str(data["source_key"]),
                self.model,
                data.get(SLICE_SAMPLING),
            )
        except NotAssessableError as error:
            return {**data, DECLINED: error}
        label_map = torch.as_tensor(outcome.label_map)[None]
        lesion_mask = MetaTensor(
            label_map,
            affine=volume.affine,
            meta={k: v for k, v in volume.meta.items() if k != "affine"},
            applied_operations=list(volume.applied_operations),
        )
        return {**data, "outcome": outcome, "lesion_mask": lesion_mask}


class SaveResultd(Transform):
    """Write ``result.json`` of a NIfTI volume, and its lesion mask, into ``output_dir/<pseudonym>/``.

    Both or nothing: an earlier set of the same volume is replaced as a whole, see `write_result_set`.

    Parameters
    ----------
    output_dir : str
        Folder for all results; made if it is not there.
    model : ModelReport
        The model that speaks.
    volume_key : str
        Entry with the canonical volume.

    Raises
    ------
    OutputError
        ``OUTPUT_UNWRITABLE``; nothing partial is left.
    """

    def __init__(self, output_dir: str, model: ModelReport, volume_key: str = "volume") -> None:
        self.output_dir = Path(output_dir)
        self.model = model
        self.volume_key = volume_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the files and return the data with ``result`` (`StudyResult`)."""
        result = nifti_result(data, self.model, self.volume_key)
        files = {_RESULT: result.to_json().encode()}
        if "lesion_mask" in data and declined(data) is None:
            files[_MASK] = label_map_file(data["lesion_mask"])
        write_result_set(self.output_dir, result.pseudonym, files)
        return {**data, "result": result}


def nifti_result(data: Mapping[Hashable, Any], model: ModelReport, volume_key: str) -> StudyResult:
    """Return the result of a NIfTI volume from its data dictionary."""
    # A file that cannot be read has no hash; its path stands for it.
    key = str(data.get("source_key", data.get(volume_key)))
    source = assemble.Source(
        pseudonym=pseudonym(key),
        kind="nifti",
        key=key,
        files={"accepted": 1},
        geometry=_geometry(data.get(volume_key)),
        warnings=tuple(data.get("warnings", ())),
        packages=("nibabel",),
    )
    error = declined(data)
    if error is not None:
        return assemble.declined(source, error, model)
    return assemble.assessed(source, data["outcome"], model)


def canonical_grid(volume: MetaTensor) -> CanonicalGrid:
    """Return the grid of a canonical volume (1, X, Y, Z) and of the source it was made from."""
    return CanonicalGrid(
        affine=np.asarray(volume.affine, dtype=np.float64),
        source_affine=np.asarray(volume.meta["source_affine"], dtype=np.float64),
    )


def label_map_file(label_map: MetaTensor) -> bytes:
    """Return a label map (1, X, Y, Z) as ``.nii.gz``; equal maps make equal files."""
    image = nibabel.Nifti1Image(  # type: ignore[no-untyped-call]
        np.asarray(label_map[0], dtype=np.uint8), np.asarray(label_map.affine, dtype=np.float64)
    )
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    return gzip.compress(image.to_bytes(), mtime=0)


def list_volumes(
    source: str | Path | list[str], output_dir: str | Path | None = None
) -> list[dict[str, str]]:
    """Return one ``{"volume": path}`` for each NIfTI file that was named or lies in a named folder.

    Results of this product in a folder are left out, and all that lies in the output folder: a second run
    would read what the first one wrote. A file, or a folder within the output folder, is taken where it is
    named itself.

    Parameters
    ----------
    source : path or list of paths
        Files or folders; folders are searched to any depth.
    output_dir : path, optional
        Where results are written.

    Raises
    ------
    UsageError
        ``INPUT_MISSING`` for a path that is not there, ``NO_NIFTI`` if no volume was found.
    """
    paths: list[Path] = []
    for entry in [source] if isinstance(source, str | Path) else source:
        path = Path(entry)
        if path.is_dir():
            paths += [found for found in _volumes_in(path) if not _is_result(found, path, output_dir)]
        elif path.is_file():
            paths.append(path)
        else:
            raise UsageError("INPUT_MISSING", f"There is no file or folder {path}.")
    if not paths:
        raise UsageError(
            "NO_NIFTI",
            f"There is no NIfTI file ({' or '.join(NIFTI_SUFFIXES)}) in {source} besides results of "
            "earlier runs; name one.",
        )
    return [{"volume": str(path)} for path in paths]


def _volumes_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.name.endswith(NIFTI_SUFFIXES) and p.is_file())


def _is_result(path: Path, folder: Path, output_dir: str | Path | None) -> bool:
    """Tell whether a file in a folder that was named is something that a run wrote."""
    if path.name == _MASK and (is_unfinished(path.parent) or path.with_name(_RESULT).is_file()):
        return True
    output = None if output_dir is None else Path(output_dir).resolve()
    if output is None or folder.resolve().is_relative_to(output):
        return False
    return path.resolve().is_relative_to(output)


def _geometry(volume: MetaTensor | None) -> GeometryReport | None:
    """Describe the source grid of a volume; a volume that was never loaded has none."""
    if not isinstance(volume, MetaTensor) or "source_affine" not in volume.meta:
        return None
    source_affine = np.asarray(volume.meta["source_affine"], dtype=np.float64)
    # The canonical axes are a permutation of the source's: undo it for the shape.
    order = np.abs(np.linalg.inv(source_affine[:3, :3]) @ np.asarray(volume.affine)[:3, :3]).argmax(axis=1)
    full: FullGrid | None = volume.meta.get(FULL_GRID)
    shape = [int(volume.shape[1:][axis]) for axis in order] if full is None else full.shape
    return GeometryReport(
        shape=(shape[0], shape[1], shape[2]),
        spacing_mm=voxel_spacing(source_affine),
        orientation=lps_axis_codes(source_affine),
        slice_thickness_mm=None,
        gantry_tilt_degrees=plane_tilt(source_affine),
        missing_slices=0,
    )


def lps_axis_codes(affine: Any) -> str:
    """Return the direction in which each voxel index grows, as letters of R L A P I S."""
    return "".join(nibabel.aff2axcodes(affine))  # type: ignore[no-untyped-call]
