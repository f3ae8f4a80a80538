use super::ClientError;

/// Where the server is: an http address without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    authority: String,
}

impl Endpoint {
    /// Where `lambfold serve` listens when it is told nothing else.
    pub(crate) const DEFAULT: &'static str = "http://127.0.0.1:9000";

    /// Takes `http://HOST[:PORT]`, with or without a closing slash.
    pub(crate) fn parse(text: &str) -> Result<Self, ClientError> {
        let invalid = || ClientError::InvalidEndpoint { text: text.to_owned() };
        let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => return Err(ClientError::Https { text: text.to_owned() }),
            _ => return Err(invalid()),
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let parsed: ureq::http::uri::Authority = authority.parse().map_err(|_| invalid())?;
        if parsed.host().is_empty() || authority.contains('@') {
            return Err(invalid());
        }
        // The default port does not belong into a Host header, which is signed.
        let authority = authority.strip_suffix(":80").unwrap_or(authority);
        Ok(Self { authority: authority.to_ascii_lowercase() })
    }

    /// Host and port, as in the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The address of a path (with its query) on this server.
    pub(crate) fn address(&self, path_and_query: &str) -> String {
        format!("http://{}{path_and_query}", self.authority)
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers() {
        for (text, authority) in [
            ("http://127.0.0.1:9000", "127.0.0.1:9000"),
            ("http://127.0.0.1:9000/", "127.0.0.1:9000"),
            ("HTTP://Example.com:80", "example.com"),
            ("http://[::1]:9000", "[::1]:9000"),
        ] {
            let endpoint = Endpoint::parse(text).expect(text);
            assert_eq!(endpoint.authority(), authority, "{text}");
        }
        assert!(matches!(Endpoint::parse("https://example.com"), Err(ClientError::Https { .. })));
        for text in ["", "127.0.0.1:9000", "http://", "http://a/b", "http://u@h", "ftp://a"] {
            let error = Endpoint::parse(text).expect_err(text);
            assert!(matches!(error, ClientError::InvalidEndpoint { .. }), "{text}: {error}");
        }
    }
}
