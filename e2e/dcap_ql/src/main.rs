//! One quote through Fortanix' `dcap-ql`, as an enclave runner gets it: target info, size, quote.
//!
//! There is no enclave in here. Whoever starts this program is the enclave's side: it is told the target info, and
//! answers with a report that was made for it.
//!
//! Usage: `dcap-ql-client`. It writes one line of JSON with the target info, reads one line with a report (432 bytes in
//! hex), and writes one line of JSON with the quote, and with the type of its certification data as the crate reads it.

use std::error::Error;
use std::process::ExitCode;

use dcap_ql::quote::{Quote, Quote3SignatureEcdsaP256};
use dcap_ql::Quote3Error;
use sgx_isa::Report;

use hex_lines::{answer, read};

#[path = "../../rust/hex_lines.rs"]
mod hex_lines;

fn main() -> ExitCode {
    match attest() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn attest() -> Result<(), Box<dyn Error>> {
    let target_info = dcap_ql::target_info().map_err(shown)?;
    answer(&[("target_info", target_info.as_ref())])?;

    let given = read()?;
    let [report] = given.as_slice() else {
        return Err("expected a report".into());
    };
    let report = Report::try_copy_from(report).ok_or("expected a report of 432 bytes")?;
    let quote = dcap_ql::quote(&report).map_err(shown)?;
    let parsed = Quote::parse(&quote[..]).map_err(|error| error.to_string())?;
    let signature = parsed
        .signature::<Quote3SignatureEcdsaP256>()
        .map_err(|error| error.to_string())?;
    let kind = signature.certification_data_type() as u16;
    answer(&[("quote", &quote), ("certification_type", &kind.to_be_bytes())])
}

fn shown(error: Quote3Error) -> String {
    format!("{error:?} ({:#06x})", error as u32)
}
