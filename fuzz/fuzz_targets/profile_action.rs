//! The body of a profile action: whatever comes, for whichever action, it is read or refused, within its limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reveille_domain::{Action, Targets};
use reveille_wire::profile_action::{ProfileActionBody, TARGETS_MAX};
use std::collections::HashSet;

fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = ProfileActionBody::decode(bytes) else { return };
    let _ = body.account();
    for action in Action::ALL {
        let _ = body.service_plan(action);
        let _ = body.terms(action);
        match action.targets() {
            Targets::Profiles => {
                if let Ok(targets) = body.targets(action) {
                    are_distinct(targets.iter().map(|target| &target.iccid));
                }
            }
            Targets::Devices => {
                if let Ok(devices) = body.devices(action) {
                    are_distinct(devices.iter().map(|device| &device.eid));
                }
            }
            Targets::Pages => {}
        }
    }
});

fn are_distinct<T: std::hash::Hash + Eq>(targets: impl ExactSizeIterator<Item = T>) {
    let count = targets.len();
    assert!((1..=TARGETS_MAX).contains(&count));
    assert_eq!(targets.collect::<HashSet<_>>().len(), count, "one target is named twice");
}
