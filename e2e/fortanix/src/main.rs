//! One attestation through Fortanix' `aesm-client`, as an enclave runner does it: key ids, init, quote.
//!
//! There is no enclave in here. Whoever starts this program is the enclave's side: it is told the target info, and
//! answers with a report that was made for it.
//!
//! Usage: `fortanix-client SOCKET`. It writes one line of JSON with what a report needs, reads one line with report
//! and nonce (432 and 16 bytes in hex, a blank between them), and writes one line of JSON with the quote.

use std::error::Error;
use std::process::ExitCode;

use aesm_client::unix::AesmClientExt;
use aesm_client::AesmClient;

use hex_lines::{answer, read};

mod hex_lines;

fn main() -> ExitCode {
    let Some(socket) = std::env::args().nth(1) else {
        eprintln!("usage: fortanix-client SOCKET");
        return ExitCode::from(2);
    };
    match attest(&AesmClient::with_path(socket)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes = std::iter::successors(Some(&*error), |&cause| cause.source());
            let texts: Vec<String> = causes.map(|cause| cause.to_string()).collect();
            eprintln!("{}", texts.join(": "));
            ExitCode::FAILURE
        }
    }
}

fn attest(client: &AesmClient) -> Result<(), Box<dyn Error>> {
    let key_ids = client.get_supported_att_key_ids()?;
    let key_id = key_ids
        .first()
        .ok_or("the service has no attestation key")?;
    let init = client.init_quote_ex(key_id.clone())?;
    answer(&[
        ("key_id", key_id),
        ("target_info", init.target_info()),
        ("pub_key_id", init.pub_key_id()),
    ])?;

    let given = read()?;
    let [report, nonce] = given.as_slice() else {
        return Err("expected a report and a nonce".into());
    };
    // Without a target, the crate takes the report's own enclave for the one that checks the QE's report.
    let result = client.get_quote_ex(key_id.clone(), report.clone(), None, nonce.clone())?;
    answer(&[("quote", result.quote()), ("qe_report", result.qe_report())])
}
