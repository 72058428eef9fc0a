"""The MONAI Deploy application: DICOM folder in, a result set with DICOM SR per study out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from monai.deploy.core import Application

from covid_ct_mask_net.app.bundles import find_bundle
from covid_ct_mask_net.app.chain import StudyChain
from covid_ct_mask_net.app.logs import LogStyle, configure_logs
from covid_ct_mask_net.app.operators.intake_operator import JOB, IntakeOperator
from covid_ct_mask_net.app.operators.report_operator import ReportOperator
from covid_ct_mask_net.app.operators.stage_operator import (
    LungSlicesOperator,
    SeriesSelectionOperator,
    SliceInferenceOperator,
    TriageOperator,
    VolumeOperator,
)
from covid_ct_mask_net.app.run import TriageRun
from covid_ct_mask_net.app.settings import AppSettings
from covid_ct_mask_net.errors import ExitCode, UntrustedModelError
from covid_ct_mask_net.pipeline import load_pipeline

# Paths of a settings file and of a file of series rules (docs/settings.md): a MONAI Deploy application has no
# options of its own.
SETTINGS_VARIABLE = "COVID_CT_MASK_NET_SETTINGS"
SERIES_RULES_VARIABLE = "COVID_CT_MASK_NET_SERIES_RULES"


class TriageApplication(Application):
    """Triage every study of the input folder.

    Input, output and model come from the command line (``-i``, ``-o``, ``-m``) or the ``HOLOSCAN_*``
    variables, as for any MONAI Deploy application. After ``run`` call ``conclude``.

    Flow: intake -> series selection -> volume -> lung slices -> slice inference -> triage -> report.
    """

    def __init__(self, argv: Sequence[str] | None = None) -> None:
        self._triage_run: TriageRun | None = None
        super().__init__(None if argv is None else list(argv))

    def compose(self) -> None:
        """Build the graph."""
        # The SDK hangs a plain function on the class; called on an instance it takes that for the arguments.
        context = Application.init_app_context(self.argv)
        settings = AppSettings.read(
            _named_file(SETTINGS_VARIABLE), series_rules=_named_file(SERIES_RULES_VARIABLE)
        )
        withheld = configure_logs(LogStyle.JSON)
        # Before anything is read or made: a path that is wrong is told at once.
        bundle = find_bundle(_named_model(context.model_path))
        run = TriageRun.start(
            [Path(context.input_path)], Path(context.output_path), settings=settings, withheld=withheld
        )
        self._triage_run = run
        try:
            pipeline = load_pipeline(bundle, settings.of_inference())
        except UntrustedModelError as error:
            run.note_untrusted(error)
            raise
        run.inference = pipeline.settings
        chain = StudyChain.of(pipeline, run.output, settings)
        intake = IntakeOperator(self, name="intake", jobs=run.jobs())
        stages = [
            SeriesSelectionOperator(self, name="series_selection", chain=chain),
            VolumeOperator(self, name="volume", chain=chain),
            LungSlicesOperator(self, name="lung_slices", chain=chain),
            SliceInferenceOperator(self, name="slice_inference", chain=chain),
            TriageOperator(self, name="triage", chain=chain),
        ]
        report = ReportOperator(self, name="report", chain=chain, finished=run.finished)
        flow = [intake, *stages, report]
        for upstream, downstream in pairwise(flow):
            self.add_flow(upstream, downstream, {(JOB, JOB)})

    def conclude(self) -> ExitCode:
        """Write the files about the run as a whole and return its exit code."""
        if self._triage_run is None:
            raise RuntimeError("The application has not run yet.")
        return self._triage_run.conclude()

    def close(self) -> None:
        """Let go of the output folder, also where the run did not come to its end."""
        if self._triage_run is not None:
            self._triage_run.close()


def _named_file(variable: str) -> Path | None:
    """Return the file that the deployment names in a variable, or None."""
    name = os.environ.get(variable)
    return Path(name) if name else None


def _named_model(model_path: str) -> Path | None:
    """Return the model that the user named, or None for the SDK's default where there is no such folder."""
    path = Path(model_path)
    named = path.exists() or "HOLOSCAN_MODEL_PATH" in os.environ
    return path if named else None
