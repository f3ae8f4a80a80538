//! Folder names for log groups: safe, one to one, readable where they are short.

use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Longest readable folder name; file systems allow 255 bytes.
const READABLE_BYTES: usize = 180;

/// Begins the names of folders that are being removed; no group has such a folder.
pub(crate) const TRASH: &str = "~";

/// The folder of a group. Letters, digits, `-`, `_` and inner dots stand for themselves, other
/// bytes as `%XX`; a long name is cut and ends in its SHA-256.
pub(crate) fn folder(group: &str) -> String {
    let mut name = String::with_capacity(group.len() + 16);
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'.' if at > 0 => name.push('.'),
            b'-' | b'_' => name.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            _ => {
                let _ = write!(name, "%{byte:02X}");
            }
        }
    }
    if name.is_empty() {
        return "%".to_owned();
    }
    if name.len() > READABLE_BYTES {
        name.truncate(100);
        name.push('~');
        for byte in Sha256::digest(group.as_bytes()) {
            let _ = write!(name, "{byte:02x}");
        }
    }
    name
}

/// The group of a folder; `None` when the name is cut, or not one of ours.
pub(crate) fn group(folder: &str) -> Option<String> {
    if folder == "%" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(folder.len());
    let mut rest = folder.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte == b'%' {
            let (hex, tail) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*byte);
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (self::folder(&name) == folder).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_and_long_names_stay_in_their_folder() {
        assert_eq!(folder("/aws/lambda/f"), "%2Faws%2Flambda%2Ff");
        assert_eq!(folder(".."), "%2E.");
        assert_eq!(folder("."), "%2E");
        assert_eq!(folder(&"a".repeat(180)).len(), 180);
        assert_eq!(folder(&"a".repeat(181)).len(), 165);
        assert_ne!(folder(&"a".repeat(181)), folder(&"a".repeat(182)));
    }

    proptest! {
        #[test]
        fn names_are_safe_and_come_back(name in "\\PC{0,300}") {
            let folder = folder(&name);
            prop_assert!(!folder.is_empty() && folder.len() <= 255);
            prop_assert!(!folder.contains(['/', '\0']) && !folder.starts_with(['.', '~']));
            if !folder.contains('~') {
                prop_assert_eq!(group(&folder), Some(name));
            }
        }

        #[test]
        fn foreign_folders_never_panic(folder in "[%~.a-f0-9A-Z]{0,20}") {
            let _ = group(&folder);
        }
    }
}
