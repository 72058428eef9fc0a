"""Run the MONAI Deploy application: ``python app -i INPUT -o OUTPUT -m BUNDLE``."""

from __future__ import annotations

import sys

from covid_ct_mask_net.app.process_safety import settled_process
from covid_ct_mask_net.errors import CovidCTMaskNetError, ExitCode
from covid_ct_mask_net.heaps import share_heaps
from covid_ct_mask_net.process_user import settle_user


def main() -> ExitCode:
    """Run the application on what the command line or the ``HOLOSCAN_*`` variables name."""
    settle_user()
    share_heaps()
    with settled_process():
        return _run()


def _run() -> ExitCode:
    # Imports MONAI, which wants to know the user.
    from covid_ct_mask_net.app.operators.application import TriageApplication

    application = TriageApplication()
    try:
        application.run()
        return application.conclude()
    except CovidCTMaskNetError as error:
        sys.stderr.write(f"{error.code}: {error.sentence}\n")
        return error.exit_code
    finally:
        application.close()


if __name__ == "__main__":
    sys.exit(main())
