"""Run the MONAI Deploy application: ``python app -i INPUT -o OUTPUT -m BUNDLE``."""

from __future__ import annotations

import sys

from covid_ct_mask_net.app.process_safety import settled_process
from covid_ct_mask_net.exit_codes import exit_code
from covid_ct_mask_net.heaps import share_heaps
from covid_ct_mask_net.process_user import settle_user

# Logs of a platform are no place for tracebacks, which may name paths.
_ADVICE = "Run covid-ct-mask-net triage --debug with the same bundle for the traceback and report it."


def main() -> int:
    """Run the application on what the command line or the ``HOLOSCAN_*`` variables name."""
    share_heaps()
    with settled_process():
        return exit_code(_run, debug=False, advice=_ADVICE)


def _run() -> int:
    settle_user()
    # Imports MONAI, which wants to know the user.
    from covid_ct_mask_net.app.operators.application import TriageApplication

    application = TriageApplication()
    try:
        application.run()
        return application.conclude()
    finally:
        application.close()


if __name__ == "__main__":
    sys.exit(main())
