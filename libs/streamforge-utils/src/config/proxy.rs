//! Proxies of the environment, as HTTP clients read them: one on another machine can't reach the loopback addresses of
//! this one.

use std::net::IpAddr;

use super::{Vars, is_loopback};

/// A variable that sends requests for a loopback address to another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Diversion {
    /// The variable.
    pub(super) variable: &'static str,
    /// The host that it names, without a user or a password.
    pub(super) proxy: String,
}

/// What diverts requests to a URL with this scheme and host, if it is on loopback and anything does.
pub(super) fn diverted(vars: &Vars, scheme: &str, host: &str) -> Option<Diversion> {
    let names: &[&'static str] = match scheme {
        "http" => &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
        _ => &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
    };
    let set = |name: &str| {
        vars.get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    };
    if !is_loopback(host) || is_excepted(host, ["NO_PROXY", "no_proxy"].into_iter().find_map(set)) {
        return None;
    }
    let (variable, value) = names.iter().find_map(|name| Some((*name, set(name)?)))?;
    let proxy = host_of(value);
    (!is_loopback(proxy)).then(|| Diversion {
        variable,
        proxy: proxy.to_owned(),
    })
}

/// Whether `NO_PROXY` names this host: an address, a range of addresses, a domain, or `*` for all.
fn is_excepted(host: &str, no_proxy: Option<&str>) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address: Option<IpAddr> = host.parse().ok();
    no_proxy
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .any(|entry| {
            let domain = entry.trim_start_matches('.');
            entry == "*"
                || match (address, entry.split_once('/')) {
                    (Some(address), Some((network, bits))) => is_within(address, network, bits),
                    (Some(address), None) => entry.parse() == Ok(address),
                    (None, _) => !domain.is_empty() && host.eq_ignore_ascii_case(domain),
                }
        })
}

fn is_within(address: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let same = |address: u128, network: u128, size: u32| {
        bits <= size && (bits == 0 || (address ^ network) >> (size - bits) == 0)
    };
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            same(u32::from(address).into(), u32::from(network).into(), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => same(address.into(), network.into(), 128),
        _ => false,
    }
}

/// The host of `scheme://user:password@host:port/`, of which all but the host may be absent.
fn host_of(proxy: &str) -> &str {
    let rest = proxy.split_once("://").map_or(proxy, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let server = authority
        .rsplit_once('@')
        .map_or(authority, |(_, server)| server);
    match server
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((address, _)) => address,
        None => server.split(':').next().unwrap_or(server),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diverting(pairs: &[(&str, &str)], scheme: &str, host: &str) -> Option<Diversion> {
        let vars = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        diverted(&vars, scheme, host)
    }

    #[test]
    fn a_proxy_elsewhere_diverts_what_is_for_loopback() {
        for (name, value, scheme, host) in [
            ("HTTP_PROXY", "http://proxy:3128", "http", "127.0.0.1"),
            ("http_proxy", "proxy:3128", "http", "localhost"),
            ("HTTPS_PROXY", "http://me:secret@proxy", "https", "[::1]"),
            ("ALL_PROXY", "socks5://proxy:1080/", "http", "127.0.0.2"),
        ] {
            let found = diverting(&[(name, value)], scheme, host).unwrap();
            assert_eq!((found.variable, found.proxy.as_str()), (name, "proxy"));
        }
    }

    #[test]
    fn what_goes_where_it_should_is_left_alone() {
        let proxy = ("HTTP_PROXY", "http://proxy:3128");
        for (pairs, scheme, host) in [
            (vec![proxy], "http", "api.binance.com"),
            (vec![proxy], "https", "127.0.0.1"),
            (
                vec![("HTTP_PROXY", "http://127.0.0.1:8080")],
                "http",
                "127.0.0.1",
            ),
            (
                vec![("HTTP_PROXY", "http://[::1]:8080")],
                "http",
                "127.0.0.1",
            ),
            (vec![("HTTP_PROXY", "  ")], "http", "127.0.0.1"),
            (vec![proxy, ("NO_PROXY", "*")], "http", "127.0.0.1"),
            (
                vec![proxy, ("no_proxy", "x, 127.0.0.1")],
                "http",
                "127.0.0.1",
            ),
            (
                vec![proxy, ("NO_PROXY", "127.0.0.0/8")],
                "http",
                "127.0.0.9",
            ),
            (vec![proxy, ("NO_PROXY", "::1/128")], "http", "[::1]"),
            (vec![proxy, ("NO_PROXY", ".localhost")], "http", "localhost"),
        ] {
            assert_eq!(diverting(&pairs, scheme, host), None, "{pairs:?} {host}");
        }
        let other = [
            proxy,
            ("NO_PROXY", "localhost,10.0.0.0/8,::1/128,127.0.0.0/x"),
        ];
        assert!(diverting(&other, "http", "127.0.0.1").is_some());
    }
}
