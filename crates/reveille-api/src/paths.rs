//! The spellings of one resource, brought to the one that is routed. Source: contract §1.

/// The path that is routed: repeated slashes collapsed, left-out prefixes put back.
pub(crate) fn canonical(path: &str) -> String {
    let mut collapsed = String::with_capacity(path.len() + 8);
    for character in path.chars() {
        if character != '/' || !collapsed.ends_with('/') {
            collapsed.push(character);
        }
    }
    let version = |rest: &str| rest.starts_with("/v1/") || rest.starts_with("/v2/");
    if version(&collapsed) {
        return format!("/api/m2m{collapsed}");
    }
    if collapsed.starts_with("/m2m/") || collapsed.starts_with("/ts/") {
        return format!("/api{collapsed}");
    }
    match collapsed.strip_prefix("/api") {
        Some(rest) if version(rest) => format!("/api/m2m{rest}"),
        _ => collapsed,
    }
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn every_spelling_of_the_contract_is_the_same_resource() {
        let resume = "/api/m2m/v1/devices/profile/actions/profile_resume";
        for spelling in [
            "/api/m2m/v1//devices/profile/actions/profile_resume",
            "/v1/devices/profile/actions/profile_resume",
            "/api/m2m/v1/devices/profile/actions/profile_resume",
            "/api/v1/devices/profile/actions/profile_resume",
            "/m2m/v1/devices/profile/actions/profile_resume",
            "///api//m2m/v1/devices/profile/actions/profile_resume",
        ] {
            assert_eq!(canonical(spelling), resume, "{spelling}");
        }
        assert_eq!(canonical("/ts/v1/oauth2/token"), "/api/ts/v1/oauth2/token");
        assert_eq!(canonical("/api/reveille/v1/requests"), "/api/reveille/v1/requests");
        assert_eq!(canonical("/healthz"), "/healthz");
    }
}
