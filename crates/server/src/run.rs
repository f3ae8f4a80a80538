use crate::Config;

/// Why a server could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

/// Runs a server until SIGINT or SIGTERM.
///
/// # Errors
/// When it cannot start.
pub fn run(_config: Config) -> Result<(), Error> {
    Ok(())
}
