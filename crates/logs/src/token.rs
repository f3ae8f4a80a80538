//! Page tokens: opaque to callers, checked when they come back.

use crate::query::QueryError;
use crate::select::Position;

fn wrong(token: &str) -> QueryError {
    QueryError::Token { token: token.chars().take(200).collect() }
}

/// The token of a position; `kind` keeps tokens of different operations apart.
pub(crate) fn of(kind: &str, (ms, sequence): Position) -> String {
    format!("{kind}{ms:020}{sequence:020}")
}

pub(crate) fn position(kind: &str, token: &str) -> Result<Position, QueryError> {
    let number = |digits: &str| {
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        if plain { digits.parse::<u64>().ok() } else { None }
    };
    name(kind, token)?
        .split_at_checked(20)
        .filter(|(_, sequence)| sequence.len() == 20)
        .and_then(|(ms, sequence)| Some((number(ms)?, number(sequence)?)))
        .ok_or_else(|| wrong(token))
}

pub(crate) fn name<'a>(kind: &str, token: &'a str) -> Result<&'a str, QueryError> {
    token.strip_prefix(kind).ok_or_else(|| wrong(token))
}

pub(crate) fn timed_name(kind: &str, token: &str) -> Result<(u64, String), QueryError> {
    let (ms, name) = name(kind, token)?.split_once('/').ok_or_else(|| wrong(token))?;
    Ok((ms.parse().map_err(|_| wrong(token))?, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn positions_come_back(ms in any::<u64>(), sequence in any::<u64>()) {
            let token = of("f/", (ms, sequence));
            prop_assert_eq!(position("f/", &token).ok(), Some((ms, sequence)));
            prop_assert!(position("b/", &token).is_err());
        }

        #[test]
        fn foreign_tokens_never_panic(text in "\\PC{0,60}") {
            let _ = position("f/", &text);
            let _ = timed_name("t/", &text);
        }
    }
}
