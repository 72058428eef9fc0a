"""Find the bundle: a folder, the packaged ``models/<name>/`` form, or the one this package came with."""

from __future__ import annotations

from pathlib import Path

from covid_ct_mask_net.errors import UntrustedModelError
from covid_ct_mask_net.paths import bundle_root

_METADATA = Path("configs") / "metadata.json"


def find_bundle(path: Path | None) -> Path:
    """Return the bundle folder that a path names.

    Parameters
    ----------
    path : Path or None
        A bundle folder, or a folder with exactly one bundle in it (as MONAI Deploy packages models). None
        stands for the bundle of this installation.

    Raises
    ------
    UntrustedModelError
        ``BUNDLE_MISSING``, with what was looked for.
    """
    if path is None:
        return bundle_root()
    if (path / _METADATA).is_file():
        return path
    inside = (
        [child for child in sorted(path.iterdir()) if (child / _METADATA).is_file()] if path.is_dir() else []
    )
    if len(inside) == 1:
        return inside[0]
    found = f"holds {len(inside)} bundles" if inside else "holds no bundle"
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
    raise UntrustedModelError(
        "BUNDLE_MISSING",
        f"{path} {found}; looked for {_METADATA} in it and in the folders inside it. "
        "Name a bundle folder, or a folder with one bundle in it.",
    )
