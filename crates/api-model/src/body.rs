use crate::exception::ApiError;
use crate::table::{Model, Shape, ShapeKind};
use base64::Engine as _;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// Elements of one list or map; no input of the service needs more, and a small body with a
/// million empty elements would otherwise become a large tree.
const ELEMENTS: usize = 10_000;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// Blobs by the path of their member, for example `Code.ZipFile`.
pub(crate) type Blobs = BTreeMap<String, Vec<u8>>;

/// Reads a JSON body guided by its shape: types are checked as AWS does, unknown members are
/// skipped without being kept, and blobs are decoded straight from the body, so that a zip of
/// 50 MiB is in memory once as text and once as bytes.
pub(crate) fn read(shape: usize, body: &[u8], prefix: &str) -> Result<(Value, Blobs), ApiError> {
    let context = Context {
        wrong: RefCell::new(None),
        path: RefCell::new(prefix.to_owned()),
        blobs: RefCell::new(Blobs::new()),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let seed = Seed { shape: Model::get().shape(shape), context: &context };
    let result = seed.deserialize(&mut deserializer).and_then(|value| {
        deserializer.end()?;
        Ok(value)
    });
    match result {
        Ok(value) => Ok((value.unwrap_or_default(), context.blobs.into_inner())),
        Err(error) => Err(match context.wrong.into_inner() {
            Some(message) => ApiError::serialization(message),
            None => ApiError::new(
                "InvalidRequestContentException",
                format!("Could not parse request body into json: {error}"),
            ),
        }),
    }
}

struct Context {
    /// The text of the first value of a wrong type.
    wrong: RefCell<Option<String>>,
    /// Where the reader is, dotted.
    path: RefCell<String>,
    blobs: RefCell<Blobs>,
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    shape: &'static Shape,
    context: &'a Context,
}

impl Seed<'_> {
    fn wrong<E: Error>(&self, message: impl Into<String>) -> E {
        self.context.wrong.borrow_mut().get_or_insert_with(|| message.into());
        E::custom("wrong type")
    }

    fn cannot_convert<E: Error>(&self, found: &str) -> E {
        let wanted = match self.shape.kind {
            ShapeKind::String => "a String",
            ShapeKind::Boolean => "a Boolean",
            ShapeKind::Integer => "an Integer",
            ShapeKind::Long => "a Long",
            ShapeKind::Double => "a Double",
            ShapeKind::Timestamp => "a Timestamp",
            ShapeKind::Blob => "a Blob",
            ShapeKind::Structure { .. } | ShapeKind::List(_) | ShapeKind::Map(..) => {
                return self.wrong("Unexpected field type");
            }
        };
        self.wrong(format!("{found} can not be converted to {wanted}"))
    }

    fn text<E: Error>(&self, text: &str) -> Result<Option<Value>, E> {
        match self.shape.kind {
            ShapeKind::String | ShapeKind::Timestamp => Ok(Some(Value::from(text))),
            ShapeKind::Blob => match BASE64.decode(text) {
                Ok(bytes) => {
                    let path = self.context.path.borrow().clone();
                    self.context.blobs.borrow_mut().insert(path, bytes);
                    Ok(None)
                }
                Err(error) => Err(self.wrong(format!("Invalid base64 in a blob: {error}"))),
            },
            _ => Err(self.cannot_convert("STRING_VALUE")),
        }
    }

    fn number<E: Error>(&self, number: Number) -> Result<Option<Value>, E> {
        let whole = number.as_i64().or_else(|| {
            let float = number.as_f64()?;
            // Exact below 2^53, which no limit of the service exceeds.
            #[allow(clippy::cast_possible_truncation)]
            (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
        });
        match (&self.shape.kind, whole) {
            (ShapeKind::Integer, Some(whole)) if i32::try_from(whole).is_ok() => {
                Ok(Some(Value::from(whole)))
            }
            (ShapeKind::Long, Some(whole)) => Ok(Some(Value::from(whole))),
            (ShapeKind::Double | ShapeKind::Timestamp, _) => Ok(Some(Value::Number(number))),
            _ => Err(self.cannot_convert("NUMBER_VALUE")),
        }
    }

    /// Runs `inside` with the path one member deeper.
    fn deeper<T>(&self, name: &str, inside: impl FnOnce() -> T) -> T {
        let length = self.context.path.borrow().len();
        {
            let mut path = self.context.path.borrow_mut();
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
        }
        let result = inside();
        self.context.path.borrow_mut().truncate(length);
        result
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Option<Value>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    /// `None` is null, and a blob that was put aside.
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of shape {}", self.shape.name)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        match self.shape.kind {
            ShapeKind::Boolean => Ok(Some(Value::Bool(value))),
            _ => Err(self.cannot_convert(if value { "TRUE_VALUE" } else { "FALSE_VALUE" })),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        self.number(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        self.number(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        match Number::from_f64(value) {
            Some(number) => self.number(number),
            None => Err(self.cannot_convert("NUMBER_VALUE")),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        self.text(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let ShapeKind::List(element) = self.shape.kind else {
            return Err(self.wrong("Start of list found where not expected"));
        };
        let seed = Seed { shape: Model::get().shape(element), context: self.context };
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(seed)? {
            values.push(value.unwrap_or_default());
            if values.len() > ELEMENTS {
                return Err(self.wrong(format!("A list has more than {ELEMENTS} elements")));
            }
        }
        Ok(Some(Value::Array(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = Map::new();
        match &self.shape.kind {
            ShapeKind::Structure { members, .. } => {
                while let Some(key) = map.next_key::<String>()? {
                    let Some(member) = members.iter().find(|m| m.wire == key.as_str()) else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    let shape = Model::get().shape(member.shape);
                    let seed = Seed { shape, context: self.context };
                    let value = self.deeper(&member.name, || map.next_value_seed(seed))?;
                    if let Some(value) = value {
                        values.insert(member.name.to_string(), value);
                    }
                }
            }
            ShapeKind::Map(_, element) => {
                let seed = Seed { shape: Model::get().shape(*element), context: self.context };
                while let Some(key) = map.next_key::<String>()? {
                    values.insert(key, map.next_value_seed(seed)?.unwrap_or_default());
                    if values.len() > ELEMENTS {
                        return Err(self.wrong(format!("A map has more than {ELEMENTS} entries")));
                    }
                }
            }
            _ => return Err(self.wrong("Start of structure or map found where not expected.")),
        }
        Ok(Some(Value::Object(values)))
    }
}
