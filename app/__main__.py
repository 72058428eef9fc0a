"""Run the MONAI Deploy application: ``python app -i INPUT -o OUTPUT -m BUNDLE``."""

from __future__ import annotations

import sys

from covid_ct_mask_net.app.operators.application import TriageApplication

if __name__ == "__main__":
    application = TriageApplication()
    application.run()
    sys.exit(application.conclude())
