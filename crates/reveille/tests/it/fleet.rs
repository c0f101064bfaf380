//! Fleets as tests write them: a profile a line, `ICCID network state`, and what else matters as `key=value`.

/// `89148000000000000019 verizon-us suspended euicc=7 account=… imei=… msisdn=… role=… status=… by=… plan=…` as a
/// fleet file. Where `euicc=` is left out, the last digits of the ICCID say which it is. An underscore in a plan
/// stands for a blank.
pub(crate) fn csv(fleet: &str) -> String {
    let mut csv =
        "account,eid,imei,iccid,msisdn,network,role,state,suspended_by,profile_status,service_plan\n"
            .to_owned();
    let lines = fleet.lines().map(str::trim).filter(|line| !line.is_empty());
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [iccid, network, state, more @ ..] = &words[..] else { panic!("no profile: {line}") };
        let given = |key: &str| more.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let own = || 10_000_000 + iccid[iccid.len() - 7..].parse::<usize>().unwrap();
        let euicc = given("euicc").map_or_else(own, |euicc| euicc.parse().unwrap());
        let state = match *state {
            "suspended" => "SUSPEND",
            "active" => "ACTIVE",
            "deactive" => "DEACTIVE",
            "pre_active" => "PRE_ACTIVE",
            other => panic!("no state of a test's fleet: {other}"),
        };
        let account = given("account").unwrap_or(crate::app::ACCOUNT);
        let (imei, msisdn) = (given("imei").unwrap_or(""), given("msisdn").unwrap_or(""));
        let [role, by, status, plan] = ["role", "by", "status", "plan"].map(|key| given(key).unwrap_or(""));
        let (eid, plan) = (eid(euicc), plan.replace('_', " "));
        csv.push_str(&format!(
            "{account},{eid},{imei},{iccid},{msisdn},{network},{role},{state},{by},{status},{plan}\n"
        ));
    }
    csv
}

/// The EID of that number.
pub(crate) fn eid(euicc: usize) -> String {
    format!("890490320000010000000000{euicc:08}")
}

/// The ICCID of that number: none that scripts behaviour.
pub(crate) fn iccid(number: usize) -> String {
    format!("8914800000{number:010}")
}

/// So many ICCIDs from that number on, with blanks between them.
pub(crate) fn iccids(from: usize, count: usize) -> String {
    (from..from + count).map(iccid).collect::<Vec<_>>().join(" ")
}

/// A profile for each of the ICCIDs.
pub(crate) fn of(iccids: &str, network_and_state: &str) -> String {
    iccids.split_whitespace().map(|iccid| format!("{iccid} {network_and_state}\n")).collect()
}
