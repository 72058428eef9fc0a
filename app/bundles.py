"""Find the bundle: a folder, the packaged ``models/<name>/``, a TorchScript file, or the installed one."""

from __future__ import annotations

from pathlib import Path

from covid_ct_mask_net.errors import UntrustedModelError
from covid_ct_mask_net.paths import bundle_root, is_torchscript

_METADATA = Path("configs") / "metadata.json"
_SCRIPTS = "*.ts"


def find_bundle(path: Path | None) -> Path:
    """Return the bundle that a path names: its folder, or a TorchScript file.

    Parameters
    ----------
    path : Path or None
        A bundle folder; a TorchScript file; or a folder with exactly one bundle folder in it or, without any,
        one TorchScript file, in it or one folder further down (as MONAI Deploy packages models). None stands
        for the bundle of this installation.

    Raises
    ------
    UntrustedModelError
        ``BUNDLE_MISSING``, with what was looked for.
    """
    if path is None:
        return bundle_root()
    if _is_bundle(path) or is_torchscript(path):
        return path
    inside = _inside(path) if path.is_dir() else []
    if len(inside) == 1:
        return inside[0]
    found = f"holds {len(inside)} bundles" if inside else "holds no bundle"
    if not path.is_dir():
        found = "is a file, but no TorchScript" if path.exists() else "does not exist"
    raise UntrustedModelError(
        "BUNDLE_MISSING",
        f"{path} {found}; looked for {_METADATA} in it and in the folders inside it, and for TorchScript "
        f"files ({_SCRIPTS}) there. Name a bundle folder, a TorchScript file, or a folder with one of them.",
    )


def _inside(folder: Path) -> list[Path]:
    """Return the bundle folders in a folder or, if there are none, the TorchScript files."""
    bundles = [child for child in sorted(folder.iterdir()) if _is_bundle(child)]
    scripts = sorted([*folder.glob(_SCRIPTS), *folder.glob(f"*/{_SCRIPTS}")])
    return bundles or [path for path in scripts if is_torchscript(path)]


def _is_bundle(folder: Path) -> bool:
    return (folder / _METADATA).is_file()
