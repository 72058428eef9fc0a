from __future__ import annotations

from pathlib import Path

import pytest

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.demographics import demographics

# The columns of COVIDx-CT's metadata.csv.
COVIDX = """Patient ID,source,country,age,sex,finding,verified finding,slice selection,view,modality
1,CNCB,China,40,M,NCP,Yes,Automatic,Axial,CT
2,CNCB,China,60,F,CP,Yes,Automatic,Axial,CT
3,TCIA,USA,,F,Normal,Yes,Automatic,Axial,CT
4,TCIA,USA,99,M,Normal,Yes,Automatic,Axial,CT
"""


def test_only_patients_that_were_evaluated_are_summarised(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text(COVIDX)
    found = demographics(path, ["1", "2", "2", "3", "77"])
    assert found["patients"] == {"with entry": 3, "without entry": 1}
    assert found["age"] == {"median": 50.0, "lowest": 40.0, "highest": 60.0, "known": 2}
    assert found["sex"] == {"F": 2, "M": 1}
    assert found["country"] == {"China": 2, "USA": 1}
    assert "scanner" not in found


def test_values_that_are_missing_are_unknown(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("patient,age,sex\n1,old,\n")
    found = demographics(path, ["1"])
    assert "age" not in found
    assert found["sex"] == {"unknown": 1}


def test_tables_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no table of patients"):
        demographics(tmp_path / "none.csv", [])
    path = tmp_path / "m.csv"
    path.write_text("name,age\nx,1\n")
    with pytest.raises(RefusedInputError, match=r"m\.csv has no column patient id"):
        demographics(path, ["x"])
