//! The constraints of the model, in AWS's wording (recorded answers; behaviour spec §6.2).

use crate::collect::Input;
use crate::exception::ApiError;
use crate::table::{Location, Model, Shape, ShapeKind};
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Longest value that a message repeats, characters.
const SHOWN: usize = 8_192;
/// Most errors that one message lists.
const ERRORS: usize = 50;

/// The operations check this member themselves: AWS answers it with another exception.
const CHECKED_LATER: &[(&str, &str)] =
    &[("CreateFunction", "Runtime"), ("UpdateFunctionConfiguration", "Runtime")];

/// Lists and maps whose elements may be null; elsewhere "must not be null" is listed too.
const NULLABLE: &[&str] = &["SecurityGroupIds", "SubnetIds", "CompatibleRuntimes"];

/// Enumerations that AWS lists in another order, or with other values, than its model.
const SHOWN_VALUES: &[(&str, &str)] = &[
    ("recursiveLoop", "Terminate, Allow"),
    ("invokeMode", "RESPONSE_STREAM, BUFFERED"),
    (
        "compatibleRuntimes",
        "nodejs20.x, python3.14, provided.al2023, python3.12, python3.13, nodejs24.x, nodejs22.x, java25, python3.10, python3.11, java21, ruby3.3, ruby3.4, ruby3.2, python3.8, python3.9, java17, nodejs16.x, dotnet10, dotnet8, java11, dotnet6, nodejs18.x, provided.al2, java8.al2",
    ),
    (
        "compatibleRuntime",
        "ruby3.5, ruby2.6, dotnetcore1.0, python3.7, nodejs8.10, nasa, ruby2.7, python2.7-greengrass, dotnetcore2.0, python3.8, java21, dotnet6, dotnetcore2.1, python3.9, java11, nodejs6.10, provided, dotnetcore3.1, dotnet8, java25, java17, nodejs, nodejs4.3, java8.al2, go1.x, dotnet10, nodejs20.x, go1.9, byol, nodejs10.x, provided.al2023, nodejs22.x, python3.10, java8, nodejs12.x, python3.11, nodejs24.x, nodejs8.x, python3.12, nodejs14.x, nodejs8.9, nodejs26.x, python3.13, python3.14, nodejs16.x, python3.15, provided.al2, nodejs4.3-edge, nodejs18.x, ruby3.2, python3.4, ruby3.3, ruby3.4, ruby2.5, python3.6, python2.7",
    ),
];

/// Checks required members, lengths, ranges, patterns and enumerations.
pub(crate) fn check(input: &Input) -> Result<(), ApiError> {
    let Some(shape) = input.operation.input else { return Ok(()) };
    let mut checker = Checker { operation: &input.operation.name, errors: Vec::new() };
    checker.structure(shape, &input.members, "");
    let errors = checker.errors;
    if errors.is_empty() {
        return Ok(());
    }
    let noun = if errors.len() == 1 { "error" } else { "errors" };
    let message = format!("{} validation {noun} detected: {}", errors.len(), errors.join("; "));
    Err(ApiError::new("ValidationException", message))
}

struct Checker<'a> {
    operation: &'a str,
    errors: Vec<String>,
}

impl Checker<'_> {
    fn add(&mut self, shape: &Shape, value: &Value, path: &str, constraint: &str) {
        if self.errors.len() >= ERRORS {
            return;
        }
        let shown = if value.is_null() {
            "Value null".to_owned()
        } else if shape.sensitive {
            "Value".to_owned()
        } else {
            let mut text = String::new();
            match &shape.kind {
                ShapeKind::Map(_, element) if Model::get().shape(*element).kind.is_double() => {
                    show(&doubles(value), &mut text);
                }
                _ => show(value, &mut text),
            }
            if let Some((cut, _)) = text.char_indices().nth(SHOWN) {
                text.truncate(cut);
                text.push_str("...");
            }
            format!("Value '{text}'")
        };
        self.errors.push(format!("{shown} at '{path}' failed to satisfy constraint: {constraint}"));
    }

    fn structure(&mut self, shape: usize, values: &Map<String, Value>, path: &str) {
        let model = Model::get();
        let ShapeKind::Structure { members, payload } = &model.shape(shape).kind else { return };
        for member in members {
            let shape = model.shape(member.shape);
            if path.is_empty() && CHECKED_LATER.contains(&(self.operation, &member.name)) {
                continue;
            }
            let member_path = join(path, &member.name);
            match values.get(member.name.as_ref()) {
                Some(value) => self.value(member.shape, value, &member_path),
                // A blob was put aside, or is the body itself.
                None if matches!(shape.kind, ShapeKind::Blob)
                    && (payload.is_some() || member.location == Location::Body) => {}
                None if member.required => {
                    self.add(shape, &Value::Null, &member_path, "Member must not be null");
                }
                None => {}
            }
        }
    }

    fn value(&mut self, index: usize, value: &Value, path: &str) {
        let model = Model::get();
        let shape = model.shape(index);
        match (&shape.kind, value) {
            (ShapeKind::Structure { .. }, Value::Object(values)) => {
                self.structure(index, values, path);
            }
            (ShapeKind::List(element), Value::Array(values)) => {
                self.length(shape, value, values.len(), path);
                let constraint = model.shape(*element);
                if let ShapeKind::Structure { .. } | ShapeKind::List(_) = constraint.kind {
                    for (i, value) in values.iter().enumerate() {
                        self.value(*element, value, &format!("{path}.{}.member", i + 1));
                    }
                    return;
                }
                if values.iter().all(|value| broken(constraint, value).is_empty()) {
                    return;
                }
                let mut all = constraints(constraint, path);
                if !NULLABLE.contains(&shape.name.as_ref()) {
                    all.push("Member must not be null".to_owned());
                }
                let text = match &all[..] {
                    [one] => one.clone(),
                    _ => format!("Member must satisfy constraint: [{}]", all.join(", ")),
                };
                self.add(shape, value, path, &text);
            }
            (ShapeKind::Map(key, element), Value::Object(values)) => {
                self.length(shape, value, values.len(), path);
                let (key, constraint) = (model.shape(*key), model.shape(*element));
                if values.keys().any(|k| !broken(key, &Value::from(k.as_str())).is_empty()) {
                    let all = constraints(key, path).join(", ");
                    self.add(
                        shape,
                        value,
                        path,
                        &format!("Map keys must satisfy constraint: [{all}]"),
                    );
                }
                if values.values().any(|value| !broken(constraint, value).is_empty()) {
                    let mut all = constraints(constraint, path);
                    all.push("Member must not be null".to_owned());
                    let all = all.join(", ");
                    self.add(
                        shape,
                        value,
                        path,
                        &format!("Map value must satisfy constraint: [{all}]"),
                    );
                }
            }
            _ => {
                for constraint in broken(shape, value) {
                    let text = constraint.text(shape, path);
                    self.add(shape, value, path, &text);
                }
            }
        }
    }

    fn length(&mut self, shape: &Shape, value: &Value, length: usize, path: &str) {
        for constraint in length_broken(shape, length) {
            let text = constraint.text(shape, path);
            self.add(shape, value, path, &text);
        }
    }
}

/// `vpcConfig.subnetIds`: members in paths begin with a small letter.
fn join(path: &str, name: &str) -> String {
    let mut joined = path.to_owned();
    if !joined.is_empty() {
        joined.push('.');
    }
    let mut letters = name.chars();
    joined.extend(letters.next().map(|first| first.to_ascii_lowercase()));
    joined.push_str(letters.as_str());
    joined
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Constraint {
    Max,
    Min,
    Pattern,
    Values,
    NotNull,
}

impl Constraint {
    fn text(self, shape: &Shape, path: &str) -> String {
        let number = matches!(
            shape.kind,
            ShapeKind::Integer | ShapeKind::Long | ShapeKind::Double | ShapeKind::Timestamp
        );
        let what = if number { "value" } else { "length" };
        let limit = |limit: Option<f64>| {
            let limit = limit.unwrap_or_default();
            if shape.kind.is_double() { double(limit) } else { format!("{limit}") }
        };
        match self {
            Self::Max => {
                format!("Member must have {what} less than or equal to {}", limit(shape.max))
            }
            Self::Min => {
                format!("Member must have {what} greater than or equal to {}", limit(shape.min))
            }
            Self::Pattern => {
                let source = shape.pattern.as_ref().map(|p| p.source()).unwrap_or_default();
                format!("Member must satisfy regular expression pattern: {source}")
            }
            Self::Values => {
                let known = SHOWN_VALUES.iter().find(|(member, _)| *member == path);
                match known {
                    Some((_, shown)) => format!("Member must satisfy enum value set: [{shown}]"),
                    None => {
                        let values = shape.values.join(", ");
                        format!("Member must satisfy enum value set: [{values}]")
                    }
                }
            }
            Self::NotNull => "Member must not be null".to_owned(),
        }
    }
}

impl ShapeKind {
    fn is_double(&self) -> bool {
        matches!(self, Self::Double)
    }
}

/// Every constraint of a shape; for elements AWS lists them all, broken or not.
fn constraints(shape: &Shape, path: &str) -> Vec<String> {
    let mut all = Vec::new();
    if shape.max.is_some() {
        all.push(Constraint::Max);
    }
    if shape.min.is_some() {
        all.push(Constraint::Min);
    }
    if shape.pattern.is_some() {
        all.push(Constraint::Pattern);
    }
    if !shape.values.is_empty() {
        all.push(Constraint::Values);
    }
    all.into_iter().map(|constraint| constraint.text(shape, path)).collect()
}

fn length_broken(shape: &Shape, length: usize) -> Vec<Constraint> {
    #[allow(clippy::cast_precision_loss)]
    range_broken(shape, length as f64)
}

fn range_broken(shape: &Shape, value: f64) -> Vec<Constraint> {
    let mut broken = Vec::new();
    if shape.max.is_some_and(|max| value > max) {
        broken.push(Constraint::Max);
    }
    if shape.min.is_some_and(|min| value < min) {
        broken.push(Constraint::Min);
    }
    broken
}

/// What a single value breaks.
fn broken(shape: &Shape, value: &Value) -> Vec<Constraint> {
    match value {
        Value::Null => vec![Constraint::NotNull],
        Value::String(text) => {
            let mut broken = length_broken(shape, text.chars().count());
            if shape.pattern.as_ref().is_some_and(|pattern| !pattern.matches(text)) {
                broken.push(Constraint::Pattern);
            }
            if !shape.values.is_empty() && !shape.values.iter().any(|allowed| allowed == text) {
                broken.push(Constraint::Values);
            }
            broken
        }
        Value::Number(number) => range_broken(shape, number.as_f64().unwrap_or_default()),
        _ => Vec::new(),
    }
}

/// As Java prints a double: always with a fraction.
fn double(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e7 {
        format!("{value:.1}")
    } else {
        value.to_string()
    }
}

/// The numbers of a map as numbers with a point, which is how AWS reads them.
fn doubles(value: &Value) -> Value {
    let values = value.as_object().into_iter().flatten();
    values.map(|(k, v)| (k.clone(), v.as_f64().map_or_else(|| v.clone(), Value::from))).collect()
}

/// As Java prints lists and maps: `[a, b]`, `{k=v}`.
fn show(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => out.push_str(&double(float)),
            None => {
                let _ = write!(out, "{number}");
            }
        },
        Value::String(text) => out.push_str(text),
        Value::Array(values) => {
            out.push('[');
            for (i, value) in values.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                show(value, out);
                if out.len() > 4 * SHOWN {
                    break;
                }
            }
            out.push(']');
        }
        Value::Object(values) => {
            out.push('{');
            for (i, (key, value)) in values.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                out.push_str(key);
                out.push('=');
                show(value, out);
                if out.len() > 4 * SHOWN {
                    break;
                }
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Model, Request};

    fn message(method: &str, target: &str, body: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let routed = Model::get().route(method, path, query).expect(target);
        let request = Request { routed, query, header: &|_| None, body: body.as_bytes() };
        match request.input() {
            Ok(_) => String::new(),
            Err(error) => {
                assert_eq!(error.code, "ValidationException", "{error}");
                error.message.unwrap_or_default()
            }
        }
    }

    fn create(more: &str) -> String {
        let body = format!(
            r#"{{"FunctionName":"f","Role":"arn:aws:iam::000000000000:role/r","Code":{{}}{more}}}"#
        );
        message("POST", "/2015-03-31/functions", &body)
    }

    #[test]
    fn one_error() {
        let cases = [
            (
                r#","MemorySize":127"#,
                "1 validation error detected: Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128",
            ),
            (
                r#","Architectures":["x86_64","arm64"]"#,
                "1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1",
            ),
            (
                r#","Architectures":["mips"]"#,
                "1 validation error detected: Value '[mips]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]",
            ),
            (
                r#","SnapStart":{"ApplyOn":"Always"}"#,
                "1 validation error detected: Value 'Always' at 'snapStart.applyOn' failed to satisfy constraint: Member must satisfy enum value set: [PublishedVersions, None]",
            ),
            (
                r#","VpcConfig":{"SecurityGroupIds":["x"]}"#,
                "1 validation error detected: Value '[x]' at 'vpcConfig.securityGroupIds' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: sg-[0-9a-zA-Z]*]",
            ),
            (
                r#","Environment":{"Variables":{"1":"secret"}}"#,
                "1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]",
            ),
            (
                r#","FileSystemConfigs":[{"Arn":"x","LocalMountPath":"/mnt/a"}]"#,
                "at 'fileSystemConfigs.1.member.arn' failed to satisfy constraint",
            ),
        ];
        for (more, expected) in cases {
            let got = create(more);
            assert!(got.contains(expected), "{more}\n{got}\n{expected}");
        }
    }

    #[test]
    fn limits_on_both_sides() {
        for (more, valid) in [
            (r#","MemorySize":128"#, true),
            (r#","Timeout":1"#, true),
            (r#","Timeout":0"#, false),
            (r#","EphemeralStorage":{"Size":512}"#, true),
            (r#","EphemeralStorage":{"Size":511}"#, false),
        ] {
            assert_eq!(create(more).is_empty(), valid, "{more}");
        }
        for (length, valid) in [(256, true), (257, false)] {
            let more = format!(r#","Description":"{}""#, "ü".repeat(length));
            assert_eq!(create(&more).is_empty(), valid, "{length}");
        }
    }

    #[test]
    fn several_errors_and_missing_members() {
        let got = message("POST", "/2015-03-31/functions", "{}");
        assert!(got.starts_with("3 validation errors detected: Value null at 'functionName'"));
        assert!(got.contains("; Value null at 'role' failed to satisfy constraint: Member must"));
        let arn = "/2017-03-31/tags/arn:aws:lambda:us-east-1:000000000000:function:f";
        assert_eq!(
            message("DELETE", arn, ""),
            "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"
        );
        let long = format!("bad!{}", "a".repeat(300));
        let got = message("GET", &format!("/2015-03-31/functions/{long}"), "");
        assert!(got.starts_with("2 validation errors detected: "), "{got}");
        assert!(got.contains("less than or equal to 256; Value"), "{got}");
    }

    #[test]
    fn weights_are_shown_as_java_shows_doubles() {
        let alias = |weights: &str| {
            let body = format!(
                r#"{{"Name":"a","FunctionVersion":"1","RoutingConfig":{{"AdditionalVersionWeights":{weights}}}}}"#
            );
            message("POST", "/2015-03-31/functions/f/aliases", &body)
        };
        assert_eq!(
            alias(r#"{"2":2.0}"#),
            "1 validation error detected: Value '{2=2.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]"
        );
        assert!(alias(r#"{"$LATEST":0.5}"#).contains("Map keys must satisfy constraint: ["));
        assert_eq!(alias(r#"{"2":0.5}"#), "");
    }

    #[test]
    fn the_runtime_is_left_to_the_operation() {
        assert_eq!(create(r#","Runtime":"cobol""#), "");
        let layers = message("GET", "/2018-10-31/layers?CompatibleRuntime=cobol", "");
        assert!(layers.contains("'compatibleRuntime' failed to satisfy constraint: Member must"));
    }

    #[test]
    fn long_values_are_cut() {
        let got = create(&format!(r#","Description":"{}""#, "a".repeat(1_000_000)));
        assert!(got.len() < 10_000, "{}", got.len());
    }
}
