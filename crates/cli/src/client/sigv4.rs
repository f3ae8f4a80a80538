//! AWS Signature Version 4, for a request whose parts are all known: no streaming, no presigning.

use hmac::{Hmac, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

/// Everything but the characters that RFC 3986 leaves unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Keys that sign a request.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: Option<String>,
}

/// The parts of a request that the signature covers.
pub(crate) struct Signable<'a> {
    pub(crate) method: &'a str,
    /// As sent, thus percent-encoded; the canonical form encodes it once more.
    pub(crate) path: &'a str,
    /// Decoded.
    pub(crate) query: &'a [(String, String)],
    /// Names in lower case, `host` and `x-amz-date` among them.
    pub(crate) headers: &'a [(String, String)],
    /// Of the body, in lower-case hexadecimal.
    pub(crate) payload_sha256: &'a str,
}

/// Percent-encodes one path segment, or the name or value of a query parameter.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The query as it is signed and as it may be sent: encoded, in the order of its bytes.
pub(crate) fn canonical_query(query: &[(String, String)]) -> String {
    let mut pairs: Vec<_> = query.iter().map(|(k, v)| (encode(k), encode(v))).collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join("&")
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value of the `Authorization` header. `date` is `YYYYMMDDTHHMMSSZ`.
pub(crate) fn authorization(
    credentials: &Credentials,
    region: &str,
    service: &str,
    date: &str,
    request: &Signable<'_>,
) -> String {
    let scope = format!("{}/{region}/{service}/aws4_request", &date[..8]);
    let (canonical, signed) = canonical_request(request);
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
    let key = signing_key(&credentials.secret_access_key, &date[..8], region, service);
    let signature = hex(&hmac(&key, text.as_bytes()));
    let id = &credentials.access_key_id;
    format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={signed}, Signature={signature}"
    )
}

fn canonical_request(request: &Signable<'_>) -> (String, String) {
    let mut headers: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| {
            (name.as_str(), value.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect();
    headers.sort();
    let signed = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let path: Vec<_> = request.path.split('/').map(encode).collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{signed}\n{}",
        request.method,
        path.join("/"),
        canonical_query(request.query),
        request.payload_sha256
    );
    (canonical, signed)
}

fn signing_key(secret: &str, day: &str, region: &str, service: &str) -> Vec<u8> {
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [day, region, service, "aws4_request"] {
        key = hmac(&key, part.as_bytes());
    }
    key
}

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).expect("HMAC-SHA256 takes a key of any length");
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys, date and scope of the examples in AWS's Signature Version 4 documents and test suite.
    const DATE: &str = "20150830T123600Z";

    fn credentials() -> Credentials {
        Credentials {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        }
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn signature(
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &str,
    ) -> String {
        let mut headers = pairs(headers);
        headers.push(("host".into(), "example.amazonaws.com".into()));
        headers.push(("x-amz-date".into(), DATE.into()));
        let request = Signable {
            method,
            path,
            query: &pairs(query),
            headers: &headers,
            payload_sha256: &sha256_hex(body.as_bytes()),
        };
        let value = authorization(&credentials(), "us-east-1", "service", DATE, &request);
        value.rsplit_once("Signature=").expect("a signature").1.to_owned()
    }

    #[test]
    fn get_vanilla() {
        assert_eq!(
            signature("GET", "/", &[], &[], ""),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
    }

    #[test]
    fn get_vanilla_query_order_key_case() {
        assert_eq!(
            signature("GET", "/", &[("Param2", "value2"), ("Param1", "value1")], &[], ""),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
        );
    }

    #[test]
    fn post_vanilla() {
        assert_eq!(
            signature("POST", "/", &[], &[], ""),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
    }

    #[test]
    fn header_values_are_trimmed_and_their_spaces_joined() {
        assert_eq!(
            signature(
                "GET",
                "/",
                &[],
                &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
                ""
            ),
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"
        );
    }

    /// The worked example of the documentation: IAM ListUsers.
    #[test]
    fn documented_example_with_its_signing_key() {
        let day = &DATE[..8];
        let key = signing_key(&credentials().secret_access_key, day, "us-east-1", "iam");
        assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
        let request = Signable {
            method: "GET",
            path: "/",
            query: &pairs(&[("Action", "ListUsers"), ("Version", "2010-05-08")]),
            headers: &pairs(&[
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("host", "iam.amazonaws.com"),
                ("x-amz-date", DATE),
            ]),
            payload_sha256: &sha256_hex(b""),
        };
        assert_eq!(
            authorization(&credentials(), "us-east-1", "iam", DATE, &request),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn an_encoded_path_is_encoded_once_more() {
        let request = Signable {
            method: "GET",
            path: "/2015-03-31/functions/arn%3Aaws",
            query: &[],
            headers: &[],
            payload_sha256: "",
        };
        let (canonical, _) = canonical_request(&request);
        assert!(canonical.starts_with("GET\n/2015-03-31/functions/arn%253Aaws\n"), "{canonical}");
    }
}
