//! Test support: temporary servers, wait-for-condition, fixtures; never shipped
