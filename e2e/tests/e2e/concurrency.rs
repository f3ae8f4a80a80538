//! Aliases, reserved and provisioned concurrency, and the limits of the machine.

use super::clients::python;
use super::gate::{Gate, NOW, time};
use super::harness::{Api, Reply, lambfold, server, wait_until};
use lambfold_testkit::{ServerOptions, TempServer};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

impl Api {
    fn publish(&self, name: &str, description: &str) {
        let path = format!("/2015-03-31/functions/{name}");
        let body = json!({ "Description": description });
        let reply = self.call("PUT", &format!("{path}/configuration"), &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let reply = self.call("POST", &format!("{path}/versions"), &json!({}));
        assert_eq!(reply.status, 201, "{}", reply.text());
    }

    fn reserve(&self, name: &str, count: u32) {
        let path = format!("/2017-10-31/functions/{name}/concurrency");
        let reply = self.call("PUT", &path, &json!({ "ReservedConcurrentExecutions": count }));
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    fn provision(&self, name: &str, qualifier: &str, count: u32) {
        let path = provisioned(name, qualifier);
        let reply = self.call("PUT", &path, &json!({ "ProvisionedConcurrentExecutions": count }));
        assert_eq!(reply.status, 202, "{}", reply.text());
        assert_eq!(reply.json()["Status"], "IN_PROGRESS");
    }

    fn provisioned(&self, name: &str, qualifier: &str) -> Value {
        let reply = self.send("GET", &provisioned(name, qualifier), &[], b"").unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    fn wait_for_status(&self, name: &str, qualifier: &str, status: &str) -> Value {
        wait_until(&format!("{name}:{qualifier} to be {status}"), || {
            self.provisioned(name, qualifier)["Status"] == status
        });
        self.provisioned(name, qualifier)
    }

    fn invoke_qualified(&self, name: &str, qualifier: &str, event: &Value) -> Reply {
        let path = format!("/2015-03-31/functions/{name}/invocations?Qualifier={qualifier}");
        let headers = [("content-type", "application/json")];
        self.send("POST", &path, &headers, event.to_string().as_bytes()).unwrap()
    }
}

fn provisioned(name: &str, qualifier: &str) -> String {
    format!("/2019-09-30/functions/{name}/provisioned-concurrency?Qualifier={qualifier}")
}

#[test]
fn an_alias_divides_invocations_by_its_weight() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({}));
    api.publish("f", "one");
    api.publish("f", "two");
    let alias = json!({
        "Name": "live", "FunctionVersion": "1",
        "RoutingConfig": { "AdditionalVersionWeights": { "2": 0.5 } },
    });
    assert_eq!(api.call("POST", "/2015-03-31/functions/f/aliases", &alias).status, 201);
    let mut counts = [0_u32; 2];
    for _ in 0..100 {
        let reply = api.invoke_qualified("f", "live", &json!({ "do": "headers" }));
        let version: usize = reply.header("x-amz-executed-version").unwrap().parse().unwrap();
        counts[version - 1] += 1;
        let arn = "arn:aws:lambda:us-east-1:000000000000:function:f:live";
        assert_eq!(reply.json()["lambda-runtime-invoked-function-arn"], arn);
    }
    // seven standard deviations
    assert!(counts.iter().all(|count| (15..=85).contains(count)), "{counts:?}");
    let env = api.invoke_qualified("f", "2", &json!({ "do": "env" })).json();
    assert_eq!(env["AWS_LAMBDA_FUNCTION_VERSION"], "2");
    let moved = json!({ "FunctionVersion": "2", "RoutingConfig": {} });
    assert_eq!(api.call("PUT", "/2015-03-31/functions/f/aliases/live", &moved).status, 200);
    for _ in 0..10 {
        let reply = api.invoke_qualified("f", "live", &json!({}));
        assert_eq!(reply.header("x-amz-executed-version"), Some("2"));
    }
}

#[test]
fn what_is_reserved_is_the_limit() {
    let gate = Gate::new();
    let server = gate.server(&[]);
    let api = Api::new(server.url());
    api.create_puppet("f", json!({ "Timeout": 60 }));
    api.create_puppet("g", json!({}));
    api.reserve("f", 2);
    let refused = std::thread::scope(|scope| {
        let held = [1, 2].map(|count| api.begin(scope, ("f", gate.held("true")), count));
        let refused = api.invoke("f", &json!({}));
        assert_eq!(api.invoke("g", &json!({})).status, 200);
        gate.open();
        assert!(held.map(|held| held.join().unwrap().status) == [200, 200]);
        refused
    });
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("x-amzn-errortype"), Some("TooManyRequestsException"));
    assert_eq!(
        refused.json(),
        json!({
            "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
            "Type": "User",
            "message": "Rate Exceeded.",
        })
    );
    api.reserve("f", 0);
    assert_eq!(api.invoke("f", &json!({})).status, 429);
    let event = [("x-amz-invocation-type", "Event")];
    assert_eq!(api.invoke_with("f", &json!({}), &event).status, 202);
    wait_until("the event to be given up", || {
        server.log().contains("its reserved concurrency is 0")
    });
    let path = "/2017-10-31/functions/f/concurrency";
    assert_eq!(api.send("DELETE", path, &[], b"").unwrap().status, 204);
    assert_eq!(api.invoke("f", &json!({})).status, 200);
}

#[test]
fn provisioned_environments_are_there_before_the_first_invocation() {
    let gate = Gate::new();
    let server = gate.server(&[]);
    let api = Api::new(server.url());
    api.create_puppet("f", json!({ "Timeout": 60 }));
    api.publish("f", "one");
    let alias = json!({ "Name": "live", "FunctionVersion": "1" });
    assert_eq!(api.call("POST", "/2015-03-31/functions/f/aliases", &alias).status, 201);
    api.provision("f", "live", 2);
    let ready = api.wait_for_status("f", "live", "READY");
    assert_eq!(ready["AllocatedProvisionedConcurrentExecutions"], 2, "{ready}");
    assert_eq!(api.metric("lambfold_environments_provisioned"), 2);
    assert_eq!(api.metric("lambfold_cold_starts_total"), 0);
    let kind = |reply: &Reply| reply.json()["AWS_LAMBDA_INITIALIZATION_TYPE"].clone();
    let env = json!({ "do": "env" });
    assert_eq!(kind(&api.invoke_qualified("f", "live", &env)), "provisioned-concurrency");
    assert_eq!(api.metric("lambfold_cold_starts_total"), 0);
    // A third at the same time, and another version, are on demand.
    let start = Barrier::new(3);
    let outs: Vec<String> = std::thread::scope(|scope| {
        let invoke = || {
            start.wait();
            let event = gate.held("printf $AWS_LAMBDA_INITIALIZATION_TYPE");
            let reply = api.invoke_qualified("f", "1", &event);
            reply.json()["out"].as_str().unwrap_or_default().to_owned()
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(invoke)).collect();
        wait_until("all to be there", || api.metric("lambfold_concurrent_executions") == 3);
        gate.open();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let on_demand = outs.iter().filter(|out| *out == "on-demand").count();
    assert_eq!(on_demand, 1, "{outs:?}");
    assert_eq!(kind(&api.invoke("f", &env)), "on-demand");

    // It moves with its alias.
    api.publish("f", "two");
    let moved = json!({ "FunctionVersion": "2" });
    assert_eq!(api.call("PUT", "/2015-03-31/functions/f/aliases/live", &moved).status, 200);
    api.wait_for_status("f", "live", "READY");
    let reply = api.invoke_qualified("f", "live", &env);
    assert_eq!(reply.header("x-amz-executed-version"), Some("2"));
    assert_eq!(kind(&reply), "provisioned-concurrency");
    assert_eq!(api.metric("lambfold_environments_provisioned"), 2);
    assert_eq!(api.send("DELETE", &provisioned("f", "live"), &[], b"").unwrap().status, 204);
    assert_eq!(api.metric("lambfold_environments_provisioned"), 0);
    assert_eq!(kind(&api.invoke_qualified("f", "live", &env)), "on-demand");
}

#[test]
fn an_init_that_fails_is_the_status_of_what_is_provisioned() {
    let server = server();
    let api = Api::new(server.url());
    let init = |how: &str| json!({ "Environment": { "Variables": { "PUPPET_INIT": how } } });
    api.create_puppet("f", init("exit"));
    api.publish("f", "one");
    api.provision("f", "1", 3);
    let failed = api.wait_for_status("f", "1", "FAILED");
    assert_eq!(failed["StatusReason"], "FUNCTION_ERROR_INIT_FAILURE", "{failed}");
    assert_eq!(failed["AllocatedProvisionedConcurrentExecutions"], 0);
    wait_until("the failed environments to be gone", || api.metric("lambfold_environments") == 0);
}

#[test]
fn what_is_provisioned_comes_back_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(lambfold()).data_dir(folder.path());
    let mut server = TempServer::start(&options).unwrap();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({}));
    api.publish("f", "one");
    api.provision("f", "1", 2);
    api.reserve("f", 2);
    api.wait_for_status("f", "1", "READY");
    server.kill();
    let server = TempServer::start(&options).unwrap();
    let api = Api::new(server.url());
    api.wait_for_status("f", "1", "READY");
    assert_eq!(api.metric("lambfold_environments_provisioned"), 2);
    assert_eq!(api.invoke_qualified("f", "1", &json!({})).status, 200);
    assert_eq!(api.invoke("f", &json!({})).status, 429, "all that is reserved is provisioned");
}

#[test]
fn where_there_is_no_room_the_first_to_come_is_the_first_to_run() {
    let gate = Gate::new();
    let server = gate.server(&["--max-environments", "1"]);
    let api = Api::new(server.url());
    for name in ["a", "b", "c", "short"] {
        let timeout = if name == "short" { 1 } else { 60 };
        api.create_puppet(name, json!({ "Timeout": timeout }));
    }
    let replies = std::thread::scope(|scope| {
        let first = api.begin(scope, ("a", gate.held(NOW)), 1);
        let begin = Instant::now();
        let refused = api.invoke("short", &json!({}));
        // As long as its timeout; the first one still runs.
        assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
        assert_eq!(refused.status, 429, "{}", refused.text());
        assert_eq!(refused.json()["Reason"], "ConcurrentInvocationLimitExceeded");
        assert_eq!(refused.header("retry-after"), Some("1"));
        let now = || json!({ "do": "run", "shell": NOW });
        let others =
            [("b", 2), ("a", 3), ("c", 4)].map(|(name, at)| api.begin(scope, (name, now()), at));
        gate.open();
        [first].into_iter().chain(others).map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    let times: Vec<_> = replies.iter().map(time).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(api.metric("lambfold_environments"), 1);
}

#[test]
fn memory_of_all_environments_has_its_limit() {
    let gate = Gate::new();
    let server = gate.server(&["--max-memory", "256MiB"]);
    let api = Api::new(server.url());
    for (name, size) in [("a", 128), ("b", 128), ("whole", 256), ("more", 257)] {
        api.create_puppet(name, json!({ "Timeout": 60, "MemorySize": size }));
    }
    let [a, b, whole] = std::thread::scope(|scope| {
        let a = api.begin(scope, ("a", gate.held(NOW)), 1);
        let b = api.begin(scope, ("b", gate.held(NOW)), 2);
        let whole = api.begin(scope, ("whole", json!({ "do": "run", "shell": NOW })), 3);
        assert_eq!(api.metric("lambfold_environments_memory_mib"), 256);
        gate.open();
        [a, b, whole].map(|one| time(&one.join().unwrap()))
    });
    assert!(whole > a && whole > b, "it had to wait for both: {a}, {b}, {whole}");
    assert_eq!(api.metric("lambfold_environments_memory_mib"), 256);
    let reply = api.invoke("more", &json!({}));
    assert_eq!(reply.status, 500, "{}", reply.text());
    wait_until("the reason to be in the log", || {
        server.log().contains("function more has a MemorySize of 257 MiB")
    });
}

/// What the files of that name say in groups that carry the data folder's id, or are below one.
fn cgroup_numbers(name: &str, id: &str) -> Vec<u64> {
    fn walk(folder: &Path, name: &str, id: &str, found: &mut Vec<u64>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&entry.path(), name, id, found);
            }
        }
        let ours = folder.to_string_lossy().contains(id);
        if ours && let Ok(text) = std::fs::read_to_string(folder.join(name)) {
            found.extend(text.trim().parse::<u64>());
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), name, id, &mut found);
    found
}

#[test]
fn processors_are_shared_out_by_memory_size() {
    let folder = tempfile::tempdir().unwrap();
    let server =
        TempServer::start(&ServerOptions::new(lambfold()).data_dir(folder.path())).unwrap();
    let api = Api::new(server.url());
    let id = std::fs::read_to_string(folder.path().join("id")).unwrap().trim().to_owned();
    // MiB, and the weight: 100 is one processor's worth, 1769 MiB
    let sizes = [("small", 128, 7), ("one", 1769, 100), ("large", 10_240, 578)];
    for (name, size, _) in sizes {
        api.create_puppet(name, json!({ "MemorySize": size }));
        assert_eq!(api.invoke(name, &json!({})).status, 200);
    }
    let (weights, shares) = (cgroup_numbers("cpu.weight", &id), cgroup_numbers("cpu.shares", &id));
    if weights.is_empty() && shares.is_empty() {
        // There is no such controller here, and the server has said so when it started.
        let log = server.log();
        assert!(log.contains("cpu"), "{log}");
        return;
    }
    for (name, _, weight) in sizes {
        // cgroup v1 counts 1024 where v2 counts 100; groups without one of ours around them weigh
        // eight times as much
        let found = weights.contains(&weight)
            || shares.contains(&(weight * 1024 / 100))
            || shares.contains(&(8 * weight * 1024 / 100));
        assert!(found, "{name}: {weight} is neither in {weights:?} nor in {shares:?}");
    }
}

#[test]
fn concurrency_with_boto3() {
    let gate = Gate::new();
    let server = gate.server(&[]);
    let trees = gate.trees();
    python("concurrency.py", &[server.url(), "us-east-1", trees.to_str().unwrap()]);
}
