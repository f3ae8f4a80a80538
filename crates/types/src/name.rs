use crate::function::Version;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A name or ARN that is not one; says which and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {why}")]
pub struct NameError {
    /// Kind of name, for example `function name`.
    pub what: &'static str,
    /// As given, cut to 200 characters.
    pub text: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

fn error(what: &'static str, text: &str, why: &'static str) -> NameError {
    NameError { what, text: text.chars().take(200).collect(), why }
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $what:literal, $why:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and takes the text.
            ///
            /// # Errors
            /// When the text breaks the rule of this kind of name.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err(error($what, text, $why)) }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn word(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

text_newtype!(
    /// Twelve digits.
    AccountId, "account id", "it must be 12 digits",
    |t| t.len() == 12 && t.bytes().all(|b| b.is_ascii_digit())
);
text_newtype!(
    /// For example `us-east-1`, `us-gov-west-1`, `cn-north-1`.
    Region, "region", "it must look like us-east-1",
    |t| {
        let parts: Vec<&str> = t.split('-').collect();
        (3..=4).contains(&parts.len())
            && t.len() <= 32
            && parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
            && parts.last().is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()))
    }
);
text_newtype!(
    /// 1 to 64 letters, digits, `-` and `_`.
    FunctionName, "function name", "it must be 1 to 64 letters, digits, '-' or '_'",
    |t| word(t, 64)
);
text_newtype!(
    /// 1 to 140 letters, digits, `-` and `_`.
    LayerName, "layer name", "it must be 1 to 140 letters, digits, '-' or '_'",
    |t| word(t, 140)
);

/// The first part of an ARN after `arn:`; follows the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Partition {
    /// `aws`
    Aws,
    /// `aws-cn`
    China,
    /// `aws-us-gov`
    Gov,
}

impl Partition {
    /// As written in ARNs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::China => "aws-cn",
            Self::Gov => "aws-us-gov",
        }
    }
}

impl Region {
    /// The partition that the region belongs to.
    #[must_use]
    pub fn partition(&self) -> Partition {
        if self.0.starts_with("cn-") {
            Partition::China
        } else if self.0.starts_with("us-gov-") {
            Partition::Gov
        } else {
            Partition::Aws
        }
    }
}

/// Account and region: the beginning of every stored key, and of every ARN.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// The account.
    pub account: AccountId,
    /// The region.
    pub region: Region,
}

impl Scope {
    /// `arn:<partition>:lambda:<region>:<account>:`
    #[must_use]
    pub fn arn_prefix(&self) -> String {
        let partition = self.region.partition().as_str();
        format!("arn:{partition}:lambda:{}:{}:", self.region, self.account)
    }
}

/// What a caller puts behind a function's name: `$LATEST`, a version number or an alias.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Qualifier {
    /// `$LATEST` or a number.
    Version(Version),
    /// An alias; at least one character is not a digit.
    Alias(String),
}

impl Qualifier {
    /// Parses a qualifier.
    ///
    /// # Errors
    /// When it is empty, over 128 characters, or has characters outside `[a-zA-Z0-9$_-]`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text == "$LATEST" {
            return Ok(Self::Version(Version::Latest));
        }
        if !word(text, 128) {
            return Err(error(
                "qualifier",
                text,
                "it must be $LATEST, a version number or an alias of 1 to 128 letters, digits, '-' or '_'",
            ));
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse() {
                Ok(number) => Ok(Self::Version(Version::Published(number))),
                Err(_) => Err(error("qualifier", text, "the version number is too large")),
            };
        }
        Ok(Self::Alias(text.to_owned()))
    }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => version.fmt(f),
            Self::Alias(name) => f.write_str(name),
        }
    }
}

/// A function as callers write it: `name`, `name:qualifier`, `account:function:name[:qualifier]`
/// or a whole ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionRef {
    /// Present in partial and whole ARNs.
    pub account: Option<AccountId>,
    /// Present in whole ARNs.
    pub region: Option<Region>,
    /// The name.
    pub name: FunctionName,
    /// The suffix, if there is one.
    pub qualifier: Option<Qualifier>,
}

impl FunctionRef {
    /// Parses any of the forms.
    ///
    /// # Errors
    /// When the text is none of them.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "function";
        const WHY: &str = "it must be a name, account:function:name, or a function ARN";
        let mut account = None;
        let mut region = None;
        let mut parts: Vec<&str> = text.split(':').collect();
        if parts[0] == "arn" {
            if parts.len() < 7 || parts[2] != "lambda" || parts[5] != "function" {
                return Err(error(WHAT, text, WHY));
            }
            let parsed = Region::parse(parts[3])?;
            if parsed.partition().as_str() != parts[1] {
                return Err(error(WHAT, text, "its partition does not belong to its region"));
            }
            region = Some(parsed);
            account = Some(AccountId::parse(parts[4])?);
            parts.drain(..6);
        } else if parts.len() >= 3 && parts[1] == "function" {
            account = Some(AccountId::parse(parts[0])?);
            parts.drain(..2);
        } else if parts.len() >= 2 && parts[0] == "function" {
            parts.drain(..1);
        }
        if parts.len() > 2 {
            return Err(error(WHAT, text, WHY));
        }
        let name = FunctionName::parse(parts[0])?;
        let qualifier = parts.get(1).map(|q| Qualifier::parse(q)).transpose()?;
        Ok(Self { account, region, name, qualifier })
    }
}

/// A function's ARN, with or without a qualifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionArn {
    /// Account and region.
    pub scope: Scope,
    /// The name.
    pub name: FunctionName,
    /// The suffix.
    pub qualifier: Option<Qualifier>,
}

impl fmt::Display for FunctionArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}function:{}", self.scope.arn_prefix(), self.name)?;
        match &self.qualifier {
            Some(qualifier) => write!(f, ":{qualifier}"),
            None => Ok(()),
        }
    }
}

/// The ARN of a layer version. Any account and region is accepted, so that public layers can
/// be imported under their own ARN.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerVersionArn {
    /// Account and region.
    pub scope: Scope,
    /// The layer.
    pub name: LayerName,
    /// From 1.
    pub version: u64,
}

impl LayerVersionArn {
    /// Parses `arn:<partition>:lambda:<region>:<account>:layer:<name>:<version>`.
    ///
    /// # Errors
    /// When the text is not of that form.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "layer version ARN";
        const WHY: &str = "it must be arn:aws:lambda:<region>:<account>:layer:<name>:<version>";
        let parts: Vec<&str> = text.split(':').collect();
        let [arn, partition, service, region, account, kind, name, version] = parts[..] else {
            return Err(error(WHAT, text, WHY));
        };
        let region = Region::parse(region)?;
        if arn != "arn" || service != "lambda" || kind != "layer" {
            return Err(error(WHAT, text, WHY));
        }
        if region.partition().as_str() != partition {
            return Err(error(WHAT, text, "its partition does not belong to its region"));
        }
        let version = match version.parse::<u64>() {
            Ok(number) if number > 0 && !version.starts_with(['0', '+']) => number,
            _ => return Err(error(WHAT, text, "its version must be a number from 1")),
        };
        let scope = Scope { account: AccountId::parse(account)?, region };
        Ok(Self { scope, name: LayerName::parse(name)?, version })
    }

    /// The ARN of the layer, without the version.
    #[must_use]
    pub fn layer_arn(&self) -> String {
        format!("{}layer:{}", self.scope.arn_prefix(), self.name)
    }
}

impl fmt::Display for LayerVersionArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}layer:{}:{}", self.scope.arn_prefix(), self.name, self.version)
    }
}

impl TryFrom<String> for LayerVersionArn {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<LayerVersionArn> for String {
    fn from(arn: LayerVersionArn) -> Self {
        arn.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_of_a_function_reference() {
        let cases = [
            ("f", None, None, None),
            ("f:1", None, None, Some("1")),
            ("function:f:live", None, None, Some("live")),
            ("000000000000:function:f", Some("000000000000"), None, None),
            ("000000000000:function:f:$LATEST", Some("000000000000"), None, Some("$LATEST")),
            (
                "arn:aws:lambda:us-east-1:000000000000:function:f:live",
                Some("000000000000"),
                Some("us-east-1"),
                Some("live"),
            ),
        ];
        for (text, account, region, qualifier) in cases {
            let parsed = FunctionRef::parse(text).expect(text);
            assert_eq!(parsed.name.as_str(), "f", "{text}");
            assert_eq!(parsed.account.as_ref().map(AccountId::as_str), account, "{text}");
            assert_eq!(parsed.region.as_ref().map(Region::as_str), region, "{text}");
            assert_eq!(parsed.qualifier.map(|q| q.to_string()).as_deref(), qualifier, "{text}");
        }
    }

    #[test]
    fn wrong_references_are_refused() {
        for text in [
            "",
            ":",
            "f:",
            "f:1:2",
            "a b",
            "../x",
            "arn:aws:lambda:cn-north-1:000000000000:function:f",
            "arn:aws:s3:us-east-1:000000000000:function:f",
            "arn:aws:lambda:us-east-1:000000000000:layer:f",
            "0:function:f",
        ] {
            assert!(FunctionRef::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn name_length_on_both_sides_of_its_limit() {
        assert!(FunctionName::parse(&"a".repeat(64)).is_ok());
        assert!(FunctionName::parse(&"a".repeat(65)).is_err());
        assert!(LayerName::parse(&"a".repeat(140)).is_ok());
        assert!(LayerName::parse(&"a".repeat(141)).is_err());
    }

    #[test]
    fn partition_follows_the_region() {
        let arn = |region: &str| {
            let scope = Scope {
                account: AccountId::parse("111122223333").expect("account"),
                region: Region::parse(region).expect("region"),
            };
            FunctionArn { scope, name: FunctionName::parse("f").expect("name"), qualifier: None }
                .to_string()
        };
        assert_eq!(arn("cn-north-1"), "arn:aws-cn:lambda:cn-north-1:111122223333:function:f");
        assert_eq!(
            arn("us-gov-west-1"),
            "arn:aws-us-gov:lambda:us-gov-west-1:111122223333:function:f"
        );
        assert_eq!(arn("eu-central-1"), "arn:aws:lambda:eu-central-1:111122223333:function:f");
    }

    proptest! {
        #[test]
        fn parsers_never_panic(text in "\\PC{0,200}") {
            let _ = FunctionRef::parse(&text);
            let _ = LayerVersionArn::parse(&text);
            let _ = Qualifier::parse(&text);
        }

        #[test]
        fn layer_arns_round_trip(name in "[a-zA-Z0-9_-]{1,140}", version in 1u64..=u64::MAX) {
            let text = format!("arn:aws-cn:lambda:cn-north-1:000000000000:layer:{name}:{version}");
            prop_assert_eq!(LayerVersionArn::parse(&text).map(|arn| arn.to_string()), Ok(text));
        }
    }
}
