//! The browser is a stranger: any web page can make a browser send requests to loopback, and a
//! name that its owner rebinds to 127.0.0.1 even reads the answers. What only a browser at a
//! foreign page sends is refused before anything else looks at the request.

use http::HeaderMap;
use http::header::{HOST, ORIGIN};
use http::uri::{Authority, Uri};
use lambfold_http1::{Fields as _, Head};
use std::net::IpAddr;

/// Why a request was taken for a web page's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name that the client used is not this server's.
    #[error(
        "the Host header names {host:?}, which is not localhost and not the address that this server listens on; use http://127.0.0.1 or http://localhost with the server's port as the endpoint URL"
    )]
    Host {
        /// As sent, cut to 200 characters.
        host: String,
    },
    /// A page of another origin sent it.
    #[error(
        "the request comes from a web page at {origin:?}; pages of other origins may not use this server. Clients that are not browsers send no Origin header"
    )]
    Origin {
        /// As sent, cut to 200 characters.
        origin: String,
    },
    /// The browser says that another site's page sent it.
    #[error(
        "the browser marks the request as {site:?} (Sec-Fetch-Site); pages of other origins may not use this server. Open the address directly"
    )]
    Site {
        /// As sent, cut to 200 characters.
        site: String,
    },
}

/// Which names and addresses are this server's own.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    hosts: Vec<String>,
}

impl Guard {
    /// A guard that accepts `hosts` (names without a port) besides localhost and the address
    /// that a connection came in on.
    #[must_use]
    pub fn new(hosts: impl IntoIterator<Item = String>) -> Self {
        Self { hosts: hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect() }
    }

    /// Checks a request that came in on the local address `local`.
    ///
    /// # Errors
    /// When it looks like a web page's; see [`Refusal`].
    pub fn check(&self, uri: &Uri, headers: &HeaderMap, local: IpAddr) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().map(|host| host.to_str().unwrap_or("\u{FFFD}"));
        let refused = |host: &str| Refusal::Host { host: cut(host) };
        let host = host.ok_or_else(|| refused(""))?;
        if hosts.next().is_some() || !self.own(host, local) {
            return Err(refused(host));
        }
        // The absolute form of a request target carries a second name.
        if let Some(authority) = uri.authority().map(Authority::as_str)
            && !self.own(authority, local)
        {
            return Err(refused(authority));
        }
        for site in headers.get_all("sec-fetch-site") {
            if !matches!(site.as_bytes(), b"same-origin" | b"none") {
                return Err(Refusal::Site { site: cut(&String::from_utf8_lossy(site.as_bytes())) });
            }
        }
        for origin in headers.get_all(ORIGIN) {
            let origin = String::from_utf8_lossy(origin.as_bytes());
            let same = ["http://", "https://"].iter().any(|scheme| {
                origin.strip_prefix(scheme).is_some_and(|rest| rest.eq_ignore_ascii_case(host))
            });
            if !same {
                return Err(Refusal::Origin { origin: cut(&origin) });
            }
        }
        Ok(())
    }

    /// Whether a request is certainly not a web page's; of any other one [`Guard::check`] says
    /// what is wrong with it.
    pub(crate) fn admits(&self, head: &Head<'_>, local: IpAddr) -> bool {
        let mut hosts = head.all("host");
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let is_page = ["origin", "sec-fetch-site"].iter().any(|name| head.field(name).is_some());
        !is_page && std::str::from_utf8(host).is_ok_and(|host| self.own(host, local))
    }

    /// Whether `host[:port]` is this server.
    fn own(&self, host: &str, local: IpAddr) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((name, "")) => name,
                Some((name, port)) if port.strip_prefix(':').is_some_and(is_port) => name,
                _ => return false,
            },
            None => match host.split_once(':') {
                Some((name, port)) if is_port(port) => name,
                Some(_) => return false,
                None => host,
            },
        };
        if host.starts_with('[') != name.contains(':') {
            return false;
        }
        if let Ok(address) = name.parse::<IpAddr>() {
            let address = address.to_canonical();
            return address.is_loopback()
                || (address == local.to_canonical() && !address.is_unspecified());
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let localhost = name.len() >= 9 && {
            let (front, end) = name.as_bytes().split_at(name.len() - 9);
            end.eq_ignore_ascii_case(b"localhost") && (front.is_empty() || front.ends_with(b"."))
        };
        localhost || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use proptest::prelude::*;

    const LOOPBACK: &str = "127.0.0.1";

    fn check(local: &str, pairs: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().expect("name");
            headers.append(name, value.parse().expect("value"));
        }
        let local = local.parse().expect("address");
        Guard::default().check(&Uri::from_static("/"), &headers, local)
    }

    #[test]
    fn own_names_pass() {
        for host in [
            "localhost",
            "localhost:9000",
            "LOCALHOST:9000",
            "localhost.:9000",
            "x.lambda-url.us-east-1.localhost:9000",
            "127.0.0.1",
            "127.0.0.1:9000",
            "127.1.2.3:1",
            "[::1]",
            "[::1]:9000",
        ] {
            assert_eq!(check(LOOPBACK, &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(check("192.0.2.7", &[("host", "192.0.2.7:9000")]), Ok(()));
        assert_eq!(check("::ffff:192.0.2.7", &[("host", "192.0.2.7:9000")]), Ok(()));
        assert_eq!(check("2001:db8::1", &[("host", "[2001:db8:0::1]:9000")]), Ok(()));
    }

    #[test]
    fn a_rebinding_host_is_refused() {
        for host in [
            "evil.example",
            "evil.example:9000",
            "localhost.evil.example",
            "evillocalhost",
            "notlocalhost:9000",
            "127.0.0.1.evil.example",
            "127.0.0.1.nip.io",
            "0.0.0.0:9000",
            "192.0.2.7:9000",
            "[2001:db8::1]:9000",
            "::1",
            "[127.0.0.1]",
            "localhost:",
            "localhost:x",
            "localhost:9000@evil.example",
            "127.1",
            "2130706433",
            "",
        ] {
            assert!(
                matches!(check(LOOPBACK, &[("host", host)]), Err(Refusal::Host { .. })),
                "{host}"
            );
        }
        assert!(check(LOOPBACK, &[]).is_err());
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert!(check(LOOPBACK, &two).is_err());
        assert!(check("0.0.0.0", &[("host", "0.0.0.0:9000")]).is_err());
    }

    #[test]
    fn the_absolute_form_is_checked_too() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "localhost:9000".parse().expect("value"));
        let local = LOOPBACK.parse().expect("address");
        let guard = Guard::default();
        let own = Uri::from_static("http://localhost:9000/x");
        assert_eq!(guard.check(&own, &headers, local), Ok(()));
        let foreign = Uri::from_static("http://evil.example/x");
        assert!(guard.check(&foreign, &headers, local).is_err());
    }

    #[test]
    fn configured_names_pass() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "Lambda.Corp:9000".parse().expect("value"));
        let uri = Uri::from_static("/");
        let local = "192.0.2.7".parse().expect("address");
        assert!(Guard::default().check(&uri, &headers, local).is_err());
        let guard = Guard::new(["lambda.corp".to_owned()]);
        assert_eq!(guard.check(&uri, &headers, local), Ok(()));
    }

    #[test]
    fn a_hostile_page_is_refused() {
        let host = ("host", "localhost:9000");
        for origin in [
            "http://evil.example",
            "null",
            "http://localhost:3000",
            "http://localhost",
            "http://127.0.0.1:9000",
            "chrome-extension://abc",
            "http://localhost:9000.evil.example",
        ] {
            let result = check(LOOPBACK, &[host, ("origin", origin)]);
            assert!(matches!(result, Err(Refusal::Origin { .. })), "{origin}");
        }
        for site in ["cross-site", "same-site", "new-thing", ""] {
            let result = check(LOOPBACK, &[host, ("sec-fetch-site", site)]);
            assert!(matches!(result, Err(Refusal::Site { .. })), "{site}");
        }
    }

    #[test]
    fn the_server_s_own_page_passes() {
        let host = ("host", "localhost:9000");
        let own = [host, ("origin", "http://localhost:9000"), ("sec-fetch-site", "same-origin")];
        assert_eq!(check(LOOPBACK, &own), Ok(()));
        assert_eq!(check(LOOPBACK, &[host, ("sec-fetch-site", "none")]), Ok(()));
    }

    proptest! {
        #[test]
        fn only_localhost_and_own_addresses_pass(host in "[a-zA-Z0-9.:\\[\\]-]{0,40}") {
            if check(LOOPBACK, &[("host", &host)]).is_ok() {
                let name = host.to_ascii_lowercase();
                prop_assert!(name.contains("localhost") || name.contains("127.") || name.contains("::"));
            }
        }
    }
}
