use crate::error::{Rejection, shown};

/// Longest path of an entry, bytes: with `/var/task/` before it, it stays below the kernel's
/// PATH_MAX of 4096.
pub(crate) const PATH_BYTES: usize = 4_000;
/// Longest component, bytes (NAME_MAX).
const COMPONENT_BYTES: usize = 255;
/// Deepest nesting: the removal of a tree holds a descriptor per level.
pub(crate) const DEPTH: usize = 128;

/// Turns the name of an entry into a path relative to the tree: components joined by `/`, no
/// `.`, no `..`, nothing empty; the empty path is the root itself. The flag says that the name
/// can only mean a folder: it ended in `/` or `/.`.
///
/// # Errors
/// For any name that could mean another place to some reader.
pub(crate) fn normalise(name: &[u8]) -> Result<(Vec<u8>, bool), Rejection> {
    let refuse = |why| Err(Rejection::Name { entry: shown(name), why });
    if name.is_empty() {
        return refuse("is empty");
    }
    if name.contains(&0) {
        return refuse("has a NUL byte");
    }
    if name.contains(&b'\\') {
        return refuse("has a backslash, where a zip needs '/'");
    }
    if name[0] == b'/' {
        return refuse("is absolute");
    }
    if name.len() >= 2 && name[1] == b':' && name[0].is_ascii_alphabetic() {
        return refuse("begins with a drive letter");
    }
    let body = name.strip_suffix(b"/").unwrap_or(name);
    let directory = body.len() < name.len() || body == b"." || body.ends_with(b"/.");
    let mut path = Vec::with_capacity(body.len());
    let mut depth = 0;
    for component in body.split(|byte| *byte == b'/') {
        match component {
            b"" => return refuse("has an empty component"),
            b".." => return refuse("climbs out with \"..\""),
            b"." => continue,
            _ if component.len() > COMPONENT_BYTES => {
                return refuse("has a component of more than 255 bytes");
            }
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
        depth += 1;
    }
    if path.len() > PATH_BYTES {
        return refuse("is longer than 4000 bytes");
    }
    if depth > DEPTH {
        return refuse("is nested deeper than 128 folders");
    }
    Ok((path, directory))
}

/// The path of the folder that holds `path`; the root is empty.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash])
}

/// The last component.
pub(crate) fn last(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |slash| &path[slash + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn harmless_names_are_normalised() {
        let cases: [(&[u8], &[u8], bool); 8] = [
            (b"a/.", b"a", true),
            (b"a", b"a", false),
            (b"a/b", b"a/b", false),
            (b"a/", b"a", true),
            (b"./a", b"a", false),
            (b"./", b"", true),
            (b"a/./b", b"a/b", false),
            (b"..a/...", b"..a/...", false),
        ];
        for (name, path, directory) in cases {
            assert_eq!(normalise(name), Ok((path.to_vec(), directory)), "{}", shown(name));
        }
    }

    #[test]
    fn names_that_could_mean_another_place_are_refused() {
        let cases: [&[u8]; 14] = [
            b"", b"/", b"/a", b"//a", b"a//b", b"..", b"../a", b"a/..", b"a/../b", b"a\0b",
            b"a\\b", b"..\\a", b"C:/a", b"a//",
        ];
        for name in cases {
            assert!(normalise(name).is_err(), "{}", shown(name));
        }
    }

    #[test]
    fn length_and_depth_on_both_sides_of_their_limits() {
        assert!(normalise(&[b'a'; 255]).is_ok());
        assert!(normalise(&[b'a'; 256]).is_err());
        assert!(normalise(["a"; 128].join("/").as_bytes()).is_ok());
        assert!(normalise(["a"; 129].join("/").as_bytes()).is_err());
        let long = |bytes: usize| {
            let mut name = ["a".repeat(199).as_str(); 20].join("/");
            name.truncate(bytes);
            name.push_str(&"b".repeat(bytes - name.len()));
            name
        };
        assert!(normalise(long(4000).as_bytes()).is_ok());
        assert!(normalise(long(4001).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_accepted_stays_inside(name in proptest::collection::vec(
            prop_oneof![Just(b'.'), Just(b'/'), Just(b'\\'), Just(0u8), any::<u8>()], 0..40)) {
            if let Ok((path, _)) = normalise(&name) {
                prop_assert!(!path.starts_with(b"/"));
                for component in path.split(|b| *b == b'/') {
                    prop_assert!(component != b"..".as_slice() && component != b".".as_slice());
                    prop_assert!(path.is_empty() || !component.is_empty());
                }
            }
        }
    }
}
