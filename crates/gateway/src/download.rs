//! Code URLs: GetFunction and GetLayerVersion answer with a link that gives the very zip, to
//! whoever holds it, for ten minutes.

use crate::answer::{self, Answer, AnswerBody};
use crate::gateway::Gateway;
use hmac::{Hmac, Mac as _};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response};
use lambfold_api_model::{ApiError, query_pairs};
use lambfold_types::Digest;
use sha2::Sha256;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// How long a link works, seconds; as AWS's.
const VALID_S: u64 = 600;

/// Makes and checks links. The key lives as long as the server.
pub(crate) struct Tickets {
    key: [u8; 32],
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Tickets {
    pub(crate) fn new() -> Self {
        let mut key = [0; 32];
        key[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        key[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        Self { key }
    }

    fn mac(&self, digest: &Digest, expires: u64) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(digest.as_str().as_bytes());
        mac.update(&expires.to_be_bytes());
        Some(mac)
    }

    /// A link to the blob below `base` (`http://host:port`).
    pub(crate) fn link(&self, base: &str, digest: &Digest) -> String {
        self.link_until(base, digest, now_s() + VALID_S)
    }

    fn link_until(&self, base: &str, digest: &Digest, expires: u64) -> String {
        let mut link = format!("{base}/_lambfold/v1/code/{digest}?expires={expires}&token=");
        if let Some(mac) = self.mac(digest, expires) {
            for byte in mac.finalize().into_bytes() {
                let _ = write!(link, "{byte:02x}");
            }
        }
        link
    }

    fn valid(&self, digest: &Digest, query: &str) -> bool {
        let find = |wanted: &str| query_pairs(query).find(|(name, _)| name == wanted);
        let expires = find("expires").and_then(|(_, value)| value.parse::<u64>().ok());
        let token = find("token").and_then(|(_, value)| Digest::parse(&value));
        let (Some(expires), Some(token)) = (expires, token) else { return false };
        expires >= now_s()
            && self
                .mac(digest, expires)
                .is_some_and(|mac| mac.verify_slice(&token.to_bytes()).is_ok())
    }
}

pub(crate) async fn answer(
    gateway: &Gateway,
    method: &Method,
    digest: &str,
    query: &str,
) -> Answer {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let path = "/_lambfold/v1/code/…";
        return answer::error(&ApiError::method_not_allowed(method.as_str(), path, &["GET"]));
    }
    let Some(digest) = Digest::parse(digest).filter(|d| gateway.tickets.valid(d, query)) else {
        let text =
            "The link is not valid any more; ask GetFunction or GetLayerVersion for a new one";
        return answer::error(&ApiError::new("AccessDeniedException", text));
    };
    let opened = match gateway.control.open_code(&digest).await {
        Ok(file) => file,
        Err(error) => return answer::error(&crate::error::control(&error)),
    };
    let Ok(size) = opened.metadata().map(|metadata| metadata.len()) else {
        return answer::text(500, "the zip cannot be read\n");
    };
    let mut answer = Response::new(AnswerBody::file(opened, size));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fresh_link_of_this_server_works() {
        let digest = Digest::from_bytes(&[7; 32]);
        let tickets = Tickets::new();
        let query =
            |link: &str| link.split_once('?').map(|(_, q)| q.to_owned()).unwrap_or_default();
        let link = tickets.link("http://localhost:9000", &digest);
        assert!(link.starts_with(&format!("http://localhost:9000/_lambfold/v1/code/{digest}?")));
        assert!(tickets.valid(&digest, &query(&link)));
        assert!(!tickets.valid(&Digest::from_bytes(&[8; 32]), &query(&link)));
        assert!(!Tickets::new().valid(&digest, &query(&link)));
        assert!(!tickets.valid(&digest, ""));
        let old = tickets.link_until("", &digest, now_s() - 1);
        assert!(!tickets.valid(&digest, &query(&old)));
        let longer = query(&old).replace(&(now_s() - 1).to_string(), &(now_s() + 99).to_string());
        assert!(!tickets.valid(&digest, &longer));
    }
}
