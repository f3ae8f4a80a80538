//! Wire bodies as files in `tests/golden`. `UPDATE_GOLDEN=1` writes them anew: read the diff.

use crate::client::Response;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Headers that belong to the contract; the others are HTTP's own.
const HEADERS: [&str; 10] = [
    "content-type",
    "x-amzn-errortype",
    "x-amz-executed-version",
    "x-amz-function-error",
    "x-amz-log-result",
    "x-amzn-remapped-content-length",
    "x-amzn-remapped-content-type",
    "transfer-encoding",
    "allow",
    "retry-after",
];

/// Compares status, headers and body with the golden file.
pub(crate) fn check(name: &str, response: &Response) {
    let id = response.header("x-amzn-requestid").expect("every answer has a request id");
    assert_eq!(id.len(), 36, "{id}");
    let headers: Map<String, Value> = HEADERS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), Value::from(response.header(name)?))))
        .collect();
    let body = match serde_json::from_slice::<Value>(&response.body) {
        Ok(mut body) => {
            mask(&mut body);
            body
        }
        Err(_) => Value::from(response.text().replace(id, "<request id>")),
    };
    let got = json!({"status": response.status, "headers": headers, "body": body});
    let got = format!("{}\n", serde_json::to_string_pretty(&got).unwrap());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, got).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == got, "{} differs; got:\n{got}", path.display());
}

/// What differs from run to run.
fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), &value) {
                    ("RevisionId", Value::String(id)) if id.len() == 36 => {
                        *value = Value::from("<revision id>");
                    }
                    ("Location", Value::String(link)) => {
                        assert!(link.starts_with("http://127.0.0.1:"), "{link}");
                        assert!(link.contains("/_lambfold/v1/code/"), "{link}");
                        *value = Value::from("<link>");
                    }
                    ("ingestionTime", Value::Number(_)) => *value = Value::from("<time>"),
                    ("lastIngestionTime", Value::Number(_)) => *value = Value::from("<time>"),
                    ("eventId", Value::String(id)) if id.len() == 56 => {
                        *value = Value::from("<event id>");
                    }
                    ("storedBytes", Value::Number(_)) => *value = Value::from("<bytes>"),
                    _ => mask(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask),
        _ => {}
    }
}
