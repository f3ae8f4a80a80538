use super::shared;
use crate::args::{Env, Format};
use crate::client::ANY_KEY;
use crate::failure::{Exit, Failure};
use crate::output;

pub(crate) fn run(args: &Env) -> Result<Exit, Failure> {
    let (endpoint, region) = shared::server(&args.connection)?;
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.to_string()),
        ("AWS_REGION", region.to_string()),
        ("AWS_DEFAULT_REGION", region.to_string()),
        ("AWS_ACCESS_KEY_ID", ANY_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", ANY_KEY.to_owned()),
    ];
    match args.printing.format {
        Format::Text => {
            let lines: String = variables
                .iter()
                .map(|(name, value)| format!("export {name}={}\n", quote(value)))
                .collect();
            output::data(lines.as_bytes())?;
        }
        Format::Json => {
            let map = variables.map(|(name, value)| (name.to_owned(), value.into()));
            output::json(&serde_json::Value::Object(map.into_iter().collect()))?;
        }
    }
    Ok(Exit::Done)
}

/// Safe to be read by a shell: these lines are evaluated.
fn quote(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn values_cannot_leave_their_quotes() {
        assert_eq!(quote("http://127.0.0.1:9000"), "http://127.0.0.1:9000");
        assert_eq!(quote("http://[::1]:9000"), "'http://[::1]:9000'");
        assert_eq!(quote("$(id)"), "'$(id)'");
        assert_eq!(quote("a'b"), r"'a'\''b'");
        assert_eq!(quote(""), "''");
    }
}
