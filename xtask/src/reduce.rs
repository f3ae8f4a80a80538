//! The published service model, without prose and without what routing and validation do not
//! need: one line an operation, a shape and an exception, sorted, so that a new version of the
//! model is a readable diff. Members keep the model's order: errors are listed in it.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::marker::PhantomData;

/// A JSON object in the order of the file.
#[derive(Debug)]
struct Ordered<T>(Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Ordered<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[derive(Deserialize)]
struct Service {
    operations: BTreeMap<String, Operation>,
    shapes: BTreeMap<String, Shape>,
}

#[derive(Deserialize)]
struct Reference {
    shape: String,
}

#[derive(Deserialize)]
struct Operation {
    http: Http,
    input: Option<Reference>,
    output: Option<Reference>,
    #[serde(default)]
    errors: Vec<Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Http {
    method: String,
    request_uri: String,
    response_code: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    shape: String,
    location: Option<String>,
    location_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fault {
    http_status_code: Option<u16>,
}

#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    members: Ordered<Member>,
    #[serde(default)]
    required: Vec<String>,
    payload: Option<String>,
    member: Option<Reference>,
    key: Option<Reference>,
    value: Option<Reference>,
    min: Option<Value>,
    max: Option<Value>,
    pattern: Option<String>,
    #[serde(rename = "enum", default)]
    values: Vec<String>,
    #[serde(default)]
    sensitive: bool,
    #[serde(default)]
    eventstream: bool,
    error: Option<Fault>,
    #[serde(default)]
    exception: bool,
    #[serde(default)]
    fault: bool,
}

/// Reduces `service-2.json`.
pub(crate) fn reduce(json: &[u8], version: &str) -> Result<String, serde_json::Error> {
    let service: Service = serde_json::from_slice(json)?;
    let mut used = BTreeSet::new();
    let mut operations = Vec::new();
    for (name, operation) in &service.operations {
        for reference in [&operation.input, &operation.output].into_iter().flatten() {
            collect(&service.shapes, &reference.shape, &mut used);
        }
        operations.push((name, operation_row(operation)));
    }
    let shapes: Vec<(&String, Value)> = service
        .shapes
        .iter()
        .filter(|(name, _)| used.contains(name.as_str()))
        .map(|(name, shape)| (name, shape_row(shape)))
        .collect();
    let exceptions: Vec<(&String, Value)> = service
        .shapes
        .iter()
        .filter(|(_, shape)| shape.exception)
        .map(|(name, shape)| (name, exception_row(shape)))
        .collect();
    let mut text = String::new();
    let _ = writeln!(text, "{{\"source\":\"botocore {version}\"");
    section(&mut text, "operations", &operations)?;
    section(&mut text, "shapes", &shapes)?;
    section(&mut text, "exceptions", &exceptions)?;
    text.push_str("}\n");
    Ok(text)
}

fn section(
    text: &mut String,
    name: &str,
    rows: &[(&String, Value)],
) -> Result<(), serde_json::Error> {
    let _ = writeln!(text, ",\"{name}\":{{");
    for (i, (key, row)) in rows.iter().enumerate() {
        let comma = if i + 1 == rows.len() { "" } else { "," };
        let _ = writeln!(text, "\"{key}\":{}{comma}", serde_json::to_string(row)?);
    }
    text.push_str("}\n");
    Ok(())
}

fn collect<'a>(shapes: &'a BTreeMap<String, Shape>, name: &'a str, used: &mut BTreeSet<&'a str>) {
    let Some(shape) = shapes.get(name) else { return };
    if !used.insert(name) {
        return;
    }
    for (_, member) in &shape.members.0 {
        collect(shapes, &member.shape, used);
    }
    for reference in [&shape.member, &shape.key, &shape.value].into_iter().flatten() {
        collect(shapes, &reference.shape, used);
    }
}

fn operation_row(operation: &Operation) -> Value {
    let mut row = Map::new();
    row.insert("method".into(), json!(operation.http.method));
    row.insert("uri".into(), json!(operation.http.request_uri));
    row.insert("status".into(), json!(operation.http.response_code.unwrap_or(200)));
    if let Some(input) = &operation.input {
        row.insert("input".into(), json!(input.shape));
    }
    if let Some(output) = &operation.output {
        row.insert("output".into(), json!(output.shape));
    }
    let mut errors: Vec<&str> = operation.errors.iter().map(|e| e.shape.as_str()).collect();
    errors.sort_unstable();
    row.insert("errors".into(), json!(errors));
    Value::Object(row)
}

fn shape_row(shape: &Shape) -> Value {
    let mut row = Map::new();
    row.insert("type".into(), json!(shape.kind));
    if shape.kind == "structure" {
        let members: Vec<Value> = shape
            .members
            .0
            .iter()
            .map(|(name, member)| match (&member.location, &member.location_name) {
                (Some(location), Some(wire)) => json!([name, member.shape, location, wire]),
                (Some(location), None) => json!([name, member.shape, location]),
                _ => json!([name, member.shape]),
            })
            .collect();
        row.insert("members".into(), json!(members));
        if !shape.required.is_empty() {
            row.insert("required".into(), json!(shape.required));
        }
    }
    let references = [("member", &shape.member), ("key", &shape.key), ("value", &shape.value)];
    for (key, reference) in references {
        if let Some(reference) = reference {
            row.insert(key.into(), json!(reference.shape));
        }
    }
    for (key, limit) in [("min", &shape.min), ("max", &shape.max)] {
        if let Some(limit) = limit {
            row.insert(key.into(), limit.clone());
        }
    }
    if let Some(pattern) = &shape.pattern {
        row.insert("pattern".into(), json!(pattern));
    }
    if !shape.values.is_empty() {
        row.insert("enum".into(), json!(shape.values));
    }
    if let Some(payload) = &shape.payload {
        row.insert("payload".into(), json!(payload));
    }
    for (key, set) in [("sensitive", shape.sensitive), ("eventstream", shape.eventstream)] {
        if set {
            row.insert(key.into(), json!(true));
        }
    }
    Value::Object(row)
}

fn exception_row(shape: &Shape) -> Value {
    let status = shape.error.as_ref().and_then(|e| e.http_status_code);
    let status = status.unwrap_or(if shape.fault { 500 } else { 400 });
    let capital = shape.members.0.iter().any(|(name, _)| name == "Message");
    let typed = shape.members.0.iter().any(|(name, _)| name == "Type");
    json!({
        "status": status,
        "message": if capital { "Message" } else { "message" },
        "typed": typed,
        "fault": if shape.fault { "Service" } else { "User" },
    })
}
