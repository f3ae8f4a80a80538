//! The AWS API over HTTP: routing by the service model, the one error-to-status table, the browser guard
