//! The body of a profile action: whatever comes, it is read or refused, within its limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reveille_wire::profile_action::{ProfileActionBody, TARGETS_MAX};
use std::collections::HashSet;

fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = ProfileActionBody::decode(bytes) else { return };
    let _ = body.account();
    let _ = body.service_plan();
    if let Ok(targets) = body.targets() {
        assert!((1..=TARGETS_MAX).contains(&targets.len()));
        let distinct: HashSet<_> = targets.iter().map(|target| &target.iccid).collect();
        assert_eq!(distinct.len(), targets.len(), "an ICCID is a target twice");
    }
});
