from __future__ import annotations

from pathlib import Path

from builders.run_folders import make_classifier_run
from covid_ct_mask_net.training.runs import read_run
from covid_ct_mask_net.training.tables.sizes import table_1


def test_counts_are_those_of_the_paper_where_it_is_consistent(tmp_path: Path) -> None:
    run = read_run(make_classifier_run(tmp_path / "run"))
    rows = {row[0]: row[1:] for row in table_1([run]).rows}
    assert rows["Mask R-CNN, full model"] == ("31,781,917", "31,728,744", "31.78M", "–")
    assert rows["COVID-CT-Mask-Net, only S"][:3] == ("31,522,845", "2,364,419", "31.52M")
    # As in the original: without the batch normalisation of the four shortcuts.
    assert rows["COVID-CT-Mask-Net, S + batch normalisation"][1] == "2,409,859"
    assert rows["S alone, light (N 128, F 512)"][0] == "592,387"
    assert rows["Mask R-CNN, resnet34 without 1 stages"][0] == "11,449,215"
    assert rows["classifier, resnet18 without 1 stages, only S"][2] == "6.35M"
    assert rows["run: covid-ct-mask-net s_bn (both)"][:2] == ("31,522,845", "2,409,859")
