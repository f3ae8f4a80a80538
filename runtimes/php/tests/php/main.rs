//! The bootstrap as the platform runs it, with a real PHP and a scripted Runtime API.
#![allow(clippy::unwrap_used)]

mod against_nginx;
mod ends;
mod formats;
mod function;
mod harness;
mod page;
mod settings;
mod stream;
mod workers;
