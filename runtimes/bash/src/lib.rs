//! The bash runtime.
