//! Invocations: synchronous, asynchronous with durable queue and retries
