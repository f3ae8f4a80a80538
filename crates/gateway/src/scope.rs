//! Account and region of a request.

use crate::invoke::text;
use lambfold_http1::Fields;
use lambfold_types::{Region, Scope};
use std::borrow::Cow;

/// The scope of a request: the region of the signature's credential scope, which is the one the
/// client was configured with, else the server's. The signature itself is not verified here.
pub(crate) fn of<'a>(server: &'a Scope, headers: &dyn Fields, query: &str) -> Cow<'a, Scope> {
    let signed = headers.field("authorization").and_then(text);
    let region = match signed.and_then(header_region) {
        Some(region) => Some(Cow::Borrowed(region)),
        None => query_region(query).map(Cow::Owned),
    };
    match region {
        Some(region) if region == server.region.as_str() => Cow::Borrowed(server),
        Some(region) => match Region::parse(&region) {
            Ok(region) => Cow::Owned(Scope { account: server.account.clone(), region }),
            Err(_) => Cow::Borrowed(server),
        },
        None => Cow::Borrowed(server),
    }
}

/// `AWS4-HMAC-SHA256 Credential=<key>/<date>/<region>/<service>/aws4_request, …`
fn header_region(authorization: &str) -> Option<&str> {
    let (_, rest) = authorization.split_once("Credential=")?;
    let credential = rest.split([',', ' ']).next()?;
    credential_region(credential)
}

fn query_region(query: &str) -> Option<String> {
    if !query.contains("X-Amz-Credential=") {
        return None;
    }
    let (_, credential) =
        lambfold_api_model::query_pairs(query).find(|(name, _)| name == "X-Amz-Credential")?;
    credential_region(&credential).map(str::to_owned)
}

/// Access keys have no slash, so that the region is always the third part.
fn credential_region(credential: &str) -> Option<&str> {
    credential.split('/').nth(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use http::header::AUTHORIZATION;
    use lambfold_types::AccountId;

    fn region(authorization: Option<&str>, query: &str) -> String {
        let server = Scope {
            account: AccountId::parse("000000000000").expect("account"),
            region: Region::parse("us-east-1").expect("region"),
        };
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.parse().expect("value"));
        }
        of(&server, &headers, query).region.to_string()
    }

    #[test]
    fn the_signature_s_region_wins() {
        let signed = |region: &str| {
            format!(
                "AWS4-HMAC-SHA256 Credential=AKID/20260102/{region}/lambda/aws4_request, SignedHeaders=host, Signature=00"
            )
        };
        assert_eq!(region(Some(&signed("cn-north-1")), ""), "cn-north-1");
        assert_eq!(region(Some(&signed("../../etc")), ""), "us-east-1");
        assert_eq!(region(Some("Basic abc"), ""), "us-east-1");
        assert_eq!(region(None, ""), "us-east-1");
        let query = "X-Amz-Credential=AKID%2F20260102%2Feu-west-3%2Flambda%2Faws4_request";
        assert_eq!(region(None, query), "eu-west-3");
    }
}
