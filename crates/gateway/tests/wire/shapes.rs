//! Whether an answer fits the service model's output shape.

use lambfold_api_model::{Location, Model, ShapeKind};
use serde_json::Value;

/// Panics when the body has a member that the model does not know, or one of a wrong type.
pub(crate) fn fits(operation: &str, body: &Value) {
    let operation = Model::get().operation(operation).expect(operation);
    walk(operation.output.expect("an output"), body, &operation.name);
}

fn walk(shape: usize, value: &Value, path: &str) {
    let model = Model::get();
    let fits = match (&model.shape(shape).kind, value) {
        (ShapeKind::Structure { members, .. }, Value::Object(values)) => {
            for (name, value) in values {
                let member = members.iter().find(|m| m.wire == *name);
                let member = member.unwrap_or_else(|| panic!("{path}.{name} is not in the model"));
                assert_eq!(member.location, Location::Body, "{path}.{name}");
                walk(member.shape, value, &format!("{path}.{name}"));
            }
            true
        }
        (ShapeKind::List(element), Value::Array(values)) => {
            values.iter().for_each(|value| walk(*element, value, path));
            true
        }
        (ShapeKind::Map(_, element), Value::Object(values)) => {
            values.values().for_each(|value| walk(*element, value, path));
            true
        }
        // AWS itself answers "Creating" here, which its model does not list.
        (ShapeKind::String, Value::String(_)) if path.ends_with(".LastUpdateStatusReasonCode") => {
            true
        }
        (ShapeKind::String | ShapeKind::Blob, Value::String(text)) => {
            let values = &model.shape(shape).values;
            values.is_empty() || values.iter().any(|allowed| allowed == text)
        }
        (ShapeKind::Integer | ShapeKind::Long, Value::Number(number)) => number.is_i64(),
        (ShapeKind::Boolean, Value::Bool(_)) => true,
        (ShapeKind::Double, Value::Number(_)) => true,
        // REST-JSON writes timestamps as text where the model says so; Lambda's are strings.
        (ShapeKind::Timestamp, Value::Number(_) | Value::String(_)) => true,
        _ => false,
    };
    assert!(fits, "{path}: {value} does not fit {}", model.shape(shape).name);
}
