use crate::pattern::Pattern;
use crate::router::Router;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

const TABLE: &str = include_str!("lambda.json");

type Text = Cow<'static, str>;

/// Where a member travels in a request or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// In the JSON body.
    Body,
    /// A label of the path.
    Uri,
    /// A query parameter.
    Query,
    /// A header.
    Header,
    /// The status code of an answer.
    Status,
}

/// A member of a structure.
#[derive(Debug)]
pub struct Member {
    /// As in the model, for example `FunctionName`.
    pub name: Text,
    /// Index of its shape; see [`Model::shape`].
    pub shape: usize,
    /// Where it travels.
    pub location: Location,
    /// Its name there.
    pub wire: Text,
    /// Whether a request without it is refused.
    pub required: bool,
}

/// What a shape is made of.
#[derive(Debug)]
pub enum ShapeKind {
    /// Named members, in the order of the model.
    Structure {
        /// The members.
        members: Vec<Member>,
        /// The member that is the whole body, if there is one.
        payload: Option<Text>,
    },
    /// A list of one shape.
    List(usize),
    /// Keys and values.
    Map(usize, usize),
    /// Text.
    String,
    /// Bytes; base64 inside JSON.
    Blob,
    /// True or false.
    Boolean,
    /// A 32-bit number.
    Integer,
    /// A 64-bit number.
    Long,
    /// A floating-point number.
    Double,
    /// Seconds since the epoch, or a date.
    Timestamp,
}

/// A type of the model with its constraints.
#[derive(Debug)]
pub struct Shape {
    /// As in the model.
    pub name: Text,
    /// What it is made of.
    pub kind: ShapeKind,
    /// Smallest value or length.
    pub min: Option<f64>,
    /// Largest value or length.
    pub max: Option<f64>,
    /// Pattern of the text.
    pub pattern: Option<Pattern>,
    /// The only texts allowed, if not empty.
    pub values: Vec<Text>,
    /// Never shown in messages.
    pub sensitive: bool,
}

/// An operation of the service.
#[derive(Debug)]
pub struct Operation {
    /// For example `CreateFunction`.
    pub name: Text,
    /// HTTP method.
    pub method: Text,
    /// URI template with labels and fixed query parts.
    pub uri: Text,
    /// Status of a successful answer.
    pub status: u16,
    /// Shape of the input.
    pub input: Option<usize>,
    /// Shape of the output.
    pub output: Option<usize>,
    /// Exceptions that the model lists for it.
    pub errors: Vec<Text>,
}

/// Status, key and fault of an exception.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct ExceptionRow {
    pub(crate) status: u16,
    pub(crate) message: Key,
    pub(crate) fault: Fault,
    pub(crate) typed: bool,
}

/// How the text of an exception is called on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Key {
    #[serde(rename = "message")]
    Lower,
    #[serde(rename = "Message")]
    Upper,
}

/// Whose mistake it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Fault {
    User,
    Service,
}

/// The whole table.
#[derive(Debug)]
pub struct Model {
    source: Text,
    operations: Vec<Operation>,
    shapes: Vec<Shape>,
    pub(crate) exceptions: HashMap<Text, ExceptionRow>,
    pub(crate) router: Router,
}

#[derive(Deserialize)]
struct RawTable {
    source: Text,
    operations: BTreeMap<Text, RawOperation>,
    shapes: BTreeMap<Text, RawShape>,
    exceptions: HashMap<Text, ExceptionRow>,
}

#[derive(Deserialize)]
struct RawOperation {
    method: Text,
    uri: Text,
    status: u16,
    input: Option<Text>,
    output: Option<Text>,
    errors: Vec<Text>,
}

#[derive(Deserialize)]
struct RawShape {
    #[serde(rename = "type")]
    kind: Text,
    #[serde(default)]
    members: Vec<Vec<Text>>,
    #[serde(default)]
    required: Vec<Text>,
    payload: Option<Text>,
    member: Option<Text>,
    key: Option<Text>,
    value: Option<Text>,
    min: Option<f64>,
    max: Option<f64>,
    pattern: Option<Text>,
    #[serde(rename = "enum", default)]
    values: Vec<Text>,
    #[serde(default)]
    sensitive: bool,
}

impl Model {
    /// The model; parsed at the first call, which takes a few milliseconds.
    ///
    /// # Panics
    /// Never with a generated table; a test parses it.
    #[must_use]
    pub fn get() -> &'static Self {
        static MODEL: OnceLock<Model> = OnceLock::new();
        MODEL.get_or_init(|| Self::parse(TABLE).expect("the generated table parses"))
    }

    fn parse(table: &'static str) -> Result<Self, serde_json::Error> {
        let raw: RawTable = serde_json::from_str(table)?;
        let index: HashMap<Text, usize> =
            raw.shapes.keys().enumerate().map(|(i, name)| (name.clone(), i)).collect();
        let find = |name: &Option<Text>| name.as_ref().and_then(|name| index.get(name).copied());
        let shapes = raw.shapes.into_iter().map(|(name, raw)| shape(name, raw, &index)).collect();
        let operations: Vec<Operation> = raw
            .operations
            .into_iter()
            .map(|(name, raw)| Operation {
                name,
                input: find(&raw.input),
                output: find(&raw.output),
                method: raw.method,
                uri: raw.uri,
                status: raw.status,
                errors: raw.errors,
            })
            .collect();
        let router = Router::new(&operations);
        let source = raw.source;
        Ok(Self { source, operations, shapes, exceptions: raw.exceptions, router })
    }

    /// Name and version of what the table was made from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// All operations, by name.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operation of that name.
    #[must_use]
    pub fn operation(&self, name: &str) -> Option<&Operation> {
        let found = self.operations.binary_search_by(|operation| operation.name.as_ref().cmp(name));
        found.ok().map(|i| &self.operations[i])
    }

    /// The shape at an index of this table.
    #[must_use]
    pub fn shape(&self, index: usize) -> &Shape {
        &self.shapes[index]
    }

    #[cfg(test)]
    pub(crate) fn shapes(&self) -> &[Shape] {
        &self.shapes
    }
}

fn shape(name: Text, raw: RawShape, index: &HashMap<Text, usize>) -> Shape {
    let find = |name: &Option<Text>| {
        name.as_ref().and_then(|name| index.get(name).copied()).unwrap_or_default()
    };
    let kind = match raw.kind.as_ref() {
        "structure" => {
            let members = raw
                .members
                .into_iter()
                .map(|row| {
                    let mut row = row.into_iter();
                    let name = row.next().unwrap_or_default();
                    let shape = find(&row.next());
                    let location = match row.next().as_deref() {
                        Some("uri") => Location::Uri,
                        Some("querystring") => Location::Query,
                        Some("header" | "headers") => Location::Header,
                        Some("statusCode") => Location::Status,
                        _ => Location::Body,
                    };
                    let wire = row.next().unwrap_or_else(|| name.clone());
                    let required = raw.required.contains(&name);
                    Member { name, shape, location, wire, required }
                })
                .collect();
            ShapeKind::Structure { members, payload: raw.payload }
        }
        "list" => ShapeKind::List(find(&raw.member)),
        "map" => ShapeKind::Map(find(&raw.key), find(&raw.value)),
        "blob" => ShapeKind::Blob,
        "boolean" => ShapeKind::Boolean,
        "integer" => ShapeKind::Integer,
        "long" => ShapeKind::Long,
        "double" | "float" => ShapeKind::Double,
        "timestamp" => ShapeKind::Timestamp,
        _ => ShapeKind::String,
    };
    Shape {
        name,
        kind,
        min: raw.min,
        max: raw.max,
        pattern: raw.pattern.map(Pattern::new),
        values: raw.values,
        sensitive: raw.sensitive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let model = Model::get();
        assert!(model.source().starts_with("botocore "));
        assert!(model.operations().len() >= 91);
        let invoke = model.operation("Invoke").expect("Invoke");
        assert_eq!(invoke.uri, "/2015-03-31/functions/{FunctionName}/invocations");
        let input = model.shape(invoke.input.expect("input"));
        assert_eq!(input.name, "InvocationRequest");
        let ShapeKind::Structure { members, payload } = &input.kind else { panic!("structure") };
        assert_eq!(payload.as_deref(), Some("Payload"));
        assert!(members.iter().any(|m| m.name == "Qualifier" && m.location == Location::Query));
        assert!(model.operation("NoSuchOperation").is_none());
    }
}
