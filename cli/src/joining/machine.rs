//! What this machine is like.

use crate::exit::{Failed, failed};
use lockstep_shared::Name;
use std::net::{IpAddr, ToSocketAddrs as _, UdpSocket};

/// Its name: the host's, made one that a machine can have.
pub(super) fn name() -> Result<Name, Failed> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    valid(&host).ok_or_else(|| failed(format!("this machine's name ({:?}) says nothing: say --name NAME", host.trim())))
}

/// `Core_1.example.com` as `core_1`; none where it is everybody's name.
fn valid(host: &str) -> Option<Name> {
    let first = host.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' };
    let text: String = first.chars().map(fits).collect();
    let text: String = text.trim_matches('-').chars().take(Name::MAX).collect();
    if text == "localhost" { None } else { Name::new(text).ok() }
}

/// The address with which this machine reaches the first of these that there is a way to. Nothing is sent.
pub(super) fn towards(addresses: &[String]) -> Option<IpAddr> {
    addresses.iter().find_map(|text| {
        let address = lockstep_edge::client::address(text)?;
        let there = (address.host.as_str(), address.port).to_socket_addrs().ok()?.next()?;
        let here: IpAddr = if there.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0_u8; 16]) };
        let socket = UdpSocket::bind((here, 0)).ok()?;
        // UDP: the kernel looks its way up, and that is all.
        socket.connect(there).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_name_becomes_a_machines() {
        let valid = |host: &str| valid(host).map(|name| name.to_string());
        assert_eq!(valid("core-1\n").as_deref(), Some("core-1"));
        assert_eq!(valid("Core_1.example.com").as_deref(), Some("core_1"));
        assert_eq!(valid("Zoë's mac").as_deref(), Some("zo--s-mac"));
        assert_eq!(valid(&"x".repeat(100)).map(|name| name.len()), Some(63));
        for nobody in ["", "localhost", "localhost.localdomain", "---", "é"] {
            assert_eq!(valid(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn the_way_to_oneself_is_the_loopback() {
        assert_eq!(towards(&["https://127.0.0.1:7000".to_owned()]), Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(towards(&["no address".to_owned()]), None);
    }
}
