//! Which hosts and addresses may be dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use operator_api::OriginPolicy;
use url::Host;

/// Addresses at which clouds hand out credentials to whoever asks, outside the ranges that are denied anyway: Alibaba,
/// Azure's wire server, Oracle; AWS and Google over IPv6.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)),
];

/// A rule of a class's `origin.allow` or `origin.deny` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("origin rule {rule:?} is neither a CIDR, nor an address, nor a host name, nor *.suffix")]
pub struct PolicyError {
    /// The rule as it stands in the class.
    pub rule: String,
}

/// A policy, ready to be asked. `deny` wins over `allow`, and `allow` over what is built in.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allow: Rules,
    deny: Rules,
    /// Denied like what is built in: the API server's addresses.
    denied: Vec<IpAddr>,
}

/// Hosts of a list in a class, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct HostRules(Rules);

impl HostRules {
    /// CIDRs, addresses, host names or `*.suffix`.
    pub fn new(rules: &[String]) -> Result<Self, PolicyError> {
        Ok(Self(Rules::parse(rules)?))
    }

    /// Whether one of them is this host, a name or an address as a URL has it. Names are not resolved.
    pub fn has(&self, host: &str) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.map_or_else(|_| self.0.match_name(host), |address| self.0.match_address(address)).is_some()
    }
}

#[derive(Debug, Clone, Default)]
struct Rules {
    nets: Vec<IpNet>,
    hosts: Vec<String>,
    suffixes: Vec<String>,
}

impl Guard {
    /// Reads the rules of a class. `denied` are further addresses that only an `allow` rule opens: the API server's.
    pub fn new(policy: &OriginPolicy, denied: Vec<IpAddr>) -> Result<Self, PolicyError> {
        Ok(Self { allow: Rules::parse(&policy.allow)?, deny: Rules::parse(&policy.deny)?, denied })
    }

    /// Why this address, reached under this name (if it was one), may not be dialled; `None` if it may.
    pub fn denial(&self, name: Option<&str>, address: IpAddr) -> Option<String> {
        let forms = forms(address);
        if let Some(rule) = name.and_then(|name| self.deny.match_name(name)) {
            return Some(format!("matches origin.deny {rule}"));
        }
        if let Some(rule) = forms.iter().find_map(|&form| self.deny.match_address(form)) {
            return Some(format!("matches origin.deny {rule}"));
        }
        // An allowed IPv4 range also opens its mapped form (it is the same socket), not tunnels that lead into it.
        let allowed = name.is_some_and(|name| self.allow.match_name(name).is_some())
            || self.allow.match_address(address.to_canonical()).is_some()
            || self.allow.match_address(address).is_some();
        if allowed {
            return None;
        }
        if forms.iter().any(|form| self.denied.contains(form)) {
            return Some("is the Kubernetes API server".to_owned());
        }
        forms.iter().find_map(|&form| built_in(form)).map(str::to_owned)
    }

    /// Why this host of a URL may not be asked, as far as that shows before its name is resolved.
    pub(crate) fn host_denial(&self, host: &Host<&str>) -> Option<String> {
        match host {
            Host::Ipv4(address) => self.denial(None, IpAddr::V4(*address)),
            Host::Ipv6(address) => self.denial(None, IpAddr::V6(*address)),
            Host::Domain(name) => {
                self.deny.match_name(name).map(|rule| format!("matches origin.deny {rule}"))
            }
        }
    }
}

impl Rules {
    fn parse(rules: &[String]) -> Result<Self, PolicyError> {
        let mut parsed = Self::default();
        for rule in rules {
            let text = rule.trim().trim_end_matches('.').to_ascii_lowercase();
            if let Ok(net) = text.parse::<IpNet>() {
                parsed.nets.push(net.trunc());
            } else if let Ok(address) = text.parse::<IpAddr>() {
                parsed.nets.push(IpNet::from(address));
            } else if let Some(suffix) = text.strip_prefix("*.").filter(|suffix| is_name(suffix)) {
                parsed.suffixes.push(format!(".{suffix}"));
            } else if is_name(&text) {
                parsed.hosts.push(text);
            } else {
                return Err(PolicyError { rule: rule.clone() });
            }
        }
        Ok(parsed)
    }

    fn match_name(&self, name: &str) -> Option<String> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if self.hosts.contains(&name) {
            return Some(name);
        }
        self.suffixes.iter().find(|suffix| name.ends_with(suffix.as_str())).map(|suffix| format!("*{suffix}"))
    }

    fn match_address(&self, address: IpAddr) -> Option<String> {
        self.nets.iter().find(|net| net.contains(&address)).map(ToString::to_string)
    }
}

/// What the URL parser would leave as it is when told it is a host: neither an address in disguise nor anything odd.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && matches!(Host::parse(text), Ok(Host::Domain(_)))
}

/// The address, and the IPv4 addresses that it may carry: mapped (RFC 4291), compatible (RFC 4291, deprecated), translated
/// (RFC 2765), 6to4 (RFC 3056), Teredo (RFC 4380), NAT64 (RFC 6052, RFC 8215).
fn forms(address: IpAddr) -> Vec<IpAddr> {
    let mut forms = vec![address];
    let IpAddr::V6(v6) = address else { return forms };
    let octets = v6.octets();
    let segments = v6.segments();
    let at = |places: [usize; 4]| IpAddr::V4(Ipv4Addr::from(places.map(|place| octets[place])));
    let mapped = v6.to_ipv4_mapped().is_some();
    let compatible = segments[..6] == [0; 6] && !v6.is_loopback() && !v6.is_unspecified();
    let translated = segments[..6] == [0, 0, 0, 0, 0xffff, 0];
    let nat64 = segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    if mapped || compatible || translated || nat64 {
        forms.push(at(LAST));
    }
    match segments {
        [0x2002, ..] => forms.push(at([2, 3, 4, 5])),
        [0x2001, 0, ..] => forms.push(IpAddr::V4(Ipv4Addr::from(LAST.map(|place| !octets[place])))),
        [0x64, 0xff9b, 1, ..] => forms.extend(LOCAL_NAT64.iter().filter_map(|(places, rest)| {
            let fits = octets[*rest..].iter().all(|octet| *octet == 0);
            // All zeros are what another form leaves of it.
            (fits && places.iter().any(|place| octets[*place] != 0)).then(|| at(*places))
        })),
        _ => {}
    }
    forms
}

/// Where an IPv4 address lies at the end of an IPv6 address.
const LAST: [usize; 4] = [12, 13, 14, 15];
/// A site may take any prefix out of 64:ff9b:1::/48 for its NAT64 (RFC 8215): where the IPv4 address lies with each length, and
/// from where on there are only zeros then (RFC 6052 section 2.2).
const LOCAL_NAT64: [([usize; 4], usize); 4] =
    [([6, 7, 9, 10], 11), ([7, 9, 10, 11], 12), ([9, 10, 11, 12], 13), (LAST, 16)];

/// What no origin is, unless an admin says so.
fn built_in(address: IpAddr) -> Option<&'static str> {
    if METADATA.contains(&address) {
        return Some("is a metadata service");
    }
    match address {
        IpAddr::V4(v4) => match v4.octets() {
            [127, ..] => Some("is a loopback address"),
            [169, 254, ..] => Some("is link-local (metadata services live there)"),
            [0, ..] => Some("is unspecified"),
            [224..=239, ..] => Some("is multicast"),
            [255, 255, 255, 255] => Some("is the broadcast address"),
            _ => None,
        },
        IpAddr::V6(v6) if v6.is_loopback() => Some("is a loopback address"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("is unspecified"),
        IpAddr::V6(v6) if v6.is_multicast() => Some("is multicast"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("is link-local"),
        IpAddr::V6(_) => None,
    }
}
