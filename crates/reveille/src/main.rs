//! The `reveille` program.

use clap::Parser;
use reveille::commands::{Arguments, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    keep_few_arenas();
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("reveille: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Each thread would get a heap of its own that returns little: with two in all, the peak of a 10,000-profile
/// request is about half, at the same speed.
#[expect(unsafe_code, reason = "mallopt is a C function; it is called before there is a second thread")]
fn keep_few_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two integers and no pointers.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
