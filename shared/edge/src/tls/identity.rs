//! The names that our certificates carry, whatever addresses their machines
//! have: a leader that moves is still the leader. `.internal` is nobody's in
//! the public DNS (ICANN's resolution 2024.07.29.06).

use lockstep_shared::{Name, Sha256};
use std::fmt::Write as _;

/// The leader.
pub const LEADER: &str = "leader.lockstep.internal";

/// A follower. Two names never give the same: DNS takes upper and lower case
/// for one, so a name with other than lower-case letters, digits and inner
/// hyphens and dots stands as a hash.
pub fn follower(name: &Name) -> String {
    let plain = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
            // What stands for a name that is none itself.
            && !label.starts_with("x--")
    };
    if name.as_str().split('.').all(plain) {
        return format!("{name}.follower.lockstep.internal");
    }
    let hash = Sha256::of(name.as_str().as_bytes());
    let hex = hash.0[..16].iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!("x--{hex}.follower.lockstep.internal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_has_its_own_identity_that_dns_takes() {
        let names = ["core-1", "Core-1", "core_1", "a.b", "a..b", "a-", "_a", "x--0", &"A".repeat(63), &"a".repeat(63)];
        let identities: BTreeSet<String> = names.iter().map(|name| follower(&Name::new(*name).unwrap())).collect();
        assert_eq!(identities.len(), names.len());
        assert!(identities.contains("core-1.follower.lockstep.internal"));
        for identity in identities {
            rustls::pki_types::ServerName::try_from(identity.clone()).expect(&identity);
        }
    }
}
