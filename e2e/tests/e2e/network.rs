//! What a function reaches in each of the network modes.

use super::harness::{Api, lambfold};
use lambfold_testkit::{ServerOptions, TempServer};
use serde_json::json;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Runs a server and lets a function call the server's own API; whether it answered.
fn function_calls_the_api(args: &[&str], says: &str) -> bool {
    let options = ServerOptions::new(lambfold());
    let options = args.iter().fold(options, |options, arg| options.arg(*arg));
    let server = TempServer::start(&options).unwrap();
    assert!(server.log().contains(says), "{args:?}: {}", server.log());
    let api = Api::new(server.url());
    for (name, runtime) in [("al2023", "provided.al2023"), ("al2", "provided.al2")] {
        // It answers at all: its Runtime API is where it was told.
        api.create_puppet(name, json!({ "Runtime": runtime, "Timeout": 30 }));
        let echo = json!({ "do": "echo", "x": runtime });
        assert_eq!(api.invoke(name, &echo).json(), echo, "{args:?}");
    }
    let script = format!(
        "curl -s -o /dev/null --max-time 10 {}/health/live && echo reached || echo $?",
        server.url().trim_end_matches('/')
    );
    let reply = api.invoke("al2023", &json!({ "do": "run", "shell": script })).json();
    match reply["out"].as_str().unwrap().trim() {
        "reached" => true,
        // Of curl: the connection was refused.
        "7" => false,
        _ => panic!("{args:?}: {reply}"),
    }
}

#[test]
fn a_function_reaches_the_aws_api_only_in_the_hosts_network() {
    let none = "network none: functions reach nothing (as asked for)";
    assert!(!function_calls_the_api(&["--network", "none"], none));
    if is_root() {
        let nat = "network nat: functions reach the outside, and nothing of this machine";
        assert!(!function_calls_the_api(&["--network", "nat"], nat));
        // Without the flag: the same, where it can be had.
        let default = format!("{nat} (the default where it can be had)");
        assert!(!function_calls_the_api(&[], &default));
        let host = "network host: functions reach whatever this machine reaches";
        // The control run of the others.
        assert!(function_calls_the_api(&["--network", "host", "--insecure"], host));
    } else {
        let why = "nat cannot be had here, see above";
        assert!(!function_calls_the_api(&[], why));
    }
}

/// Answers every question for an IPv4 address with 192.0.2.7, and all others with nothing.
fn name_server(socket: &UdpSocket) {
    let mut packet = [0u8; 512];
    while let Ok((length, peer)) = socket.recv_from(&mut packet) {
        let question = &packet[12..length];
        let name_ends = question.iter().position(|b| *b == 0).unwrap();
        let wanted = question[name_ends + 1..name_ends + 3] == [0, 1];
        let mut answer = packet[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, u8::from(wanted), 0, 0, 0, 0]);
        answer.extend(&question[..name_ends + 5]);
        if wanted {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
        }
        socket.send_to(&answer, peer).unwrap();
    }
}

/// `lambfold` on a machine whose `/etc/resolv.conf` names this server: in a mount namespace of its own.
fn with_name_server(folder: &Path, server: Ipv4Addr) -> ServerOptions {
    let (resolv_conf, program) = (folder.join("resolv.conf"), folder.join("lambfold"));
    std::fs::write(&resolv_conf, format!("nameserver {server}\n")).unwrap();
    let script = format!(
        "#!/bin/sh\nexec unshare --mount -- sh -c 'mount --bind {} /etc/resolv.conf && \
         exec {} \"$@\"' lambfold \"$@\"\n",
        resolv_conf.display(),
        lambfold().display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    ServerOptions::new(program)
}

/// A machine that has nothing but a resolver of its own on loopback, as with dnsmasq or unbound.
#[test]
fn names_are_asked_of_this_machines_own_resolver_and_of_nothing_else() {
    let run = |server: &TempServer, script: &str| {
        let api = Api::new(server.url());
        api.create_puppet("f", json!({ "Timeout": 30 }));
        let reply = api.invoke("f", &json!({ "do": "run", "shell": script })).json();
        reply["out"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
    };
    let lookup = "getent ahostsv4 some.example || echo none";
    if !is_root() {
        // Nothing is reached at all, and nothing of this machine's either.
        let server = TempServer::start(&ServerOptions::new(lambfold())).unwrap();
        assert_eq!(run(&server, lookup), "none\n");
        return;
    }
    let [_, a, b, _] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, 128 | a, b, std::process::id() as u8);
    let socket = UdpSocket::bind((own, 53)).unwrap();
    std::thread::spawn(move || name_server(&socket));
    // Other services of this machine.
    let all = TcpListener::bind("0.0.0.0:0").unwrap();
    let beside = TcpListener::bind((own, 0)).unwrap();
    let ports = [&all, &beside].map(|listener| listener.local_addr().unwrap().port());
    let folder = tempfile::tempdir().unwrap();
    let options = with_name_server(folder.path(), own).arg("--network").arg("nat");
    let server = TempServer::start(&options).unwrap();
    let script = format!(
        "{lookup}; server=$(sed -n 's/^nameserver //p' /etc/resolv.conf); \
         for at in \"$server\" {own}; do for port in {} {} 53; do \
         timeout 1 bash -c \": < /dev/tcp/$at/$port\" 2> /dev/null && echo \"open $at $port\"; \
         done; done; echo \"asked $server\"",
        ports[0], ports[1]
    );
    let said = run(&server, &script);
    assert!(said.contains("192.0.2.7"), "{said}");
    // What takes queries over connections, and nothing else.
    let asked = said.lines().find_map(|line| line.strip_prefix("asked ")).unwrap();
    let open: Vec<&str> = said.lines().filter(|line| line.starts_with("open")).collect();
    assert_eq!(open, [format!("open {asked} 53")], "{said}");
    assert_ne!(asked, own.to_string());
    // Control: the services are there.
    for port in ports {
        std::net::TcpStream::connect((own, port)).unwrap();
    }
}
