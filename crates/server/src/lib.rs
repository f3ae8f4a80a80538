//! Configuration, wiring, listeners, drain, signals
