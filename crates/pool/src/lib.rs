//! Placement and concurrency over a trait EnvironmentFactory: warm reuse, scale-up, keep-alive
