from __future__ import annotations

from builders.result_set import made


def test_the_pdf_is_inside_and_says_for_what_it_is() -> None:
    document = made().read("pdf.dcm")
    assert bytes(document.EncapsulatedDocument).startswith(b"%PDF")
    assert document.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert "research use only" in document.DocumentTitle
