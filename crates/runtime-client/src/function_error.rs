use crate::json::push_quoted;

/// The X-Ray error cause travels in a header; above this size, in bytes, it is left out, because
/// servers stop reading headers at about 1 MiB and the error itself must get through.
pub const MAX_CAUSE_BYTES: usize = 1 << 20;

/// A failed event or a failed init, as it is reported to the platform and to the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionError {
    error_type: String,
    message: String,
    stack: Vec<Frame>,
    cause: Option<String>,
    body: Option<String>,
}

/// One entry of a stack, innermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The source file.
    pub path: String,
    /// The line in it, from 1; 0 if unknown.
    pub line: u32,
    /// The function.
    pub label: String,
}

impl FunctionError {
    /// An error of a type (`Function.Refused`, `OutOfStock`, `Runtime.HandlerNotFound`) with a
    /// message.
    pub fn new(error_type: impl Into<String>, message: impl Into<String>) -> FunctionError {
        FunctionError {
            error_type: error_type.into(),
            message: message.into(),
            ..FunctionError::default()
        }
    }

    /// Adds the stack, innermost frame first. It is sent as `stackTrace`, and as X-Ray cause unless
    /// [`with_cause`](Self::with_cause) gives one.
    pub fn with_stack(mut self, stack: Vec<Frame>) -> FunctionError {
        self.stack = stack;
        self
    }

    /// Gives the X-Ray error cause as JSON text on one line:
    /// `{"working_directory","paths","exceptions":[{"type","message","stack":[{"path","line","label"}]}]}`.
    pub fn with_cause(mut self, json: impl Into<String>) -> FunctionError {
        self.cause = Some(json.into());
        self
    }

    /// Gives the error document that the caller receives, in place of the one that is made of type,
    /// message and stack.
    pub fn with_body(mut self, json: impl Into<String>) -> FunctionError {
        self.body = Some(json.into());
        self
    }

    /// The type as given.
    pub fn error_type(&self) -> &str {
        &self.error_type
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The stack, innermost frame first.
    pub fn stack(&self) -> &[Frame] {
        &self.stack
    }

    /// The error document: `{"errorMessage","errorType","stackTrace"}`.
    pub fn body(&self) -> String {
        if let Some(body) = &self.body {
            return body.clone();
        }
        let mut out = String::from("{\"errorMessage\":");
        push_quoted(&mut out, &self.message);
        out.push_str(",\"errorType\":");
        push_quoted(&mut out, &self.error_type);
        out.push_str(",\"stackTrace\":[");
        for (index, frame) in self.stack.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_quoted(&mut out, &format!("{} ({}:{})", frame.label, frame.path, frame.line));
        }
        out.push_str("]}");
        out
    }

    /// The value of `Lambda-Runtime-Function-Error-Type`. The platform keeps only types that begin
    /// with `Runtime.` or `Function.`, so that any other is filed as the function's.
    pub(crate) fn header_type(&self) -> String {
        let has_origin = ["Runtime.", "Function."].iter().any(|p| self.error_type.starts_with(p));
        let prefix = if has_origin { "" } else { "Function." };
        let kept = self.error_type.chars().filter(|c| c.is_ascii_graphic()).take(256);
        prefix.chars().chain(kept).collect()
    }

    /// The value of `Lambda-Runtime-Function-XRay-Error-Cause`; none without a stack or a cause,
    /// and none that could not stand in a header.
    pub(crate) fn header_cause(&self) -> Option<String> {
        let cause = match &self.cause {
            Some(cause) => cause.clone(),
            None if self.stack.is_empty() => return None,
            None => self.cause_from_stack(),
        };
        let fits =
            cause.len() < MAX_CAUSE_BYTES && cause.bytes().all(|b| (b' '..=b'~').contains(&b));
        fits.then_some(cause)
    }

    fn cause_from_stack(&self) -> String {
        let directory = std::env::current_dir().unwrap_or_default();
        let mut out = String::from("{\"working_directory\":");
        push_quoted(&mut out, &directory.to_string_lossy());
        out.push_str(",\"paths\":[");
        let mut paths: Vec<&str> = self.stack.iter().map(|frame| frame.path.as_str()).collect();
        paths.sort_unstable();
        paths.dedup();
        for (index, path) in paths.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_quoted(&mut out, path);
        }
        out.push_str("],\"exceptions\":[{\"type\":");
        push_quoted(&mut out, &self.error_type);
        out.push_str(",\"message\":");
        push_quoted(&mut out, &self.message);
        out.push_str(",\"stack\":[");
        for (index, frame) in self.stack.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str("{\"path\":");
            push_quoted(&mut out, &frame.path);
            out.push_str(&format!(",\"line\":{},\"label\":", frame.line));
            push_quoted(&mut out, &frame.label);
            out.push('}');
        }
        out.push_str("]}]}");
        out
    }
}

/// Any error becomes one of its own type, with the messages of its sources after its own; this is
/// what lets a handler use `?`.
impl<E: std::error::Error> From<E> for FunctionError {
    fn from(error: E) -> FunctionError {
        let path = std::any::type_name::<E>();
        let path = path.split('<').next().unwrap_or(path);
        let name = path.rsplit("::").next().unwrap_or(path);
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            source = inner.source();
        }
        FunctionError::new(name, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_is_json_with_every_character_escaped() {
        let error =
            FunctionError::new("My\"Type", "line 1\nline \u{1} 2").with_stack(vec![Frame {
                path: "/var/task/a b.sh".into(),
                line: 3,
                label: "handler".into(),
            }]);
        let body: serde_json::Value = serde_json::from_str(&error.body()).expect("JSON");
        assert_eq!(body["errorType"], "My\"Type");
        assert_eq!(body["errorMessage"], "line 1\nline \u{1} 2");
        assert_eq!(body["stackTrace"][0], "handler (/var/task/a b.sh:3)");
        let cause = error.header_cause().expect("a stack makes a cause");
        let cause: serde_json::Value = serde_json::from_str(&cause).expect("JSON");
        assert_eq!(cause["paths"][0], "/var/task/a b.sh");
        assert_eq!(cause["exceptions"][0]["stack"][0]["line"], 3);
    }

    #[test]
    fn header_type_keeps_an_origin_and_gives_one_to_the_others() {
        let header = |name: &str| FunctionError::new(name, "").header_type();
        assert_eq!(header("Runtime.HandlerNotFound"), "Runtime.HandlerNotFound");
        assert_eq!(header("Function.Refused"), "Function.Refused");
        assert_eq!(header("OutOfStock"), "Function.OutOfStock");
        assert_eq!(header("a\r\nb: c"), "Function.ab:c");
    }

    #[test]
    fn a_cause_that_cannot_stand_in_a_header_is_left_out() {
        let sized = |size: usize| {
            FunctionError::new("T", "m").with_cause("x".repeat(size)).header_cause().is_some()
        };
        assert!(sized(MAX_CAUSE_BYTES - 1));
        assert!(!sized(MAX_CAUSE_BYTES));
        assert_eq!(FunctionError::new("T", "m").with_cause("a\r\nb").header_cause(), None);
        assert_eq!(FunctionError::new("T", "m").header_cause(), None);
    }

    #[test]
    fn an_error_brings_its_type_and_its_sources() {
        let source = String::from_utf8(vec![0xff]).expect_err("not UTF-8");
        let error: FunctionError = std::io::Error::other(source).into();
        assert_eq!(error.error_type(), "Error");
        assert!(error.message().contains("utf-8"), "{}", error.message());
    }
}
