//! The host side of the Runtime API: a sans-IO state machine and a thin HTTP shell
