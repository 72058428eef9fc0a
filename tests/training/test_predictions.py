from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders.run_folders import logits_for, records
from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.predictions import (
    UNSTATED,
    predictions_file,
    read_predictions,
    write_predictions,
)


def test_predictions_come_back_exactly(tmp_path: Path) -> None:
    rows = records()
    logits = logits_for(rows)
    path = write_predictions(tmp_path, rows, logits, "left_out")
    assert path.name == predictions_file("left_out") == "predictions-left_out.csv"
    back = read_predictions(path, 3)
    assert np.array_equal(back.logits, logits)
    assert back.true.tolist() == [row["slice_class"] for row in rows]
    assert back.files[7] == rows[7]["file"]
    assert (back.patients[7], back.scans[7], back.slices[7]) == ("1", "101", 2)
    assert (back.predicted == logits.argmax(axis=1)).all()
    some = back.select(np.array(back.patients) == "3")
    assert set(some.patients) == {"3"}
    assert some.logits.shape == (5, 3)


def test_stated_classes_of_scans_are_kept_where_there_are_any(tmp_path: Path) -> None:
    rows = records(patients=3, slices=2)
    for row in rows[:4]:
        row["scan_class"] = 2
    path = write_predictions(tmp_path, rows, logits_for(rows))
    back = read_predictions(path, 3)
    assert back.scan_classes is not None
    assert back.scan_classes.tolist() == [2, 2, 2, 2, UNSTATED, UNSTATED]
    some = back.select(np.arange(6) > 2).scan_classes
    assert some is not None
    assert some.tolist() == [2, UNSTATED, UNSTATED]
    path.write_text(path.read_text().replace(",0,2,", ",0,3,"))
    with pytest.raises(RefusedInputError, match="class outside 0 to 2"):
        read_predictions(path, 3)
    assert (
        read_predictions(write_predictions(tmp_path, records(), logits_for(records())), 3).scan_classes
        is None
    )


def test_a_row_a_slice_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="60 slices and logits of shape"):
        write_predictions(tmp_path, records(), np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("file,patient\na,1\n", "no column scan"),
        ("file,patient,scan,slice,true,logit_0,logit_1\n", "no lines"),
        ("file,patient,scan,slice,true,logit_0,logit_1\na,1,1,0,x,0,0\n", "no number"),
        ("file,patient,scan,slice,true,logit_0,logit_1\na,1,1,0,2,0,0\n", "class outside 0 to 1"),
        ("file,patient,scan,slice,true,logit_0,logit_1\na,1,1,0,0,nan,0\n", "not finite"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    with pytest.raises(RefusedInputError, match=rf"predictions\.csv has .*{what}"):
        read_predictions(path, 2)
