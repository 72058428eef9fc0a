from __future__ import annotations

import numpy as np
import pytest

from builders.result_set import made
from covid_ct_mask_net.app.pdf_report import pdf_report


def test_the_same_result_gives_the_same_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    pages = [pdf_report(made().result, [picture]) for _ in range(2)]
    assert pages[0].startswith(b"%PDF")
    assert pages[0] == pages[1]
    assert len(pdf_report(made(lesions=False).result, [])) > 1000
