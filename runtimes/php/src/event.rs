//! Events that are HTTP requests: API Gateway's proxy format 1.0, the format 2.0 of HTTP APIs and
//! function URLs, and the load balancer's.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Where an event comes from, and so how it wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// API Gateway's payload format 1.0, of REST APIs and, on wish, of HTTP APIs.
    V1,
    /// Payload format 2.0: HTTP APIs and function URLs.
    V2,
    /// An application load balancer; whether its target group sends lists of values.
    LoadBalancer { multi_value: bool },
}

/// One HTTP request, whatever format it came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HttpEvent<'a> {
    pub(crate) format: Format,
    pub(crate) method: String,
    /// As in a request line, without stage and query.
    pub(crate) path: String,
    /// As in a request line, without `?`; empty if there is none.
    pub(crate) query: String,
    /// In the order in which they came. Names as they came; the cookies of format 2.0 are one.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Cow<'a, [u8]>,
    /// HTTP/1.1 and such.
    pub(crate) protocol: String,
    pub(crate) client_address: String,
    /// The platform's name for itself, where there is no Host.
    pub(crate) domain: Option<String>,
    /// What the event says about its way, as JSON.
    pub(crate) context: &'a str,
}

/// An event that looks like HTTP and is not whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventError {
    #[error("the event's `{member}` is not what an HTTP event has there")]
    Member { member: &'static str, source: serde_json::Error },
    #[error("the event's method {method:?} is not one")]
    Method { method: String },
    #[error("the event's body is not base64, although isBase64Encoded says so")]
    Body { source: base64::DecodeError },
}

/// The event as JSON has it; members are looked into when they are needed, since events of other
/// kinds may use the same names for other things.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(borrow)]
    http_method: Option<&'a RawValue>,
    #[serde(borrow)]
    path: Option<&'a RawValue>,
    #[serde(borrow)]
    raw_path: Option<&'a RawValue>,
    #[serde(borrow)]
    raw_query_string: Option<&'a RawValue>,
    #[serde(borrow)]
    headers: Option<&'a RawValue>,
    #[serde(borrow)]
    multi_value_headers: Option<&'a RawValue>,
    #[serde(borrow)]
    query_string_parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    multi_value_query_string_parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    cookies: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    is_base64_encoded: Option<&'a RawValue>,
    #[serde(borrow)]
    request_context: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Context<'a> {
    #[serde(borrow)]
    http: Option<&'a RawValue>,
    #[serde(borrow)]
    elb: Option<&'a RawValue>,
    #[serde(borrow)]
    identity: Option<&'a RawValue>,
    #[serde(borrow)]
    stage: Option<&'a RawValue>,
    #[serde(borrow)]
    protocol: Option<&'a RawValue>,
    #[serde(borrow)]
    domain_name: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Http {
    method: Option<String>,
    protocol: Option<String>,
    source_ip: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Identity {
    source_ip: Option<String>,
}

/// The members of an object in their order, which a map would lose.
struct Pairs<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Collect<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<V>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect(PhantomData))
    }
}

/// `null` is as good as nothing.
fn member<'a, T: Deserialize<'a>>(
    member: &'static str,
    value: Option<&'a RawValue>,
) -> Result<Option<T>, EventError> {
    let value = value.map_or("null", RawValue::get);
    serde_json::from_str(value).map_err(|source| EventError::Member { member, source })
}

impl<'a> HttpEvent<'a> {
    /// Reads an event; none if it is of another kind, or no JSON object at all.
    pub(crate) fn from_json(event: &'a [u8]) -> Result<Option<HttpEvent<'a>>, EventError> {
        let Ok(text) = str::from_utf8(event) else { return Ok(None) };
        // Members could also be read from an array, in their order.
        if !text.trim_ascii_start().starts_with('{') {
            return Ok(None);
        }
        let Ok(members) = serde_json::from_str::<Members<'a>>(text) else { return Ok(None) };
        let context_text = members.request_context.map_or("{}", RawValue::get);
        let context: Context<'a> = serde_json::from_str(context_text).unwrap_or_default();
        let is_object = |value: Option<&RawValue>| value.is_some_and(|v| v.get().starts_with('{'));
        let is_text = |value: Option<&RawValue>| value.is_some_and(|v| v.get().starts_with('"'));
        if is_object(context.http) {
            HttpEvent::v2(&members, &context, context_text).map(Some)
        } else if is_text(members.http_method) {
            HttpEvent::v1(&members, &context, context_text).map(Some)
        } else {
            Ok(None)
        }
    }

    fn v2(
        members: &Members<'a>,
        context: &Context<'a>,
        context_text: &'a str,
    ) -> Result<HttpEvent<'a>, EventError> {
        let http: Http = member("requestContext.http", context.http)?.unwrap_or_default();
        let stage: Option<String> = member("requestContext.stage", context.stage)?;
        let path: Option<String> = member("rawPath", members.raw_path)?;
        let path = without_stage(path.unwrap_or_default(), stage.as_deref());
        let query: Option<String> = member("rawQueryString", members.raw_query_string)?;
        let mut headers = single_values("headers", members.headers)?;
        let cookies: Option<Vec<String>> = member("cookies", members.cookies)?;
        if let Some(cookies) = cookies.filter(|cookies| !cookies.is_empty()) {
            headers.retain(|(name, _)| !name.eq_ignore_ascii_case("cookie"));
            headers.push(("cookie".to_owned(), cookies.join("; ")));
        }
        Ok(HttpEvent {
            format: Format::V2,
            method: method(http.method.unwrap_or_default())?,
            path: request_path(&path),
            query: query.unwrap_or_default(),
            headers,
            body: body(members)?,
            protocol: http.protocol.unwrap_or_else(|| "HTTP/1.1".to_owned()),
            client_address: http.source_ip.unwrap_or_else(|| "127.0.0.1".to_owned()),
            domain: member("requestContext.domainName", context.domain_name)?,
            context: context_text,
        })
    }

    /// Format 1.0 and the load balancer's, which is made after it.
    fn v1(
        members: &Members<'a>,
        context: &Context<'a>,
        context_text: &'a str,
    ) -> Result<HttpEvent<'a>, EventError> {
        let is_balancer = context.elb.is_some();
        let lists = many_values("multiValueHeaders", members.multi_value_headers)?;
        let format = match is_balancer {
            true => Format::LoadBalancer { multi_value: lists.is_some() },
            false => Format::V1,
        };
        let headers = match lists.filter(|lists| !lists.is_empty()) {
            Some(lists) => lists,
            None => single_values("headers", members.headers)?,
        };
        let name = "multiValueQueryStringParameters";
        let lists = many_values(name, members.multi_value_query_string_parameters)?;
        let query = match lists.filter(|lists| !lists.is_empty()) {
            Some(lists) => lists,
            None => single_values("queryStringParameters", members.query_string_parameters)?,
        };
        let identity: Identity =
            member("requestContext.identity", context.identity)?.unwrap_or_default();
        // The balancer adds the peer at the end, behind what the client may have invented.
        let forwarded_for = headers
            .iter()
            .rfind(|(name, _)| is_balancer && name.eq_ignore_ascii_case("x-forwarded-for"))
            .and_then(|(_, value)| value.rsplit(',').next())
            .map(|address| address.trim().to_owned());
        let path: Option<String> = member("path", members.path)?;
        let protocol: Option<String> = member("requestContext.protocol", context.protocol)?;
        Ok(HttpEvent {
            format,
            method: method(member("httpMethod", members.http_method)?.unwrap_or_default())?,
            path: request_path(&path.unwrap_or_default()),
            // API Gateway has decoded the query, the balancer has left it alone.
            query: query_string(&query, !is_balancer),
            headers,
            body: body(members)?,
            protocol: protocol.unwrap_or_else(|| "HTTP/1.1".to_owned()),
            client_address: identity
                .source_ip
                .or(forwarded_for)
                .unwrap_or_else(|| "127.0.0.1".to_owned()),
            domain: member("requestContext.domainName", context.domain_name)?,
            context: context_text,
        })
    }

    /// A header's value. Several of one name are one: a list, or cookies behind each other.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        let between = if name.eq_ignore_ascii_case("cookie") { "; " } else { ", " };
        (!values.is_empty()).then(|| values.join(between))
    }
}

fn single_values(
    name: &'static str,
    value: Option<&RawValue>,
) -> Result<Vec<(String, String)>, EventError> {
    let pairs: Option<Pairs<Option<String>>> = member(name, value)?;
    let pairs = pairs.map_or_else(Vec::new, |pairs| pairs.0);
    Ok(pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

fn many_values(
    name: &'static str,
    value: Option<&RawValue>,
) -> Result<Option<Vec<(String, String)>>, EventError> {
    let pairs: Option<Pairs<Option<Vec<String>>>> = member(name, value)?;
    let each = |(name, values): (String, Option<Vec<String>>)| {
        values.unwrap_or_default().into_iter().map(move |value| (name.clone(), value))
    };
    Ok(pairs.map(|pairs| pairs.0.into_iter().flat_map(each).collect()))
}

fn method(method: String) -> Result<String, EventError> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    match !method.is_empty() && method.bytes().all(is_token) {
        true => Ok(method),
        false => Err(EventError::Method { method }),
    }
}

/// HTTP APIs put the name of the stage before the path, unless it is the default one.
fn without_stage(path: String, stage: Option<&str>) -> String {
    let stage = stage.filter(|stage| !stage.is_empty() && *stage != "$default");
    let rest = stage.and_then(|stage| path.strip_prefix('/')?.strip_prefix(stage));
    match rest {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.to_owned(),
        _ => path,
    }
}

/// What cannot stand in the path of a request line. A `%` stays: paths come encoded, and where a
/// gateway has decoded one, nobody can tell any more.
const NOT_IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

fn request_path(path: &str) -> String {
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{slash}{}", utf8_percent_encode(path, NOT_IN_PATH))
}

/// What stays as it is in the names and values of a query that is put together again.
const NOT_IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'[')
    .remove(b']')
    .remove(b',')
    .remove(b':')
    .remove(b'/')
    .remove(b'@');

fn query_string(pairs: &[(String, String)], is_decoded: bool) -> String {
    let encode = |text: &str| match is_decoded {
        true => utf8_percent_encode(text, NOT_IN_QUERY).to_string(),
        false => text.to_owned(),
    };
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

/// As AWS takes it: the alphabet of RFC 4648, with or without the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn body<'a>(members: &Members<'a>) -> Result<Cow<'a, [u8]>, EventError> {
    let is_encoded: Option<bool> = member("isBase64Encoded", members.is_base64_encoded)?;
    let text: Cow<'a, str> = match members.body {
        None => Cow::Borrowed(""),
        // Without an escape in it, as with all base64, the text can stay where it is.
        Some(value) => match serde_json::from_str::<&'a str>(value.get()) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(member("body", Some(value))?.unwrap_or_default()),
        },
    };
    if is_encoded == Some(true) {
        let bytes = BASE64.decode(text.as_bytes());
        return bytes.map(Cow::Owned).map_err(|source| EventError::Body { source });
    }
    Ok(match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

#[cfg(test)]
mod tests;
