"""A PDF as a DICOM object: Encapsulated PDF (PS3.3 A.45.1), which archives keep with the study."""

from __future__ import annotations

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from covid_ct_mask_net.app.normalise import quiet_writers
from covid_ct_mask_net.app.result_object import MODEL_NAME, ResultObjects

_TITLE = "Chest CT triage, research use only"


def encapsulate(objects: ResultObjects, pdf: bytes) -> Dataset:
    """Return a PDF as an instance of the study.

    Parameters
    ----------
    objects : ResultObjects
        The result and its sources.
    pdf : bytes
        Without patient data.
    """
    identity = objects.identity("pdf")
    document = Dataset()
    document.SOPClassUID = EncapsulatedPDFStorage
    document.SOPInstanceUID = identity["sop_instance_uid"]
    document.StudyInstanceUID = objects.sources.first.StudyInstanceUID
    document.SeriesInstanceUID = identity["series_instance_uid"]
    document.SeriesNumber = identity["series_number"]
    document.SeriesDescription = identity["series_description"]
    document.Modality = "DOC"
    document.InstanceNumber = 1
    document.Manufacturer = identity["manufacturer"]
    document.ManufacturerModelName = MODEL_NAME
    document.SoftwareVersions = identity["software_versions"]
    document.DeviceSerialNumber = identity["device_serial_number"]
    document.ContributingEquipmentSequence = identity["contributing_equipment"]
    document.ConversionType = "WSD"
    document.ContentDate = document.ContentTime = ""
    document.AcquisitionDateTime = ""
    document.BurnedInAnnotation = "NO"
    document.DocumentTitle = _TITLE
    document.ConceptNameCodeSequence = []
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocumentLength = len(pdf)
    document.EncapsulatedDocument = pdf if len(pdf) % 2 == 0 else pdf + b"\0"
    document.file_meta = FileMetaDataset()
    document.file_meta.MediaStorageSOPClassUID = document.SOPClassUID
    document.file_meta.MediaStorageSOPInstanceUID = document.SOPInstanceUID
    document.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with quiet_writers():
        return objects.finish(document)
