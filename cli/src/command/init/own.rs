//! The addresses of this machine, as others may reach it.

use if_addrs::Interface;
use std::net::{IpAddr, SocketAddr};

/// At most so many are proposed: they all stand in every join token.
const MOST: usize = 4;

/// The addresses that others may reach, the likeliest first. Those of the engine's own bridges come
/// only where there are no others: no other machine is on them.
pub(super) fn addresses() -> Vec<IpAddr> {
    likely(if_addrs::get_if_addrs().unwrap_or_default())
}

fn likely(mut interfaces: Vec<Interface>) -> Vec<IpAddr> {
    interfaces.retain(|interface| !interface.is_loopback() && !interface.is_link_local());
    let (engine, mut real): (Vec<_>, Vec<_>) =
        interfaces.into_iter().partition(|interface| is_engine_s(&interface.name));
    if real.is_empty() {
        real = engine;
    }
    real.sort_by_key(|interface| (interface.ip().is_ipv6(), interface.index));
    let mut addresses: Vec<IpAddr> = real.iter().map(Interface::ip).collect();
    addresses.dedup();
    addresses.truncate(MOST);
    addresses
}

/// `docker0`, and `br-` with twelve hexadecimal digits.
fn is_engine_s(interface: &str) -> bool {
    let bridge = interface.strip_prefix("br-").filter(|id| id.len() == 12);
    interface == "docker0" || bridge.is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Where followers reach a leader that listens there.
pub(super) fn urls(listen: SocketAddr, own: &[IpAddr]) -> Vec<String> {
    let reached: Vec<IpAddr> = match listen.ip() {
        // "::" takes IPv4 as well, unless the system was told otherwise.
        ip if ip.is_unspecified() => own.iter().filter(|own| ip.is_ipv6() || own.is_ipv4()).copied().collect(),
        ip => vec![ip],
    };
    reached.into_iter().map(|ip| format!("https://{}", SocketAddr::new(ip, listen.port()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use if_addrs::{IfAddr, IfOperStatus, Ifv4Addr};

    fn interface(name: &str, index: u32, ip: &str) -> Interface {
        let addr =
            Ifv4Addr { ip: ip.parse().unwrap(), netmask: [255, 255, 255, 0].into(), prefixlen: 24, broadcast: None };
        Interface {
            name: name.into(),
            addr: IfAddr::V4(addr),
            index: Some(index),
            oper_status: IfOperStatus::Up,
            is_p2p: false,
        }
    }

    #[test]
    fn the_engine_s_bridges_are_no_way_to_this_machine() {
        let docker = interface("docker0", 3, "172.17.0.1");
        let found = vec![
            docker.clone(),
            interface("br-0123456789ab", 4, "172.18.0.1"),
            interface("lo", 1, "127.0.0.1"),
            interface("br-lan", 5, "10.1.0.1"),
            interface("eth0", 2, "192.0.2.10"),
        ];
        let own = likely(found);
        assert_eq!(urls("0.0.0.0:7000".parse().unwrap(), &own), ["https://192.0.2.10:7000", "https://10.1.0.1:7000"]);
        assert_eq!(urls("127.0.0.1:7".parse().unwrap(), &own), ["https://127.0.0.1:7"]);
        assert_eq!(likely(vec![docker]).len(), 1);
        assert_eq!(urls("[::1]:7".parse().unwrap(), &own), ["https://[::1]:7"]);
    }
}
