"""Named sizes that other rooms count on are those of the structures."""

from confcom.sgx import certification, key_id, pck_extension, quote, report, signed_json


def test_sizes_of_reports():
    assert report.REPORT_BODY_SIZE == len(report.ReportBody.parse(bytes(384)).encode())
    assert report.REPORT_SIZE == len(report.Report.parse(bytes(432)).encode())
    assert report.TARGET_INFO_SIZE == len(report.TargetInfo.parse(bytes(512)).encode())
    assert report.QE_REPORT_INFO_SIZE == len(report.QeReportInfo.parse(bytes(960)).encode())
    assert report.REPORT_DATA_SIZE == len(report.ReportBody.parse(bytes(384)).report_data)
    assert report.NONCE_SIZE == len(report.QeReportInfo.parse(bytes(960)).nonce)
    assert report.KEY_ID_SIZE == len(report.Report.parse(bytes(432)).key_id)
    assert report.MAC_SIZE == len(report.Report.parse(bytes(432)).mac)


def test_sizes_of_key_ids():
    assert key_id.ATT_KEY_ID_SIZE == len(key_id.ECDSA_P256_KEY_ID.encode())
    assert key_id.INTEL_QE_MRSIGNER == key_id.ECDSA_P256_KEY_ID.mrsigner[: key_id.ECDSA_P256_KEY_ID.mrsigner_length]


def test_sizes_of_quotes(ppid_quote):
    parsed = quote.Quote.parse(ppid_quote)
    assert quote.QUOTE_HEADER_SIZE == len(parsed.header.encode())
    assert quote.SIGNED_PART_SIZE == len(parsed.signed_part)
    assert quote.SIGNATURE_SIZE == len(parsed.signature.isv_signature)
    assert quote.PUBLIC_KEY_SIZE == len(parsed.signature.attestation_key)
    assert quote.QE_AUTH_DATA_SIZE == len(parsed.signature.auth_data)
    assert certification.CERTIFICATION_HEADER_SIZE == len(certification.CertificationData(1, b"").encode())


def test_sizes_of_a_pck_extension(chain_quote):
    from cryptography import x509

    leaf = quote.Quote.parse(chain_quote).signature.certification.pem_chain()[0]
    value = pck_extension.PckExtension.from_certificate(x509.load_pem_x509_certificate(leaf))
    assert pck_extension.PPID_SIZE == len(value.ppid)
    assert pck_extension.FMSPC_SIZE == len(value.fmspc)
    assert pck_extension.PCE_ID_SIZE == len(value.pce_id)
    assert pck_extension.CPU_SVN_SIZE == pck_extension.TCB_COMPONENT_COUNT == len(value.tcb.cpu_svn)


def test_the_signature_of_a_document_is_a_raw_p256_signature():
    assert signed_json.SIGNATURE_SIZE == quote.SIGNATURE_SIZE == 64
