"""``covid-ct-mask-net import-checkpoint``: checkpoints of the original repository to ours."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.errors import ExitCode

_DESCRIPTION = f"""\
Convert checkpoints of the original COVID-CT-Mask-Net repository. Nothing that is pickled in them is run:
tensors and anchor settings are read as data, and a file that asks for anything else is refused. Backbone,
truncation, lesion classes and the size of S are read from the weights. {RESEARCH_NOTICE}"""
_EXAMPLES = """\
examples:
  covid-ct-mask-net import-checkpoint segmentation.pth detector.pt       one network
  covid-ct-mask-net import-checkpoint seg.pth cls.pth model.pt       both in one file, for triage
  covid-ct-mask-net import-checkpoint ggo.pth ggo.pt --two-classes ggo   a detector of GGO alone

then list the new file, to say that you trust it:
  cd FOLDER && sha256sum model.pt >> MANIFEST.sha256

and run it under the configuration of its network. `triage --weights` takes networks of the settings in
inference.yaml alone, those of the shipped weights; ResNet50 in the paper's settings, on NIfTI:
  python -m monai.bundle run --weights /FOLDER/model.pt --dataset_dir CT.nii.gz \\
    --config_file "['bundle/configs/inference.yaml','bundle/configs/inference_resnet50.yaml']"
For DICOM, copy bundle/, enter weights, detector_settings and classifier_settings into its
configs/inference.yaml, and use `triage --bundle COPY`. Pooling, temperature and thresholds there were fitted
to the shipped weights; others need their own (docs/training.md, `rule`).
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "import-checkpoint",
        help="convert checkpoints of the original repository",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "old",
        nargs="+",
        type=Path,
        metavar="OLD.pth",
        help="file to convert; or a segmentation and a classifier",
    )
    parser.add_argument("new", type=Path, metavar="NEW.pt", help="checkpoint to write; replaced if it exists")
    parser.add_argument(
        "--two-classes",
        choices=("merge", "ggo"),
        default="merge",
        help="what a detector with one lesion class was trained on; the weights do not tell (default: merge)",
    )
    parser.add_argument(
        "--name", metavar="TEXT", help="name of the model in results (default: its architecture)"
    )
    parser.add_argument("--trained-on", metavar="TEXT", help="training data, for results")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> ExitCode:
    """Convert and say what was found.

    Returns
    -------
    ExitCode
        Done; refusals are raised.
    """
    from covid_ct_mask_net.labels import MaskType
    from covid_ct_mask_net.networks.slice_model import SliceModel
    from covid_ct_mask_net.training.import_checkpoint import UNSTATED_DATA, describe, import_checkpoint

    model = import_checkpoint(
        arguments.old,
        arguments.new,
        two_classes=MaskType(arguments.two_classes),
        name=arguments.name,
        trained_on=arguments.trained_on or UNSTATED_DATA,
    )
    lines = []
    if model.detector is not None:
        lines.append(f"lesion detector: {describe(model.detector.settings)}")
    if model.classifier is not None:
        settings = model.classifier.settings
        lines.append(
            f"classifier: {describe(model.classifier.detector_settings)}; S reads {settings.regions} "
            "regions, "
            f"{settings.features} wide, {settings.classes} classes"
        )
    if model.detector is not None and model.classifier is not None:
        shared = SliceModel(model.detector, model.classifier, min_score=0.5).shared
        lines.append(f"computed once for both: {shared.value}")
    lines.append(f"{model.report.sha256}  {arguments.new.name}")
    sys.stdout.write("\n".join(lines) + "\n")
    return ExitCode.DONE
