//! Sandboxes with a way to the outside. Root plays all of it in network namespaces of its own: a
//! host, in which the test itself runs, and an outside beyond it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use lambfold_sandbox::{Network, Sandboxes, StartError, Step, StepOutcome, is_root, probe};

use crate::Test;
use crate::world::{Inside, World, config, perl, wait_for, wrapped};

pub const TESTS: &[Test] = &[
    ("nat::the_outside_is_reached", || staged("the_outside_is_reached")),
    ("nat::metadata_is_out_of_reach", || staged("metadata_is_out_of_reach")),
    ("nat::this_machine_is_out_of_reach", || staged("this_machine_is_out_of_reach")),
    ("nat::neighbours_are_out_of_reach", || staged("neighbours_are_out_of_reach")),
    ("nat::nobody_calls_a_sandbox", || staged("nobody_calls_a_sandbox")),
    ("nat::rules_outlive_an_administrators_flush", || staged("rules_outlive_a_flush")),
    ("nat::two_servers_do_not_disturb_each_other", || staged("two_servers")),
    ("nat::what_was_changed_is_put_back", || staged("what_was_changed_is_put_back")),
    ("nat::a_killed_host_leaves_nothing", || staged("a_killed_host_leaves_nothing")),
    ("nat::a_killed_spawner_is_replaced", || staged("a_killed_spawner_is_replaced")),
    ("nat::addresses_are_given_back", || staged("addresses_are_given_back")),
    ("nat::a_probe_does_every_step", || staged("a_probe_does_every_step")),
    ("nat::without_rules_there_is_none", || staged("without_rules_there_is_none")),
];

/// Those that run on a stage, in a process of their own.
const STAGED: &[Test] = &[
    ("the_outside_is_reached", the_outside_is_reached),
    ("metadata_is_out_of_reach", metadata_is_out_of_reach),
    ("this_machine_is_out_of_reach", this_machine_is_out_of_reach),
    ("neighbours_are_out_of_reach", neighbours_are_out_of_reach),
    ("nobody_calls_a_sandbox", nobody_calls_a_sandbox),
    ("rules_outlive_a_flush", rules_outlive_a_flush),
    ("two_servers", two_servers),
    ("what_was_changed_is_put_back", what_was_changed_is_put_back),
    ("a_killed_host_leaves_nothing", a_killed_host_leaves_nothing),
    ("a_killed_spawner_is_replaced", a_killed_spawner_is_replaced),
    ("addresses_are_given_back", addresses_are_given_back),
    ("a_probe_does_every_step", a_probe_does_every_step),
    ("without_rules_there_is_none", without_rules_there_is_none),
    ("hostile_guests", crate::network::hostile_guests),
    ("listeners_in_the_hosts_network", crate::network::listeners_in_the_hosts_network),
];

pub const OUTSIDE: &str = "198.51.100.1";
pub const HOST: &str = "198.51.100.2";
const METADATA: [&str; 4] = ["169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192"];

/// Runs a test in a network namespace of its own, which it takes for the host's, and in a mount
/// namespace of its own. An ordinary user can have nothing of it, which is what is tested then.
pub fn staged(name: &str) {
    if !is_root() {
        return an_ordinary_user_has_none();
    }
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--net", "--mount", "--"]).arg(program).args(["on-stage", name]);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{name}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Played by a child of the test.
pub fn on_stage() {
    let name = std::env::args().nth(2).unwrap();
    let (_, test) =
        STAGED.iter().chain(crate::names::STAGED).find(|(known, _)| *known == name).unwrap();
    // A new network begins with what holds on the host, where servers may run that need it.
    sh("for switch in /proc/sys/net/ipv4/conf/*/forwarding; do echo 0 > $switch; done");
    test();
}

fn an_ordinary_user_has_none() {
    let (mut config, _dir) = config();
    config.network = Network::Nat;
    match Sandboxes::start(config) {
        Err(StartError::Step(error)) => assert_eq!(error.step, Step::NetworkLink),
        other => panic!("{other:?}"),
    }
    let world = world(Network::NatIfPossible);
    let capabilities = world.sandboxes.capabilities();
    assert_eq!(capabilities.network, Network::None);
    let note = capabilities.notes.iter().find(|note| note.step == Step::NetworkLink).unwrap();
    assert!(note.what.starts_with("sandboxes reach no network"), "{note}");
    world.sandbox().bash("true").ok();
}

pub fn world(network: Network) -> World {
    let (mut config, dir) = config();
    config.network = network;
    World::with(config, dir)
}

pub fn sh(script: &str) -> String {
    let output = Command::new("/bin/bash").args(["-ec", script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The outside: a process in a network namespace of its own that answers every connection with the
/// address of the one who called, as the clouds' metadata services too.
pub struct Outside(pub Child);

impl Outside {
    pub fn start() -> Outside {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new("/usr/bin/unshare")
            .args(["--net", "--"])
            .arg(program)
            .arg("outside")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let mut said = BufReader::new(child.stdout.as_mut().unwrap());
        let mut line = String::new();
        // It is in its namespace when it speaks.
        said.read_line(&mut line).unwrap();
        let addresses: String =
            METADATA.iter().map(|ip| format!("ip address add {ip}/32 dev in; ")).collect();
        sh(&format!(
            "ip link set lo up; ip link add out type veth peer name in netns {pid}; \
             ip address add {HOST}/24 dev out; ip link set out up; \
             nsenter --net --target {pid} bash -ec 'ip link set lo up; \
             ip address add {OUTSIDE}/24 dev in; {addresses} ip link set in up'; \
             ip route add default via {OUTSIDE}"
        ));
        Outside(child)
    }

    /// Connects from the outside to an address: what is read, or nothing.
    fn call(&self, address: &str, port: u16) -> String {
        let pid = self.0.id().to_string();
        let args = ["--net", "--target", &pid, "/usr/bin/perl", "-e", &call(address, port)];
        let output = Command::new("/usr/bin/nsenter").args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The outside's process: port 80 of all its addresses, and a name server that knows one name.
pub fn outside() {
    println!("there");
    crate::names::name_server("0.0.0.0");
    // Nothing is read from the caller, so that it may be anybody.
    let listener = TcpListener::bind(("0.0.0.0", 80)).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let peer = stream.peer_addr().unwrap();
        let _ = writeln!(stream, "you are {}", peer.ip());
    }
}

/// Connects and prints what it reads, or `no: ` with the error.
pub fn call(address: &str, port: u16) -> String {
    format!(
        "use Socket; $SIG{{ALRM}} = sub {{ print qq(no: time\\n); exit }}; alarm 3; \
         socket(my $s, PF_INET, SOCK_STREAM, 0); \
         my $ip = inet_aton('{address}') or do {{ print qq(no: name\\n); exit }}; \
         if (connect($s, pack_sockaddr_in({port}, $ip))) {{ print 'yes: ', scalar(<$s>) }} \
         else {{ print 'no: ', 0 + $!, qq(\\n) }}"
    )
}

pub fn called(inside: &Inside, address: &str, port: u16) -> String {
    inside.run(perl(&call(address, port))).ok()
}

/// The same from this process: the control run.
pub fn called_by_host(address: &str, port: u16) -> String {
    crate::world::outside(&perl(&call(address, port))).ok()
}

pub const REFUSED: &str = "no: 111\n"; // ECONNREFUSED
pub const REACHED: &str = "yes: you are 198.51.100.2\n";

fn the_outside_is_reached() {
    let _outside = Outside::start();
    let world = world(Network::Nat);
    assert_eq!(world.sandboxes.capabilities().network, Network::Nat);
    // Several at once, of which most are not made ahead.
    let many: Vec<Inside> = (0..8).map(|_| world.sandbox()).collect();
    for inside in &many {
        assert_eq!(called(inside, OUTSIDE, 80), REACHED);
    }
    // Control: without a network.
    let none = self::world(Network::None);
    assert_eq!(called(&none.sandbox(), OUTSIDE, 80), "no: 101\n"); // ENETUNREACH
}

fn metadata_is_out_of_reach() {
    let _outside = Outside::start();
    let world = world(Network::Nat);
    let inside = world.sandbox();
    for address in METADATA {
        assert_eq!(called(&inside, address, 80), REFUSED, "{address}");
        assert_eq!(called_by_host(address, 80), REACHED, "{address}: the control run");
    }
    // Over IPv6 there is no way anywhere.
    let v6 = "use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6); socket(my $s, AF_INET6, SOCK_STREAM, 0); \
              connect($s, pack_sockaddr_in6(80, inet_pton(AF_INET6, 'fd00:ec2::254'))) \
              and print 'yes'; print 0 + $!, qq(\\n)";
    let answer = inside.run(perl(v6)).ok();
    assert!(["101\n", "99\n"].contains(&&*answer), "{answer}");
    assert_eq!(called(&inside, OUTSIDE, 80), REACHED);
}

/// Addresses by which the host can be called, its end of the link to the router included.
pub fn own_addresses() -> Vec<String> {
    let all = sh("ip -4 -o address show | awk '{print $4}' | cut -d/ -f1");
    all.lines().map(str::to_owned).collect()
}

fn this_machine_is_out_of_reach() {
    let outside = Outside::start();
    // Like the API of a server that listens on every address.
    let listener = TcpListener::bind(("0.0.0.0", 9000)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"host\n");
        }
    });
    let world = world(Network::Nat);
    let inside = world.sandbox();
    let addresses = own_addresses();
    assert!(addresses.len() >= 3, "{addresses:?}");
    for address in &addresses {
        assert_eq!(called(&inside, address, 9000), REFUSED, "{address}");
        assert_eq!(called_by_host(address, 9000), "yes: host\n", "{address}: the control run");
    }
    assert_eq!(outside.call(HOST, 9000), "yes: host\n", "the control run");
    // A port that the host publishes for somebody else.
    sh(&format!(
        "nft add table ip test; \
         nft add chain ip test pre '{{ type nat hook prerouting priority dstnat; }}'; \
         nft add rule ip test pre ip daddr {HOST} tcp dport 8080 dnat to {OUTSIDE}:80"
    ));
    assert_eq!(called(&inside, HOST, 8080), REFUSED);
}

fn guest_address(inside: &Inside) -> String {
    let script = "use Socket; socket(my $s, PF_INET, SOCK_DGRAM, 0); \
                  connect($s, pack_sockaddr_in(9, inet_aton('203.0.113.1'))) or die $!; \
                  my ($port, $ip) = unpack_sockaddr_in(getsockname($s)); print inet_ntoa($ip)";
    inside.run(perl(script)).ok()
}

/// A guest that answers on a port of all its addresses.
fn listen(inside: &Inside) {
    let script = "use Socket; socket(my $l, PF_INET, SOCK_STREAM, 0); \
                  bind($l, pack_sockaddr_in(9001, INADDR_ANY)) && listen($l, 5) or die $!; $| = 1; \
                  print qq(up\\n); while (accept(my $c, $l)) { print $c qq(guest\\n) }";
    inside.start(perl(script));
    inside.output_until("up");
}

fn neighbours_are_out_of_reach() {
    let world = world(Network::Nat);
    let (a, b) = (world.sandbox(), world.sandbox());
    let address = guest_address(&a);
    assert_ne!(address, guest_address(&b));
    listen(&a);
    assert_eq!(called(&b, &address, 9001), REFUSED);
    // Control: without the router's rules.
    let spawner = world.sandboxes.spawner_pid();
    sh(&format!("nsenter --net --target {spawner} nft delete table inet router"));
    assert_eq!(called(&b, &address, 9001), "yes: guest\n");
}

fn nobody_calls_a_sandbox() {
    let outside = Outside::start();
    let world = world(Network::Nat);
    let inside = world.sandbox();
    let address = guest_address(&inside);
    listen(&inside);
    let router = router_address();
    sh(&format!("ip route add {address} via {router}"));
    let pid = outside.0.id();
    sh(&format!("nsenter --net --target {pid} ip route add default via {HOST}"));
    assert!(!called_by_host(&address, 9001).starts_with("yes"));
    assert!(!outside.call(&address, 9001).starts_with("yes"));
    // Control: from the router it can be called when its rules are gone.
    let spawner = world.sandboxes.spawner_pid().to_string();
    sh(&format!("nsenter --net --target {spawner} nft delete table inet router"));
    let args = ["--net", "--target", &spawner];
    let control = wrapped("/usr/bin/nsenter", &args, &perl(&call(&address, 9001)));
    assert_eq!(control.ok(), "yes: guest\n");
}

/// The other end of the host's link, of a network of four addresses.
pub fn router_address() -> String {
    let own = sh("ip -4 -o address show | awk '/lambf/ {print $4}' | cut -d/ -f1");
    let own: std::net::Ipv4Addr = own.trim().parse().unwrap();
    std::net::Ipv4Addr::from(u32::from(own) + 1).to_string()
}

pub fn tables() -> String {
    sh("nft list tables")
}

pub fn links() -> String {
    sh("ip -o link show | grep -oE 'lambf[0-9a-f]{8}' | sort -u || true")
}

fn rules_outlive_a_flush() {
    let _outside = Outside::start();
    let world = world(Network::Nat);
    let inside = world.sandbox();
    sh("nft add table inet other; nft flush ruleset");
    assert!(!tables().contains("other"));
    assert!(tables().contains(&format!("lambfold-{}", world.owner)), "{}", tables());
    assert_eq!(called(&inside, OUTSIDE, 80), REACHED);
    let listed = sh(&format!("nft list table inet lambfold-{}", world.owner));
    assert!(listed.contains("comment \"nothing for this machine"), "{listed}");
}

fn two_servers() {
    let _outside = Outside::start();
    let (a, b) = (world(Network::Nat), world(Network::Nat));
    let (in_a, in_b) = (a.sandbox(), b.sandbox());
    assert_eq!(called(&in_a, OUTSIDE, 80), REACHED);
    let World { sandboxes, dir, owner } = a;
    drop(sandboxes);
    lambfold_sandbox::sweep(&owner, &dir.path().join("work")).unwrap();
    wait_for("one link", || links().lines().count() == 1);
    assert_eq!(called(&in_b, OUTSIDE, 80), REACHED);
    assert!(!tables().contains(&owner) && tables().contains(&b.owner), "{}", tables());
    assert_eq!(forwarding("out"), "1");
    drop(b);
    assert_eq!(forwarding("out"), "0");
}

fn forwarding(interface: &str) -> String {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/forwarding");
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

/// Nothing of any server is left in the host's network.
fn check_nothing_left() {
    wait_for("the links' end", || links().is_empty());
    assert_eq!(tables(), "");
    for name in ["all", "default", "out"] {
        assert_eq!(forwarding(name), "0", "{name}");
    }
    assert_eq!(forwarding("kept"), "1");
}

fn what_was_changed_is_put_back() {
    let _outside = Outside::start();
    // One that somebody else has switched on.
    sh(
        "ip link add kept type veth peer name other; echo 1 > /proc/sys/net/ipv4/conf/kept/forwarding",
    );
    let world = world(Network::Nat);
    assert_eq!((forwarding("out"), forwarding("all")), ("1".to_owned(), "0".to_owned()));
    assert_eq!(called(&world.sandbox(), OUTSIDE, 80), REACHED);
    drop(world);
    check_nothing_left();
    // Where the administrator has switched all on, nothing is changed.
    sh("echo 1 > /proc/sys/net/ipv4/conf/all/forwarding; \
        echo 0 > /proc/sys/net/ipv4/conf/kept/forwarding");
    let world = self::world(Network::Nat);
    assert_eq!(forwarding("kept"), "0");
    drop(world);
    assert_eq!((forwarding("out"), forwarding("all")), ("1".to_owned(), "1".to_owned()));
}

fn a_killed_host_leaves_nothing() {
    let _outside = Outside::start();
    sh(
        "ip link add kept type veth peer name other; echo 1 > /proc/sys/net/ipv4/conf/kept/forwarding",
    );
    let (config, dir) = config();
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["doomed-nat", &config.owner])
        .arg(&config.work_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(host.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let spawner: u32 = line.trim().parse().unwrap();
    assert!(tables().contains(&config.owner));
    // Both at once, so that nobody is left to put anything back.
    sh(&format!("kill -KILL {spawner} {}", host.id()));
    host.wait().unwrap();
    wait_for("the links' end", || links().is_empty());
    assert_eq!(tables(), "");
    assert_eq!(forwarding("out"), "1", "there is something to sweep");
    lambfold_sandbox::sweep(&config.owner, &config.work_dir).unwrap();
    check_nothing_left();
    drop(dir);
}

/// Played by a child of the test: makes a sandbox, says who its spawner is, and waits to be killed.
pub fn doomed() {
    let mut arguments = std::env::args().skip(2);
    let (owner, work_dir) = (arguments.next().unwrap(), arguments.next().unwrap());
    let mut config = lambfold_sandbox::Config::new(owner, work_dir);
    config.network = Network::Nat;
    let sandboxes = Sandboxes::start(config).unwrap();
    println!("{}", sandboxes.spawner_pid());
    let _ = std::io::stdin().read(&mut [0u8]);
}

fn a_killed_spawner_is_replaced() {
    let _outside = Outside::start();
    let world = world(Network::Nat);
    let inside = world.sandbox();
    let old = world.sandboxes.spawner_pid();
    sh(&format!("kill -KILL {old}"));
    assert_eq!(inside.event(), lambfold_sandbox::Event::Gone);
    wait_for("another spawner", || ![0, old].contains(&world.sandboxes.spawner_pid()));
    assert_eq!(called(&world.sandbox(), OUTSIDE, 80), REACHED);
}

fn addresses_are_given_back() {
    let world = world(Network::Nat);
    let spawner = world.sandboxes.spawner_pid();
    let guests = || {
        let list = sh(&format!("nsenter --net --target {spawner} ip -o link show type veth"));
        list.lines().filter(|line| line.contains("guest")).count()
    };
    for _ in 0..12 {
        world.sandbox().bash("true").ok();
    }
    // Those that are kept ready.
    wait_for("interfaces to be cleared away", || guests() <= 4);
}

fn a_probe_does_every_step() {
    let _outside = Outside::start();
    let (mut config, _dir) = config();
    config.network = Network::NatIfPossible;
    let reports = probe(config);
    for step in [Step::NetworkLink, Step::NetworkRules, Step::NetworkForwarding, Step::Network] {
        let report = reports.iter().find(|report| report.name == step.name()).unwrap();
        // There may be no name server that could be reached.
        let lesser = step == Step::NetworkRules && report.outcome == StepOutcome::Lesser;
        assert!(report.outcome == StepOutcome::Holds || lesser, "{report:?}");
    }
    sh(
        "ip link add kept type veth peer name other; echo 1 > /proc/sys/net/ipv4/conf/kept/forwarding",
    );
    check_nothing_left();
}

/// A host whose settings cannot be written, as in a container.
fn without_rules_there_is_none() {
    let _outside = Outside::start();
    sh("mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys");
    let (mut config, _dir) = config();
    config.network = Network::Nat;
    match Sandboxes::start(config) {
        Err(StartError::Step(error)) => assert_eq!(error.step, Step::NetworkLink),
        other => panic!("{other:?}"),
    }
    let world = world(Network::NatIfPossible);
    assert_eq!(world.sandboxes.capabilities().network, Network::None);
    let inside = world.sandbox();
    assert_eq!(called(&inside, OUTSIDE, 80), "no: 101\n");
    drop(inside);
    drop(world);
    assert_eq!((tables(), links()), (String::new(), String::new()));
    let _ = TcpStream::connect((OUTSIDE, 80)).unwrap();
}
