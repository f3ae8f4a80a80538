//! The adapter between the pool and the environments.
