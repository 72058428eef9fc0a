"""What a test asks of the archive, in a process of its own: ``push FOLDER`` and ``pull STUDY FOLDER``.

Written on pynetdicom and dicomweb-client alone, so that it does not share the faults of what is tested.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pydicom

AE_TITLE, DICOM_PORT = "ARCHIVE", 11112
WEB = "http://127.0.0.1:18042/dicom-web"


def push(folder: Path) -> None:
    from pynetdicom import AE

    datasets = [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]
    entity = AE("SCANNER")
    for pair in {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in datasets}:
        entity.add_requested_context(*pair)
    association = entity.associate("127.0.0.1", DICOM_PORT, ae_title=AE_TITLE)
    assert association.is_established
    for dataset in datasets:
        assert association.send_c_store(dataset).Status == 0
    association.release()


def pull(study: str, folder: Path) -> dict[str, list[str]]:
    from dicomweb_client import DICOMwebClient

    folder.mkdir(parents=True, exist_ok=True)
    client = DICOMwebClient(WEB)
    found: dict[str, list[str]] = {}
    for row in client.search_for_instances(study):
        instance = pydicom.Dataset.from_json(row)
        found.setdefault(instance.Modality, []).append(instance.SOPInstanceUID)
        dataset = client.retrieve_instance(study, instance.SeriesInstanceUID, instance.SOPInstanceUID)
        dataset.save_as(folder / f"{instance.SOPInstanceUID}.dcm", enforce_file_format=True)
    return found


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "push":
        push(Path(arguments[0]))
    else:
        sys.stdout.write(json.dumps(pull(arguments[0], Path(arguments[1]))))
