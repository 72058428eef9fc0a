"""Put what was measured of the shipped weights into the metadata and the README of their bundle.

    python -m covid_ct_mask_net.training.release.bundle_metrics docs/model_report.json bundle

``eval_metrics`` gets the figures that `report` measured, ``weights_sha256`` the weights that they are of, and
the section Performance of ``docs/README.md`` the same figures with their intervals (`readme_figures`). Both
files have them from the report alone; a report on other weights than the bundle's is refused.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from covid_ct_mask_net.checkpoints import file_sha256
from covid_ct_mask_net.errors import CovidCTMaskNetError, UntrustedModelError
from covid_ct_mask_net.training.files import read_json, write_text
from covid_ct_mask_net.training.release.readme_figures import with_figures

# Name in the metadata, and where the figure stands in the report.
FIGURES = {
    "expert_slices_dice_lesion": "expert_slices/dice/lesion/value",
    "expert_slices_dice_ggo": "expert_slices/dice/ggo/value",
    "expert_slices_dice_consolidation": "expert_slices/dice/consolidation/value",
    "expert_slices_mask_ap": "expert_slices/mask_ap/ap",
    "expert_slices_mask_ap50": "expert_slices/mask_ap/ap50",
    "synthetic_slices_dice_lesion": "synthetic_slices/dice/lesion/value",
    "synthetic_scans_accuracy": "synthetic_scans/scan_level/accuracy/value",
    "synthetic_scans_disease_sensitivity": "synthetic_scans/scan_level/disease_sensitivity/value",
    "synthetic_scans_disease_specificity": "synthetic_scans/scan_level/disease_specificity/value",
}
_METRICS = re.compile(r'^(?P<indent> *)"eval_metrics": \{[^{}]*\}', re.MULTILINE)
_SHA256 = re.compile(r'^ *"weights_sha256": "[0-9a-f]*",\n', re.MULTILINE)


def evaluation_metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a report that it has, rounded to four places."""
    found = {}
    for name, path in FIGURES.items():
        value: Any = report
        for part in path.split("/"):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, int | float) and math.isfinite(value):
            found[name] = round(float(value), 4)
    return found


def state_metrics(report: Path, bundle: Path) -> tuple[Path, Path]:
    """Write the figures of a report into ``configs/metadata.json`` and ``docs/README.md``; return the paths.

    Parameters
    ----------
    report : Path
        ``model_report.json``.
    bundle : Path
        Bundle folder.

    Raises
    ------
    UntrustedModelError
        ``REPORT_OTHER_WEIGHTS`` if the report is on other weights than ``models/model.pt``.
    RefusedInputError
        ``README_MARKS`` if the README has no place for them; neither file is changed then.
    """
    content = read_json(report)
    measured = content["model"]["sha256"]
    weights = bundle / "models" / "model.pt"
    if measured != file_sha256(weights):
        raise UntrustedModelError(
            "REPORT_OTHER_WEIGHTS",
            f"{report} is on weights with SHA-256 {measured[:12]}…, but {weights} is another file; "
            "measure again.",
        )
    metadata, readme = bundle / "configs" / "metadata.json", bundle / "docs" / "README.md"
    page = with_figures(readme.read_text(encoding="utf-8"), content, readme)
    text = _SHA256.sub("", metadata.read_text(encoding="utf-8"))
    lines = json.dumps(evaluation_metrics(content), indent=4).splitlines()

    def block(found: re.Match[str]) -> str:
        indent = found["indent"]
        return f'{indent}"weights_sha256": "{measured}",\n{indent}"eval_metrics": ' + f"\n{indent}".join(
            lines
        )

    return write_text(metadata, _METRICS.sub(block, text)), write_text(readme, page)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("report", type=Path, help="model_report.json")
    parser.add_argument("bundle", type=Path, help="bundle folder")
    options = parser.parse_args(arguments)
    try:
        state_metrics(options.report, options.bundle)
    except CovidCTMaskNetError as error:
        sys.stderr.write(f"{error.code}: {error.sentence}\n")
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
