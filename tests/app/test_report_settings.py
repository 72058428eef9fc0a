from __future__ import annotations

import pytest

from covid_ct_mask_net.app.report_settings import ReportSettings, SRClass
from covid_ct_mask_net.errors import UsageError


def test_the_standard_set_is_the_default() -> None:
    settings = ReportSettings()
    assert settings.sr_class is SRClass.COMPREHENSIVE_3D
    assert settings.segmentation
    assert not settings.pdf


@pytest.mark.parametrize("count", [-1, 4])
def test_key_images_are_few(count: int) -> None:
    with pytest.raises(UsageError, match="0 to 3"):
        ReportSettings(key_images=count)
