"""Named sizes that other rooms count on are those of the structures."""

from confcom.sgx import certification, key_id, pck_extension, quote, report, signed_json


def test_sizes_of_reports():
    assert len(report.ReportBody.parse(bytes(384)).encode()) == report.REPORT_BODY_SIZE
    assert len(report.Report.parse(bytes(432)).encode()) == report.REPORT_SIZE
    assert len(report.TargetInfo.parse(bytes(512)).encode()) == report.TARGET_INFO_SIZE
    assert len(report.QeReportInfo.parse(bytes(960)).encode()) == report.QE_REPORT_INFO_SIZE
    assert len(report.ReportBody.parse(bytes(384)).report_data) == report.REPORT_DATA_SIZE
    assert len(report.QeReportInfo.parse(bytes(960)).nonce) == report.NONCE_SIZE
    assert len(report.Report.parse(bytes(432)).key_id) == report.KEY_ID_SIZE
    assert len(report.Report.parse(bytes(432)).mac) == report.MAC_SIZE


def test_sizes_of_key_ids():
    assert len(key_id.ECDSA_P256_KEY_ID.encode()) == key_id.ATT_KEY_ID_SIZE
    assert key_id.ECDSA_P256_KEY_ID.mrsigner[: key_id.ECDSA_P256_KEY_ID.mrsigner_length] == key_id.INTEL_QE_MRSIGNER


def test_sizes_of_quotes(ppid_quote):
    parsed = quote.Quote.parse(ppid_quote)
    assert len(parsed.header.encode()) == quote.QUOTE_HEADER_SIZE
    assert len(parsed.signed_part) == quote.SIGNED_PART_SIZE
    assert len(parsed.signature.isv_signature) == quote.SIGNATURE_SIZE
    assert len(parsed.signature.attestation_key) == quote.PUBLIC_KEY_SIZE
    assert len(parsed.signature.auth_data) == 32
    assert len(certification.CertificationData(1, b"").encode()) == certification.CERTIFICATION_HEADER_SIZE


def test_sizes_of_a_pck_extension(chain_quote):
    from cryptography import x509

    leaf = quote.Quote.parse(chain_quote).signature.certification.pem_chain()[0]
    value = pck_extension.PckExtension.from_certificate(x509.load_pem_x509_certificate(leaf))
    assert len(value.ppid) == pck_extension.PPID_SIZE
    assert len(value.fmspc) == pck_extension.FMSPC_SIZE
    assert len(value.pce_id) == pck_extension.PCE_ID_SIZE
    assert pck_extension.CPU_SVN_SIZE == pck_extension.TCB_COMPONENT_COUNT == len(value.tcb.cpu_svn)


def test_the_signature_of_a_document_is_a_raw_p256_signature():
    assert signed_json.SIGNATURE_SIZE == quote.SIGNATURE_SIZE == 64
