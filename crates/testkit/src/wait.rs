use std::time::{Duration, Instant};

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// The condition did not come true in time.
#[derive(Debug, PartialEq, Eq)]
pub struct WaitError {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub timeout: Duration,
}

impl std::fmt::Display for WaitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "waited {} s in vain for {}", self.timeout.as_secs_f32(), self.what)
    }
}

impl std::error::Error for WaitError {}

/// Looks until `condition` has a value, and returns it. The last look is after the timeout, so
/// that a slow machine gets one look at least.
///
/// # Errors
/// When there is no value within `timeout`; the error names `what`.
pub fn wait_for<T>(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T, WaitError> {
    let start = Instant::now();
    loop {
        let over = start.elapsed() >= timeout;
        if let Some(value) = condition() {
            return Ok(value);
        }
        if over {
            return Err(WaitError { what: what.to_owned(), timeout });
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_looked_at_until_it_has_a_value() {
        let mut looks = 0;
        let value = wait_for("three looks", Duration::from_secs(60), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(value, Ok(3));
    }

    #[test]
    fn the_error_names_what_was_waited_for() {
        let error = wait_for::<()>("rain", Duration::ZERO, || None).expect_err("no rain");
        assert_eq!(error.to_string(), "waited 0 s in vain for rain");
    }
}
