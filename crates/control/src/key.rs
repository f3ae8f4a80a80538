//! Keys of stored documents. Every one begins with account and region.

use lambfold_types::{FunctionName, LayerName, Scope};

/// `<account>/<region>/<kind>/…`
fn begin(scope: &Scope, kind: &str) -> String {
    format!("{}/{}/{kind}/", scope.account, scope.region)
}

/// A function: what `$LATEST` is, its tags.
pub(crate) fn function(scope: &Scope, name: &FunctionName) -> String {
    format!("{}{name}", begin(scope, "function"))
}

/// A published version.
pub(crate) fn version(scope: &Scope, name: &FunctionName, number: u64) -> String {
    format!("{}{name}/{number:020}", begin(scope, "function-version"))
}

/// An alias of a function.
pub(crate) fn alias(scope: &Scope, name: &FunctionName, alias: &str) -> String {
    format!("{}{name}/{alias}", begin(scope, "function-alias"))
}

/// Provisioned concurrency of a function's version or alias.
pub(crate) fn provisioned(scope: &Scope, name: &FunctionName, qualifier: &str) -> String {
    format!("{}{name}/{qualifier}", begin(scope, "function-provisioned"))
}

/// The last version number of a function that is gone: numbers are never used again.
pub(crate) fn gone(scope: &Scope, name: &FunctionName) -> String {
    format!("{}{name}", begin(scope, "function-gone"))
}

/// A layer: its last version number.
pub(crate) fn layer(scope: &Scope, name: &LayerName) -> String {
    format!("{}{name}", begin(scope, "layer"))
}

/// A layer version.
pub(crate) fn layer_version(scope: &Scope, name: &LayerName, number: u64) -> String {
    format!("{}{name}/{number:020}", begin(scope, "layer-version"))
}

/// A key, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Function(Scope, FunctionName),
    Version(Scope, FunctionName, u64),
    Alias(Scope, FunctionName, String),
    Provisioned(Scope, FunctionName, String),
    Gone,
    Layer(Scope, LayerName),
    LayerVersion(Scope, LayerName, u64),
}

/// `None`: a key of another part of the program.
pub(crate) fn parse(key: &str) -> Option<Key> {
    let mut parts = key.split('/');
    let scope = Scope {
        account: lambfold_types::AccountId::parse(parts.next()?).ok()?,
        region: lambfold_types::Region::parse(parts.next()?).ok()?,
    };
    let kind = parts.next()?;
    let name = parts.next()?;
    let number = parts.next();
    if parts.next().is_some() {
        return None;
    }
    match (kind, number) {
        ("function", None) => Some(Key::Function(scope, FunctionName::parse(name).ok()?)),
        ("function-version", Some(number)) => {
            Some(Key::Version(scope, FunctionName::parse(name).ok()?, number.parse().ok()?))
        }
        ("function-alias", Some(alias)) => {
            Some(Key::Alias(scope, FunctionName::parse(name).ok()?, alias.to_owned()))
        }
        ("function-provisioned", Some(qualifier)) => {
            Some(Key::Provisioned(scope, FunctionName::parse(name).ok()?, qualifier.to_owned()))
        }
        ("function-gone", None) => Some(Key::Gone),
        ("layer", None) => Some(Key::Layer(scope, LayerName::parse(name).ok()?)),
        ("layer-version", Some(number)) => {
            Some(Key::LayerVersion(scope, LayerName::parse(name).ok()?, number.parse().ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use lambfold_types::{AccountId, Region};

    #[test]
    fn keys_begin_with_account_and_region_and_parse_back() {
        let scope = Scope {
            account: AccountId::parse("000000000000").unwrap(),
            region: Region::parse("cn-north-1").unwrap(),
        };
        let name = FunctionName::parse("f-1_x").unwrap();
        let layer_name = LayerName::parse("l").unwrap();
        let keys = [
            (function(&scope, &name), Key::Function(scope.clone(), name.clone())),
            (version(&scope, &name, 7), Key::Version(scope.clone(), name.clone(), 7)),
            (alias(&scope, &name, "a_1"), Key::Alias(scope.clone(), name.clone(), "a_1".into())),
            (
                provisioned(&scope, &name, "7"),
                Key::Provisioned(scope.clone(), name.clone(), "7".into()),
            ),
            (gone(&scope, &name), Key::Gone),
            (layer(&scope, &layer_name), Key::Layer(scope.clone(), layer_name.clone())),
            (
                layer_version(&scope, &layer_name, u64::MAX),
                Key::LayerVersion(scope.clone(), layer_name.clone(), u64::MAX),
            ),
        ];
        for (text, key) in keys {
            assert!(text.starts_with("000000000000/cn-north-1/"), "{text}");
            assert_eq!(parse(&text), Some(key), "{text}");
        }
    }

    #[test]
    fn versions_sort_by_number() {
        let scope = Scope {
            account: AccountId::parse("000000000000").unwrap(),
            region: Region::parse("us-east-1").unwrap(),
        };
        let name = FunctionName::parse("f").unwrap();
        assert!(version(&scope, &name, 9) < version(&scope, &name, 10));
    }
}
