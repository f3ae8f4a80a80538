use std::fmt;

/// How a command ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0
    Done,
    /// 1: the request, or a local step in its place, failed.
    Failed,
    /// 2: wrong usage.
    Usage,
    /// 3: the function was run and returned an error.
    FunctionError,
    /// 255: a bug in Lambfold.
    Bug,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::FunctionError => 3,
            Self::Bug => 255,
        }
    }
}

/// What a person reads when a command did not work: what failed, the chain of causes, and what
/// to do next. Each text is one fact, so no cause is said twice.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    exit: Exit,
    message: Option<String>,
    causes: Vec<String>,
    hints: Vec<String>,
}

impl Failure {
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: Some(message.to_string()), causes: Vec::new(), hints: Vec::new() }
    }

    /// An error whose sources become the causes.
    pub(crate) fn from_error(error: &dyn std::error::Error) -> Self {
        let mut failure = Self::failed(error);
        if let Some(source) = error.source() {
            failure = failure.cause(source);
        }
        failure
    }

    /// Adds an error and the chain of its sources.
    pub(crate) fn cause(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds a cause that is a sentence.
    pub(crate) fn because(mut self, reason: &str) -> Self {
        self.causes.push(reason.to_owned());
        self
    }

    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Writing to standard output failed. A reader that went away (`| head`) has what it wants.
    pub(crate) fn stdout(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self { exit: Exit::Done, message: None, causes: Vec::new(), hints: Vec::new() }
        } else {
            Self::failed("could not write to standard output").cause(error)
        }
    }

    /// The lines to print, each with its label; none when there is nothing to say.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let error = self.message.iter().map(|text| ("error", text.as_str()));
        let causes = self.causes.iter().map(|text| ("caused by", text.as_str()));
        let hints = self.hints.iter().map(|text| ("hint", text.as_str()));
        error.chain(causes).chain(hints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_closed_pipe_is_success_and_says_nothing() {
        let failure = Failure::stdout(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit(), failure.lines().count()), (Exit::Done, 0));
        let failure = Failure::stdout(&io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!((failure.exit(), failure.lines().count()), (Exit::Failed, 2));
    }

    #[test]
    fn lines_come_as_error_causes_hints() {
        let failure = Failure::failed("outer").hint("do this").cause(&io::Error::other("inner"));
        let lines: Vec<_> = failure.lines().collect();
        assert_eq!(lines, [("error", "outer"), ("caused by", "inner"), ("hint", "do this")]);
    }
}
