//! Which function a request means.

use crate::control::Control;
use crate::error::ControlError;
use lambfold_types::{AccountId, FunctionName, FunctionVersion, Region, Scope, Version};
use std::sync::Arc;

/// What stands behind a function's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Suffix {
    Latest,
    Number(u64),
    /// An alias, or something that cannot exist.
    Other(String),
}

impl Suffix {
    fn parse(text: &str) -> Self {
        if text == "$LATEST" {
            return Self::Latest;
        }
        match text.parse() {
            Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => Self::Number(number),
            _ => Self::Other(text.to_owned()),
        }
    }
}

/// A function as a request names it. Its name may be one that no function can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    text: String,
    pub(crate) qualifier: Option<String>,
    prefix: String,
}

impl Target {
    /// Takes apart `name`, `function:name`, `account:function:name` and whole ARNs, each with
    /// or without a qualifier, and joins that with the qualifier given beside.
    pub(crate) fn parse(
        scope: &Scope,
        text: &str,
        qualifier: Option<&str>,
    ) -> Result<Self, ControlError> {
        let malformed = || ControlError::Validation {
            message: format!(
                "Value '{text}' at 'functionName' failed to satisfy constraint: Member must be a function name, a partial ARN or a function ARN"
            ),
        };
        let mut parts = text.split(':').peekable();
        let mut rest = text.split(':').count();
        let mut region = None;
        if rest >= 4 && text.starts_with("arn:") {
            parts.next();
            let partition = parts.next().unwrap_or_default();
            if !partition.starts_with("aws") || parts.next() != Some("lambda") {
                return Err(malformed());
            }
            rest -= 3;
        }
        if rest > 1
            && let Some(found) = parts.peek().and_then(|part| Region::parse(part).ok())
        {
            region = Some(found);
            parts.next();
            rest -= 1;
        }
        let mut account = None;
        if rest > 1
            && let Some(found) = parts.peek().and_then(|part| AccountId::parse(part).ok())
        {
            account = Some(found);
            parts.next();
            rest -= 1;
        }
        if rest > 1 && parts.peek() == Some(&"function") {
            parts.next();
        }
        let name = parts.next().unwrap_or_default().to_owned();
        let suffix = parts.next().map(str::to_owned);
        let valid = |t: &str| {
            !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if parts.next().is_some() || !valid(&name) || suffix.as_deref() == Some("") {
            return Err(malformed());
        }
        if let Some(region) = region
            && region != scope.region
        {
            return Err(ControlError::OtherRegion {
                named: region.to_string(),
                here: scope.region.to_string(),
            });
        }
        if let Some(account) = account
            && account != scope.account
        {
            return Err(ControlError::OtherAccount { account: account.to_string() });
        }
        let qualifier = match (suffix, qualifier) {
            (Some(suffix), Some(qualifier)) if suffix != qualifier => {
                return Err(ControlError::invalid(
                    "The derived qualifier from the function name does not match the specified qualifier.",
                ));
            }
            (suffix, qualifier) => suffix.or_else(|| qualifier.map(str::to_owned)),
        };
        Ok(Self { text: name, qualifier, prefix: scope.arn_prefix() })
    }

    /// A target that may not have a qualifier other than `$LATEST`.
    pub(crate) fn unqualified(scope: &Scope, text: &str) -> Result<Self, ControlError> {
        let target = Self::parse(scope, text, None)?;
        match target.suffix() {
            None | Some(Suffix::Latest) => Ok(target),
            Some(_) => Err(ControlError::invalid(
                "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN.",
            )),
        }
    }

    /// The name as given.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The name, if a function can have it.
    pub(crate) fn name(&self) -> Option<FunctionName> {
        FunctionName::parse(&self.text).ok()
    }

    pub(crate) fn suffix(&self) -> Option<Suffix> {
        self.qualifier.as_deref().map(Suffix::parse)
    }

    /// The ARN of the function, with what stands behind it.
    pub(crate) fn arn(&self) -> String {
        match &self.qualifier {
            Some(qualifier) => format!("{}:{qualifier}", self.function_arn()),
            None => self.function_arn(),
        }
    }

    /// The ARN of the function alone.
    pub(crate) fn function_arn(&self) -> String {
        format!("{}function:{}", self.prefix, self.text)
    }

    /// No such function or version.
    pub(crate) fn not_found(&self) -> ControlError {
        ControlError::FunctionNotFound { arn: self.arn() }
    }

    /// No such function, where AWS names `$LATEST`.
    pub(crate) fn latest_not_found(&self) -> ControlError {
        ControlError::FunctionNotFound { arn: format!("{}:$LATEST", self.function_arn()) }
    }

    /// No such function.
    pub(crate) fn function_not_found(&self) -> ControlError {
        ControlError::FunctionNotFound { arn: self.function_arn() }
    }
}

/// What an invocation runs.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The version.
    pub version: Arc<FunctionVersion>,
    /// As invoked: with a qualifier exactly if there was one.
    pub invoked_arn: String,
}

impl Control {
    /// Finds what a caller's words mean: name, partial or whole ARN, and a qualifier beside.
    /// For an alias of two versions, each call picks one by their weights. Touches no disk and
    /// takes no lock.
    ///
    /// # Errors
    /// When there is no such function or version, or the words contradict each other or this
    /// server's account and region.
    pub fn resolve_text(
        &self,
        scope: &Scope,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<Resolved, ControlError> {
        let target = Target::parse(scope, function, qualifier)?;
        let not_found = || match target.qualifier {
            Some(_) => target.not_found(),
            None => ControlError::FunctionNotFound { arn: format!("{}:$LATEST", target.arn()) },
        };
        let name = target.name().ok_or_else(not_found)?;
        let found = match target.suffix() {
            None | Some(Suffix::Latest) => self.find(scope, &name, Version::Latest),
            Some(Suffix::Number(number)) => self.find(scope, &name, Version::Published(number)),
            Some(Suffix::Other(alias)) => self.find_alias(scope, &name, &alias),
        };
        let found = found.ok_or_else(not_found)?;
        Ok(Resolved { version: found, invoked_arn: target.arn() })
    }

    /// [`Control::resolve_text`] for who is about to run it.
    ///
    /// # Errors
    /// As there, and [`ControlError::LayersNotRun`].
    pub fn resolve_to_run(
        &self,
        scope: &Scope,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<Resolved, ControlError> {
        let resolved = self.resolve_text(scope, function, qualifier)?;
        if self.0.options.without_layers && !resolved.version.layers.is_empty() {
            return Err(ControlError::LayersNotRun { name: resolved.version.name.to_string() });
        }
        Ok(resolved)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn scope() -> Scope {
        Scope {
            account: AccountId::parse("111122223333").unwrap(),
            region: Region::parse("eu-west-1").unwrap(),
        }
    }

    fn parse(text: &str, qualifier: Option<&str>) -> Result<Target, ControlError> {
        Target::parse(&scope(), text, qualifier)
    }

    #[test]
    fn every_form_names_the_same_function() {
        for text in [
            "f",
            "function:f",
            "111122223333:f",
            "111122223333:function:f",
            "eu-west-1:111122223333:function:f",
            "arn:aws:lambda:eu-west-1:111122223333:function:f",
        ] {
            let target = parse(text, None).unwrap();
            assert_eq!(target.arn(), "arn:aws:lambda:eu-west-1:111122223333:function:f", "{text}");
            let target = parse(&format!("{text}:live"), None).unwrap();
            assert_eq!(target.qualifier.as_deref(), Some("live"), "{text}");
            let target = parse(&format!("{text}:7"), Some("7")).unwrap();
            assert_eq!(target.suffix(), Some(Suffix::Number(7)), "{text}");
        }
    }

    #[test]
    fn arn_that_stops_early_names_a_function_called_function() {
        let target = parse("arn:aws:lambda:eu-west-1:111122223333:function", None).unwrap();
        assert_eq!(target.text(), "function");
    }

    #[test]
    fn contradicting_qualifiers_are_refused() {
        let error = parse("f:1", Some("2")).unwrap_err();
        assert!(error.to_string().starts_with("The derived qualifier"), "{error}");
    }

    #[test]
    fn other_regions_and_accounts_are_named() {
        let error = parse("arn:aws:lambda:eu-west-2:111122223333:function:f", None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Functions from 'eu-west-2' are not reachable in this region ('eu-west-1')"
        );
        let error = parse("999999999999:function:f", None).unwrap_err();
        assert_eq!(error.message(), None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,120}", qualifier in proptest::option::of("\\PC{0,20}")) {
            let _ = parse(&text, qualifier.as_deref());
        }
    }
}
