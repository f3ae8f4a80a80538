//! Text for bash to read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The bash side of the runtime.
pub(crate) const DRIVER: &[u8] = include_bytes!("driver.sh");

/// Appends `name='value'` and a line end. Values are environment values and paths: no NULs.
pub(crate) fn push_assignment(out: &mut Vec<u8>, name: &str, value: impl AsRef<OsStr>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    for byte in value.as_ref().as_bytes() {
        match byte {
            b'\'' => out.extend_from_slice(b"'\\''"),
            byte => out.push(*byte),
        }
    }
    out.extend_from_slice(b"'\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn any_value_reaches_bash_unchanged() {
        let value = "it's \"q\" $HOME `id` \\ \n é ''";
        let mut text = Vec::new();
        push_assignment(&mut text, "value", value);
        text.extend_from_slice(b"printf %s \"$value\"");
        let text = String::from_utf8(text).expect("UTF-8");
        let output = Command::new("bash").args(["-c", &text]).output().expect("bash runs");
        assert_eq!(output.stdout, value.as_bytes());
    }
}
