//! The `reveille` program.

use clap::Parser;
use reveille::commands::{Arguments, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("reveille: {error:#}");
            ExitCode::from(2)
        }
    }
}
