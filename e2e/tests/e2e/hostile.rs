//! Functions that attack what serves them, from inside of their sandboxes, while a neighbour is
//! invoked.

use super::harness::{Api, lambfold, server};
use lambfold_testkit::{ServerOptions, TempServer};
use serde_json::{Value, json};

/// Runs Python inside of an invocation of the attacker; the other connection of the runtime stays
/// as it is. What it printed.
fn attack(api: &Api, script: &str) -> String {
    let reply = api.invoke("attacker", &shell(script));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply = reply.json();
    assert_eq!(reply["status"], 0, "{reply}");
    reply["out"].as_str().unwrap().to_owned()
}

fn shell(script: &str) -> Value {
    let head = "import os, socket\n\
                host, port = os.environ['AWS_LAMBDA_RUNTIME_API'].split(':')\n\
                connect = lambda: socket.create_connection((host, int(port)), 10)\n";
    json!({ "do": "run", "shell": format!("/usr/bin/python3 - <<'END'\n{head}{script}\nEND") })
}

fn functions() -> (TempServer, Api) {
    let server = server();
    let api = Api::new(server.url());
    let memory = json!({ "Timeout": 60, "MemorySize": 512 });
    api.create_puppet("attacker", memory);
    api.create_puppet("neighbour", json!({}));
    (server, api)
}

/// Resident memory of a process, KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn all_is_well(api: &Api) {
    for name in ["attacker", "neighbour"] {
        let reply = api.invoke(name, &json!({ "do": "echo", "x": 1 }));
        assert_eq!((reply.status, reply.json()["x"].clone()), (200, Value::from(1)), "{name}");
    }
}

#[test]
fn huge_headers_are_refused() {
    let (server, api) = functions();
    let huge = "for size in (500_000, 64 << 20):\n\
                \x20   s = connect()\n\
                \x20   answer = b''\n\
                \x20   try:\n\
                \x20       s.sendall(b'GET /nothing HTTP/1.1\\r\\nHost: h\\r\\nX: ' + b'x' * size + b'\\r\\n\\r\\n')\n\
                \x20   except OSError: pass\n\
                \x20   try: answer = s.recv(100)\n\
                \x20   except OSError: pass\n\
                \x20   print(answer.split(b' ')[1].decode() if answer else 'closed')";
    let before = resident_kib(server.pid());
    let out = attack(&api, huge);
    // half a megabyte is a head like any other; sixty-four are not
    let answers: Vec<&str> = out.lines().collect();
    assert_eq!(answers[0], "404", "{out}");
    assert!(["431", "closed"].contains(&answers[1]), "{out}");
    let grown = resident_kib(server.pid()).saturating_sub(before);
    assert!(grown < 40 << 10, "the server grew by {grown} KiB");
    all_is_well(&api);
}

#[test]
fn a_thousand_slow_connections_hold_nobody_up() {
    let (server, api) = functions();
    api.invoke("neighbour", &json!({}));
    let slow = "import resource\n\
                resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))\n\
                open_ones = []\n\
                try:\n\
                \x20   for n in range(900):\n\
                \x20       s = socket.socket(); s.setblocking(False)\n\
                \x20       try: s.connect((host, int(port)))\n\
                \x20       except BlockingIOError: pass\n\
                \x20       open_ones.append(s)\n\
                except OSError: pass\n\
                for s in open_ones:\n\
                \x20   try: s.send(b'GET / HTTP/1.1\\r\\nX: ')\n\
                \x20   except OSError: pass\n\
                print(len(open_ones))";
    let before = resident_kib(server.pid());
    let count: u32 = attack(&api, slow).trim().parse().unwrap();
    assert!(count > 256, "{count} connections are no attack");
    // A child holds the connections on. The attacker may hurt itself, and nobody else.
    let body: String = slow
        .lines()
        .filter(|line| !line.contains("print"))
        .map(|line| format!("\x20   {line}\n"))
        .collect();
    let hold = format!(
        "if os.fork() == 0:\n\x20   os.setsid()\n\x20   for f in (0, 1, 2): os.close(f)\n\
         {body}\x20   import time; time.sleep(50)\n"
    );
    std::thread::scope(|scope| {
        let attacker = scope.spawn(|| api.invoke("attacker", &shell(&hold)));
        let mut count = 0;
        while !attacker.is_finished() || count < 20 {
            let start = std::time::Instant::now();
            assert_eq!(api.invoke("neighbour", &json!({})).status, 200);
            let took = start.elapsed();
            assert!(took.as_secs() < 5, "the neighbour waited {took:?}");
            count += 1;
        }
    });
    all_is_well(&api);
    let grown = resident_kib(server.pid()).saturating_sub(before);
    assert!(grown < 40 << 10, "the server grew by {grown} KiB");
}

#[test]
fn a_flood_of_output_stays_within_its_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(lambfold()).data_dir(folder.path());
    let server = TempServer::start(&options).unwrap();
    let api = Api::new(server.url());
    api.create_puppet("attacker", json!({ "Timeout": 60 }));
    api.create_puppet("neighbour", json!({}));
    let before = resident_kib(server.pid());
    // two million lines, then one line of six megabytes
    let line = "x".repeat(6_000_000);
    let floods =
        [json!({ "do": "log", "lines": 2_000_000 }), json!({ "do": "print", "text": line })];
    for flood in floods {
        let reply = std::thread::scope(|scope| {
            let attacker = scope.spawn(|| api.invoke("attacker", &flood));
            while !attacker.is_finished() {
                assert_eq!(api.invoke("neighbour", &json!({})).status, 200);
            }
            attacker.join().unwrap()
        });
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let grown = resident_kib(server.pid()).saturating_sub(before);
    assert!(grown < 100 << 10, "the server grew by {grown} KiB");
    let kept: u64 = walk(&folder.path().join("logs"));
    assert!(kept < 300 << 20, "{kept} bytes of log are kept");
    assert_eq!(api.invoke("attacker", &json!({})).status, 200);
}

/// Bytes of all files.
fn walk(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => walk(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
