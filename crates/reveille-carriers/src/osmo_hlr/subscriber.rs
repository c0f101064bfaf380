//! What an HLR says of a subscriber, and what it is told.
//!
//! `info` is asked for and never `info-all`, `info-aud` or `aud3g`: those answer with the secret key.

use super::config::Service;
use super::ctrl::Command;
use reveille_domain::Imsi;

/// What an HLR says where it has no subscriber of that IMSI. To a `SET` it says [`FAILED`] instead.
pub(super) const UNKNOWN: &str = "No such subscriber.";

/// A subscriber as the HLR has it: a service, whether it is granted, and who gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscriber {
    ps: Serving,
    cs: Serving,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Serving {
    granted: bool,
    node: Option<Box<str>>,
    /// The node has since said that it serves the subscriber no longer.
    purged: bool,
}

/// Asks what the HLR has.
pub(super) fn look_up(imsi: &Imsi) -> Command {
    Command::Get { variable: format!("subscriber.by-imsi-{}.info", imsi.as_str()) }
}

/// Grants a service, or does so no longer. Says so also where nothing changes.
pub(super) fn grant(imsi: &Imsi, service: Service, granted: bool) -> Command {
    let variable = format!("subscriber.by-imsi-{}.{}-enabled", imsi.as_str(), service.name());
    Command::Set { variable, value: if granted { "1" } else { "0" } }
}

impl Subscriber {
    /// Out of the value of `info`: lines of a name, a TAB and a value. Nothing where that is not what it is.
    pub(super) fn parse(info: &str) -> Option<Self> {
        let mut of = Self::default();
        let (mut knows_ps, mut knows_cs) = (false, false);
        for line in info.lines() {
            match line.split_once('\t') {
                Some(("nam_ps", value)) => (knows_ps, of.ps.granted) = (true, value == "1"),
                Some(("nam_cs", value)) => (knows_cs, of.cs.granted) = (true, value == "1"),
                Some(("sgsn_number", name)) => of.ps.node = Some(name.into()),
                Some(("vlr_number", name)) => of.cs.node = Some(name.into()),
                Some(("ms_purged_ps", value)) => of.ps.purged = value == "1",
                Some(("ms_purged_cs", value)) => of.cs.purged = value == "1",
                _ => {}
            }
        }
        (knows_ps && knows_cs).then_some(of)
    }

    /// Whether that service is granted.
    pub(super) fn has(&self, service: Service) -> bool {
        self.serving(service).granted
    }

    /// The names of those who serve it with any of these services, as far as the HLR knows; each once.
    pub(super) fn nodes(&self, services: &[Service]) -> Vec<&str> {
        let serving = services.iter().map(|service| self.serving(*service)).filter(|of| !of.purged);
        let mut names: Vec<&str> = serving.filter_map(|of| of.node.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn serving(&self, service: Service) -> &Serving {
        match service {
            Service::Ps => &self.ps,
            Service::Cs => &self.cs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Service::{Cs, Ps};

    const INFO: &str = "\nid\t1\nimsi\t001010000000001\nmsisdn\t15551230001\nnam_cs\t1\nnam_ps\t0\n\
                        vlr_number\tMSC-1\nsgsn_number\tSGSN-1\nms_purged_cs\t0\nms_purged_ps\t0\n\
                        periodic_lu_timer\t0\nperiodic_rau_tau_timer\t0\nlmsi\t00000000";

    #[test]
    fn info_says_what_is_granted_and_who_serves() {
        let of = Subscriber::parse(INFO).unwrap();
        assert_eq!((of.has(Ps), of.has(Cs)), (false, true));
        assert_eq!(of.nodes(&[Ps, Cs]), ["MSC-1", "SGSN-1"]);
        assert_eq!(of.nodes(&[Ps]), ["SGSN-1"]);
    }

    #[test]
    fn a_node_that_serves_both_is_one() {
        let of = Subscriber::parse(&INFO.replace("MSC-1", "SGSN-1")).unwrap();
        assert_eq!(of.nodes(&[Ps, Cs]), ["SGSN-1"]);
    }

    #[test]
    fn a_node_that_purged_the_subscriber_serves_it_no_longer() {
        let of = Subscriber::parse(&INFO.replace("ms_purged_ps\t0", "ms_purged_ps\t1")).unwrap();
        assert_eq!(of.nodes(&[Ps, Cs]), ["MSC-1"]);
    }

    #[test]
    fn a_subscriber_who_never_registered_has_no_nodes() {
        let of = Subscriber::parse("\nid\t1\nimsi\t001010000000001\nnam_cs\t1\nnam_ps\t1").unwrap();
        assert!(of.nodes(&[Ps, Cs]).is_empty());
    }

    #[test]
    fn what_does_not_say_what_is_granted_is_no_subscriber() {
        assert_eq!(Subscriber::parse("\nid\t1\nnam_cs\t1"), None);
        assert_eq!(Subscriber::parse("OK"), None);
    }

    #[test]
    fn commands_name_the_subscriber_by_its_imsi() {
        let imsi = "001010000000001".parse().unwrap();
        let variable = "subscriber.by-imsi-001010000000001.info".to_owned();
        assert_eq!(look_up(&imsi), Command::Get { variable });
        let variable = "subscriber.by-imsi-001010000000001.cs-enabled".to_owned();
        assert_eq!(grant(&imsi, Cs, false), Command::Set { variable, value: "0" });
    }
}
