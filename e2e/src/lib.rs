//! End-to-end tests: the built `lambfold` binary, real clients, real sandboxes.
//!
//! The programs in `src/bin` are bootstraps that the tests put into functions; the tests are in
//! `tests/e2e`. Forbidden here: calling the server's crates; everything goes through its public
//! API, its command line or the operating system.
