use crate::body::{self, Blobs};
use crate::exception::ApiError;
use crate::router::Routed;
use crate::table::{Location, Model, Operation, Shape, ShapeKind};
use crate::uri::query_pairs;
use crate::validate;
use serde_json::{Map, Value};

/// What a request carries, as borrowed from whatever HTTP library there is.
pub struct Request<'a> {
    /// The operation and the labels of the path.
    pub routed: Routed,
    /// The query string, undecoded.
    pub query: &'a str,
    /// Looks a header up by its name, in any case.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
}

/// A checked input: members by their model names.
#[derive(Debug, Clone)]
pub struct Input {
    /// The operation.
    pub operation: &'static Operation,
    /// Members, without blobs.
    pub members: Map<String, Value>,
    /// Blobs of the JSON body, by the path of their member (`Code.ZipFile`). A blob that is the
    /// whole body stays with the caller.
    pub blobs: Blobs,
}

impl Input {
    /// A text member.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Value::as_str)
    }
}

impl Request<'_> {
    /// Collects the members of the input and checks them.
    ///
    /// # Errors
    /// `SerializationException` for values of a wrong type, `InvalidRequestContentException` for
    /// a body that is not JSON, `ValidationException` for broken constraints, in AWS's wording.
    pub fn input(self) -> Result<Input, ApiError> {
        let model = Model::get();
        let operation = self.routed.operation;
        let empty = Input { operation, members: Map::new(), blobs: Blobs::new() };
        let Some(input) = operation.input else { return Ok(empty) };
        let ShapeKind::Structure { members, payload } = &model.shape(input).kind else {
            return Ok(empty);
        };
        let (mut collected, blobs) = self.read_body(input, payload.as_deref())?;
        let query: Vec<(String, String)> = query_pairs(self.query).collect();
        for member in members {
            let shape = model.shape(member.shape);
            let value = match member.location {
                Location::Uri => {
                    let label = self.routed.labels.iter().find(|(name, _)| *name == member.wire);
                    label.map(|(_, text)| simple(shape, text)).transpose()?
                }
                Location::Query => {
                    let mut texts =
                        query.iter().filter(|(name, _)| *name == member.wire).map(|(_, v)| v);
                    match shape.kind {
                        ShapeKind::List(element) => {
                            let element = model.shape(element);
                            let list: Result<Vec<Value>, ApiError> =
                                texts.map(|text| simple(element, text)).collect();
                            Some(list?).filter(|list| !list.is_empty()).map(Value::Array)
                        }
                        _ => texts.next().map(|text| simple(shape, text)).transpose()?,
                    }
                }
                Location::Header => {
                    (self.header)(&member.wire).map(|text| simple(shape, text)).transpose()?
                }
                Location::Body | Location::Status => continue,
            };
            if let Some(value) = value {
                collected.insert(member.name.to_string(), value);
            }
        }
        let input = Input { operation, members: collected, blobs };
        validate::check(&input)?;
        Ok(input)
    }

    fn read_body(
        &self,
        input: usize,
        payload: Option<&str>,
    ) -> Result<(Map<String, Value>, Blobs), ApiError> {
        let model = Model::get();
        let ShapeKind::Structure { members, .. } = &model.shape(input).kind else {
            return Ok(Default::default());
        };
        if let Some(payload) = payload {
            let member = members.iter().find(|member| member.name == payload);
            let Some(member) = member.filter(|_| !self.body.is_empty()) else {
                return Ok(Default::default());
            };
            if matches!(model.shape(member.shape).kind, ShapeKind::Blob) {
                return Ok(Default::default());
            }
            let (value, blobs) = body::read(member.shape, self.body, payload)?;
            let mut collected = Map::new();
            if !value.is_null() {
                collected.insert(payload.to_owned(), value);
            }
            return Ok((collected, blobs));
        }
        let wants_body = members.iter().any(|member| member.location == Location::Body);
        if !wants_body || self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Default::default());
        }
        match body::read(input, self.body, "")? {
            (Value::Object(mut collected), blobs) => {
                // A label or header does not become settable by being in the body too.
                for member in members.iter().filter(|m| m.location != Location::Body) {
                    collected.remove(member.name.as_ref());
                }
                Ok((collected, blobs))
            }
            _ => Ok(Default::default()),
        }
    }
}

/// A value from a label, a query parameter or a header.
fn simple(shape: &Shape, text: &str) -> Result<Value, ApiError> {
    let wrong = |wanted: &str| {
        ApiError::serialization(format!("STRING_VALUE can not be converted to {wanted}"))
    };
    match shape.kind {
        ShapeKind::Integer => text.parse::<i32>().map(Value::from).map_err(|_| wrong("an Integer")),
        ShapeKind::Long => text.parse::<i64>().map(Value::from).map_err(|_| wrong("a Long")),
        ShapeKind::Double => text
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
            .map(Value::from)
            .ok_or_else(|| wrong("a Double")),
        ShapeKind::Boolean => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(wrong("a Boolean")),
        },
        _ => Ok(Value::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use proptest::prelude::*;

    fn input(method: &str, target: &str, body: &str) -> Result<Input, ApiError> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let routed = Model::get().route(method, path, query)?;
        Request { routed, query, header: &|_| None, body: body.as_bytes() }.input()
    }

    fn refused(method: &str, target: &str, body: &str) -> (String, String) {
        let error = input(method, target, body).expect_err(target);
        (error.code.into_owned(), error.message.unwrap_or_default())
    }

    const FUNCTIONS: &str = "/2015-03-31/functions";

    fn create(more: &str) -> String {
        format!(
            r#"{{"FunctionName":"f","Role":"arn:aws:iam::000000000000:role/r","Code":{{"ZipFile":"UEs="}},"Runtime":"provided.al2023","Handler":"h"{more}}}"#
        )
    }

    #[test]
    fn members_from_everywhere() {
        let made = input("POST", FUNCTIONS, &create(r#","Timeout":3,"Unknown":[{}],"Tags":null"#));
        let made = made.expect("valid");
        assert_eq!(made.text("FunctionName"), Some("f"));
        assert_eq!(made.members["Timeout"], 3);
        assert_eq!(made.blobs["Code.ZipFile"], b"PK");
        assert!(!made.members.contains_key("Tags"));
        assert!(!made.members.contains_key("Unknown"));

        let target = format!("{FUNCTIONS}/f/versions?MaxItems=5&Marker=a%20b");
        let listed = input("GET", &target, "").expect("valid");
        assert_eq!(listed.members["MaxItems"], 5);
        assert_eq!(listed.text("Marker"), Some("a b"));

        let arn = "arn:aws:lambda:us-east-1:000000000000:function:f";
        let target = format!("/2017-03-31/tags/{arn}?tagKeys=a&tagKeys=b");
        let untagged = input("DELETE", &target, "").expect("valid");
        assert_eq!(untagged.members["TagKeys"], serde_json::json!(["a", "b"]));
    }

    #[test]
    fn the_body_cannot_replace_a_label() {
        let target = format!("{FUNCTIONS}/f/configuration");
        let updated = input("PUT", &target, r#"{"FunctionName":"g"}"#).expect("valid");
        assert_eq!(updated.text("FunctionName"), Some("f"));
    }

    #[test]
    fn wrong_types() {
        let case = |more| refused("POST", FUNCTIONS, &create(more));
        let serialization = |text: &str| ("SerializationException".to_owned(), text.to_owned());
        let cases = [
            (r#","Timeout":"3""#, "STRING_VALUE can not be converted to an Integer"),
            (r#","Timeout":3.5"#, "NUMBER_VALUE can not be converted to an Integer"),
            (r#","Timeout":3000000000"#, "NUMBER_VALUE can not be converted to an Integer"),
            (r#","Description":1"#, "NUMBER_VALUE can not be converted to a String"),
            (r#","Description":true"#, "TRUE_VALUE can not be converted to a String"),
            (r#","Publish":"true""#, "STRING_VALUE can not be converted to a Boolean"),
            (r#","Layers":{}"#, "Start of structure or map found where not expected."),
            (r#","Environment":[]"#, "Start of list found where not expected"),
            (r#","Layers":"x""#, "Unexpected field type"),
        ];
        for (more, text) in cases {
            assert_eq!(case(more), serialization(text), "{more}");
        }
        assert_eq!(case(r#","Code":{"ZipFile":"*"}"#).0, "SerializationException");
        let target = format!("{FUNCTIONS}?MaxItems=x");
        assert_eq!(refused("GET", &target, "").0, "SerializationException");
        assert_eq!(refused("POST", FUNCTIONS, "{").0, "InvalidRequestContentException");
        assert_eq!(refused("POST", FUNCTIONS, "{} x").0, "InvalidRequestContentException");
    }

    #[test]
    fn element_count_on_both_sides_of_its_limit() {
        let layers = |n: usize| format!(r#","Layers":[{}]"#, vec![r#""""#; n].join(","));
        let code = |n| refused("POST", FUNCTIONS, &create(&layers(n))).0;
        assert_eq!(code(10_000), "ValidationException");
        assert_eq!(code(10_001), "SerializationException");
    }

    proptest! {
        #[test]
        fn no_body_panics(body in "\\PC{0,300}", query in "\\PC{0,60}") {
            for operation in Model::get().operations() {
                let (path, fixed) = operation.uri.split_once('?').unwrap_or((&operation.uri, ""));
                let target = format!("{path}?{fixed}&{query}");
                let _ = input(&operation.method, &target, &body);
            }
        }

        #[test]
        fn no_json_panics(value in json(), name in "[A-Za-z]{1,12}") {
            let body = format!(r#"{{"{name}":{value},"Layers":{value},"Code":{value},"Tags":{value}}}"#);
            let _ = input("POST", FUNCTIONS, &body);
            let body = format!(r#"{{"RoutingConfig":{value},"Content":{value},"{name}":1}}"#);
            let _ = input("PUT", "/2015-03-31/functions/f/aliases/a", &body);
        }

        #[test]
        fn blobs_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
            let body = format!(r#"{{"Content":{{"ZipFile":"{text}"}}}}"#);
            let made = input("POST", "/2018-10-31/layers/l/versions", &body).expect("valid");
            prop_assert_eq!(&made.blobs["Content.ZipFile"], &bytes);
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map("[A-Za-z]{1,10}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
