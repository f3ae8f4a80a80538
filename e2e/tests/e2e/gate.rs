//! Functions that run until the test lets them end: what happens meanwhile is then no matter of
//! how fast the machine is.

use super::harness::{Api, Reply, lambfold, wait_until};
use lambfold_testkit::{ServerOptions, TempServer};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::thread::{Scope, ScopedJoinHandle};

/// Holds functions that [`Api::create_puppet`] made on a server of this gate's.
pub(crate) struct Gate {
    data: tempfile::TempDir,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { data: tempfile::tempdir().unwrap() }
    }

    /// A server whose functions it holds, with more arguments.
    pub(crate) fn server(&self, args: &[&str]) -> TempServer {
        let options = ServerOptions::new(lambfold()).data_dir(self.data.path());
        let options = args.iter().fold(options, |options, arg| options.arg(*arg));
        TempServer::start(&options).unwrap()
    }

    /// An event that a puppet works on until the gate is open; then it runs this in a shell.
    pub(crate) fn held(&self, shell: &str) -> Value {
        let shell = format!("until [ -e /var/task/open ]; do sleep 0.1; done; {shell}");
        json!({ "do": "run", "shell": shell })
    }

    /// Where the server keeps the code of functions.
    pub(crate) fn trees(&self) -> PathBuf {
        self.data.path().join("trees")
    }

    /// Lets all go that are held now, and holds nobody later. The file beside their code is the
    /// one thing that a test can change in a sandbox that hears of nothing else.
    pub(crate) fn open(&self) {
        for tree in std::fs::read_dir(self.trees()).unwrap() {
            let tree = tree.unwrap().path();
            if tree.join("bootstrap").exists() {
                std::fs::write(tree.join("open"), "").unwrap();
            }
        }
    }
}

/// Nanoseconds of the clock, in what a puppet's shell says.
pub(crate) const NOW: &str = "date +%s%N";

/// What a puppet's shell said at [`NOW`].
pub(crate) fn time(reply: &Reply) -> u128 {
    let out = reply.json()["out"].as_str().unwrap_or_default().trim().to_owned();
    out.parse().unwrap_or_else(|_| panic!("{}", reply.text()))
}

impl Api {
    /// A number of the server's metrics.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let page = self.send("GET", "/metrics", &[], b"").unwrap().text();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
    }

    /// Invokes beside the test, and returns when so many invocations are under way.
    pub(crate) fn begin<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        (name, event): (&'scope str, Value),
        under_way: u64,
    ) -> ScopedJoinHandle<'scope, Reply> {
        let thread = scope.spawn(move || self.invoke(name, &event));
        wait_until(&format!("{under_way} invocations under way"), || {
            assert!(!thread.is_finished(), "an invocation of {name} has ended");
            self.metric("lambfold_concurrent_executions") == under_way
        });
        thread
    }
}
