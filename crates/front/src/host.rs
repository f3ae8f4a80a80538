/// Whether a `Host` header names this machine by an address or as localhost. A web page can make
/// its own name lead here; then the browser would let it read what is answered.
pub(crate) fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if port.is_empty() || port.starts_with(':') => {
                return name.parse::<std::net::Ipv6Addr>().is_ok();
            }
            _ => return false,
        },
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    if name.parse::<std::net::Ipv4Addr>().is_ok() {
        return true;
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn addresses_and_localhost_are_local_and_other_names_are_not() {
        for host in [
            "127.0.0.1:3000",
            "127.0.0.1",
            "[::1]:3000",
            "[::1]",
            "localhost:3000",
            "LOCALHOST",
            "shop.localhost:3000",
            "localhost.:3000",
            "192.168.1.5:3000",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:3000",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "[evil.example]",
            "[::1",
            "[::1]x",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
