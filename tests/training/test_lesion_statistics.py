"""How many lesions a slice has, and how much of it they cover."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders.lesion_data import make_cncb
from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.training.datasets.cncb import cncb_segmentation
from covid_ct_mask_net.training.lesion_statistics import (
    lesion_statistics,
    lesions_of,
    read_lesions,
    write_lesions,
)


def test_lesions_are_counted_by_class() -> None:
    labels = np.zeros((10, 20), dtype=np.uint8)
    labels[0:2, 0:5] = 1
    labels[5, 5] = 1
    # A diagonal neighbour belongs to the same lesion.
    labels[6, 6] = 1
    labels[8:, 10:] = 2
    ggo, consolidation = lesions_of("a.png", labels)
    assert (ggo.lesion_class, ggo.instances, ggo.area) == (LesionClass.GROUND_GLASS_OPACITY, 2, 12 / 200)
    assert (consolidation.instances, consolidation.area) == (1, 20 / 200)


def test_slices_of_a_data_set_and_back_from_the_run_folder(tmp_path: Path) -> None:
    root = make_cncb(tmp_path / "data")
    found = lesion_statistics(cncb_segmentation(root / "images", root / "masks"))
    assert len(found) == 12
    # The builder leaves GGO out of every third slice and consolidation out of every second.
    ggo = [one.instances for one in found if one.lesion_class is LesionClass.GROUND_GLASS_OPACITY]
    assert sorted(ggo) == [0, 0, 1, 1, 1, 1]
    assert write_lesions(tmp_path, found).name == "lesions.csv"
    assert read_lesions(tmp_path) == found
    # Another evaluation has a file of its own.
    assert write_lesions(tmp_path, found[:2], "elsewhere").name == "lesions-elsewhere.csv"
    assert (read_lesions(tmp_path), read_lesions(tmp_path, "elsewhere")) == (found, found[:2])


def test_no_file_is_no_lesions_and_a_bad_one_is_named(tmp_path: Path) -> None:
    assert read_lesions(tmp_path) == []
    (tmp_path / "lesions.csv").write_text("file,class,instances,area\na.png,7,1,0.1\n")
    with pytest.raises(RefusedInputError, match=r"lesions\.csv cannot be read"):
        read_lesions(tmp_path)
