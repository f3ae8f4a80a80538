use super::{Format, is_of_connection};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// What goes back to the client.
#[derive(Debug)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// Without those of the connection and without the length.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Why an answer of a function is no response; AWS answers 502 to its client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Not JSON at all.
    #[error("the function's answer is not JSON")]
    NotJson,
    /// This format asks for an object with a status.
    #[error("the function's answer is no object with statusCode, which {} needs", format.name())]
    NoStatus {
        /// Of the event.
        format: Format,
    },
    /// The status is none.
    #[error("statusCode {status} is no number from 200 to 599")]
    Status {
        /// As answered, shortened.
        status: String,
    },
    /// A member has another type than it must.
    #[error("{member} is not {wanted}")]
    Member {
        /// Its name.
        member: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// A header that HTTP does not allow.
    #[error(
        "{name:?} cannot be sent as a header: its name or value has characters that HTTP forbids"
    )]
    Header {
        /// The name, shortened.
        name: String,
    },
    /// `isBase64Encoded` is true and the body is not base64.
    #[error("isBase64Encoded is true and the body is not base64")]
    Base64,
}

/// The response that a function's answer means.
///
/// With the formats of HTTP APIs and function URLs an answer without `statusCode` is the body of
/// a 200; the others refuse it.
///
/// # Errors
/// When the answer means none; see [`ResponseError`].
pub fn response(format: Format, answer: &[u8]) -> Result<Response, ResponseError> {
    let answer: Value = serde_json::from_slice(answer).map_err(|_| ResponseError::NotJson)?;
    let infers = matches!(format, Format::ApiGatewayV2 | Format::FunctionUrl);
    let status = answer.get("statusCode").filter(|status| !status.is_null());
    let (Some(status), Value::Object(answer)) = (status, &answer) else {
        if !infers {
            return Err(ResponseError::NoStatus { format });
        }
        let body = match answer {
            Value::String(text) => text,
            other => other.to_string(),
        };
        return Ok(Response { status: 200, headers: json_type(), body: body.into_bytes() });
    };
    let status = status_of(status)?;
    let mut headers = headers_of(answer)?;
    if infers {
        for cookie in list(answer, "cookies")? {
            headers.append(SET_COOKIE, value_of("cookies", cookie)?);
        }
        if !headers.contains_key(CONTENT_TYPE) {
            headers.extend(json_type());
        }
    }
    let mut body = body_of(answer)?;
    // HTTP has no place for one.
    if matches!(status, 204 | 304) {
        body.clear();
    }
    Ok(Response { status, headers, body })
}

fn json_type() -> HeaderMap {
    [(CONTENT_TYPE, HeaderValue::from_static("application/json"))].into_iter().collect()
}

fn status_of(status: &Value) -> Result<u16, ResponseError> {
    let number = match status {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let right = number.and_then(|number| u16::try_from(number).ok());
    right.filter(|status| (200..=599).contains(status)).ok_or_else(|| ResponseError::Status {
        status: status.to_string().chars().take(80).collect(),
    })
}

fn headers_of(answer: &Map<String, Value>) -> Result<HeaderMap, ResponseError> {
    let mut headers = HeaderMap::new();
    let passed = |name: &HeaderName| !is_of_connection(name.as_str()) && *name != CONTENT_LENGTH;
    for (name, value) in object(answer, "headers")? {
        let header = name_of(name)?;
        if passed(&header) {
            headers.insert(header, value_of(name, value)?);
        }
    }
    for (name, values) in object(answer, "multiValueHeaders")? {
        let header = name_of(name)?;
        let wanted =
            ResponseError::Member { member: "multiValueHeaders", wanted: "an object of lists" };
        let values = values.as_array().ok_or(wanted)?;
        if passed(&header) {
            // Where both have a name, this one counts.
            headers.remove(&header);
            for value in values {
                headers.append(header.clone(), value_of(name, value)?);
            }
        }
    }
    Ok(headers)
}

fn body_of(answer: &Map<String, Value>) -> Result<Vec<u8>, ResponseError> {
    let body = match answer.get("body") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    if answer.get("isBase64Encoded").and_then(Value::as_bool).unwrap_or(false) {
        STANDARD.decode(body).map_err(|_| ResponseError::Base64)
    } else {
        Ok(body.into_bytes())
    }
}

fn object<'a>(
    answer: &'a Map<String, Value>,
    member: &'static str,
) -> Result<impl Iterator<Item = (&'a String, &'a Value)>, ResponseError> {
    match answer.get(member) {
        None | Some(Value::Null) => Ok(None.into_iter().flatten()),
        Some(Value::Object(map)) => Ok(Some(map).into_iter().flatten()),
        // What PHP and its like make of an empty map.
        Some(Value::Array(list)) if list.is_empty() => Ok(None.into_iter().flatten()),
        Some(_) => Err(ResponseError::Member { member, wanted: "an object" }),
    }
}

fn list<'a>(
    answer: &'a Map<String, Value>,
    member: &'static str,
) -> Result<&'a [Value], ResponseError> {
    match answer.get(member) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(ResponseError::Member { member, wanted: "a list" }),
    }
}

fn name_of(name: &str) -> Result<HeaderName, ResponseError> {
    name.parse().map_err(|_| forbidden(name))
}

fn value_of(name: &str, value: &Value) -> Result<HeaderValue, ResponseError> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| forbidden(name))
}

fn forbidden(name: &str) -> ResponseError {
    ResponseError::Header { name: name.chars().take(80).collect() }
}
