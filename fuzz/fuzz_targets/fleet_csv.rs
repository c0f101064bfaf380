//! The fleet file: whatever comes, it is read whole or refused with the lines that are wrong.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reveille::fleet::{PROBLEMS_MAX, read};
use std::collections::HashSet;

fuzz_target!(|bytes: &[u8]| {
    match read(bytes) {
        Ok(rows) => {
            let distinct: HashSet<_> = rows.iter().map(|row| &row.iccid).collect();
            assert_eq!(distinct.len(), rows.len(), "an ICCID was read twice");
        }
        Err(problems) => {
            assert!((1..=PROBLEMS_MAX).contains(&problems.len()));
            assert!(problems.iter().all(|problem| !problem.problem.is_empty()));
        }
    }
});
