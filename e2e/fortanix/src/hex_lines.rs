//! Lines of JSON with bytes in hex, by which this program and the tests speak.

use std::error::Error;
use std::io::{stdin, stdout, Write};

/// Writes one line with an object.
pub fn answer(members: &[(&str, &[u8])]) -> Result<(), Box<dyn Error>> {
    let members: Vec<String> = members
        .iter()
        .map(|(name, bytes)| format!("\"{name}\":\"{}\"", to_hex(bytes)))
        .collect();
    let mut out = stdout().lock();
    writeln!(out, "{{{}}}", members.join(","))?;
    Ok(out.flush()?)
}

/// Reads one line of byte strings in hex, with blanks between them.
pub fn read() -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    line.split_whitespace().map(from_hex).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    if !text.is_ascii() || text.len() % 2 == 1 {
        return Err("expected hex digits in pairs".into());
    }
    let pairs = (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16));
    Ok(pairs.collect::<Result<_, _>>()?)
}
