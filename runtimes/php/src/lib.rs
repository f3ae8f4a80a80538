//! The PHP runtime: a bootstrap that keeps one PHP alive, and speaks FastCGI to it.
//!
//! In: events of the Runtime API, and a PHP file of the user's. Out: for an HTTP event (API Gateway,
//! function URL, load balancer) the page that the file prints, in the format of the event's sender;
//! for any other what the callable that the file returns returns, as JSON. Needs php-cgi and php,
//! beside the bootstrap in `lambfold-php/` or in the system; no web server, no framework.
//!
//! ```text
//! Runtime API ⇄ Worker ─┬─ HTTP event ─ Page ─ FastCGI, one kept connection ─ php-cgi
//!                       └─ any other ─ Function ─ a socket ─ php (driver.php: loads the file once)
//! ```
//!
//! Both PHPs live on between events; one that ends (exit() in a callable, a fatal error, a crash,
//! the clock) has its event answered and is replaced before the next. `driver.php` is the other
//! half of `function`.

mod answer;
mod config;
mod conversation;
mod event;
mod fastcgi;
mod function;
mod handler;
mod home;
mod log;
mod page;
mod params;
mod process;
mod worker;

pub use worker::run;
