//! Names, in sandboxes with a way to the outside: asked of the host's name servers where those are
//! reached, and through the host where it alone reaches them. On the stage of [`crate::nat`].

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use lambfold_sandbox::{Network, Step, StepOutcome, probe};

use crate::Test;
use crate::nat::{
    HOST, OUTSIDE, Outside, REACHED, called, links, own_addresses, router_address, sh, staged,
    tables, world,
};
use crate::world::{Inside, World, perl, wait_for, wrapped};

pub const TESTS: &[Test] = &[
    ("names::servers_that_are_reached_are_asked", || staged("reached_servers")),
    ("names::this_machines_own_server_is_asked", || staged("own_server")),
    ("names::nothing_else_is_opened", || staged("nothing_else")),
    ("names::a_flood_does_not_keep_others_from_asking", || staged("flood")),
    ("names::a_probe_says_who_is_asked", || staged("probe")),
];

/// Those that run on the stage.
pub const STAGED: &[Test] = &[
    ("reached_servers", names_are_resolved),
    ("own_server", names_of_this_machines_own_server),
    ("nothing_else", asking_for_names_opens_nothing_else),
    ("flood", who_floods_with_queries_does_not_keep_others_from_names),
    ("probe", a_probe_names_the_servers),
];

/// Queries that name servers of this process answered: in datagrams, over connections.
static ANSWERED: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

/// A name server of this process that knows every name: as the outside's address.
pub fn name_server(address: &str) {
    let address: IpAddr = address.parse().unwrap();
    let datagrams = UdpSocket::bind((address, 53)).unwrap();
    std::thread::spawn(move || {
        let mut packet = [0u8; 512];
        while let Ok((length, peer)) = datagrams.recv_from(&mut packet) {
            // What is no query is left alone.
            if let Some(answer) = answer(&packet[..length]) {
                ANSWERED[0].fetch_add(1, Ordering::Relaxed);
                let _ = datagrams.send_to(&answer, peer);
            }
        }
    });
    let listener = TcpListener::bind((address, 53)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0u8; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut query = vec![0u8; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut query).unwrap();
                let answer = answer(&query).unwrap();
                stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
                ANSWERED[1].fetch_add(1, Ordering::Relaxed);
            }
        }
    });
}

fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let question = query.get(12..)?;
    let name_ends = question.iter().position(|b| *b == 0)?;
    // Type A only; the answer points to the name in the question.
    let wanted = question.get(name_ends + 1..name_ends + 3)? == [0, 1];
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(wanted), 0, 0, 0, 0]);
    answer.extend(question.get(..name_ends + 5)?);
    if wanted {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 198, 51, 100, 1]);
    }
    Some(answer)
}

fn names_are_resolved() {
    let _outside = Outside::start();
    // A resolver of this machine's own, and one beyond it.
    let text = format!("nameserver 127.0.0.53\nnameserver {HOST}\nnameserver {OUTSIDE}\n");
    with_resolv_conf(&text, || {
        let world = world(Network::Nat);
        let inside = world.sandbox();
        assert_eq!(inside.bash("cat /etc/resolv.conf").ok(), format!("nameserver {OUTSIDE}\n"));
        assert_eq!(called(&inside, "host.example", 80), REACHED);
        // Nothing of this machine has to be asked then.
        let capabilities = world.sandboxes.capabilities();
        assert!(capabilities.relayed_name_servers.is_empty(), "{capabilities:?}");
        assert_eq!(nft_of_router(&world, "stand-in"), "");
    });
    with_resolv_conf("nameserver fe80::1%out\n", || {
        let world = world(Network::Nat);
        let notes = &world.sandboxes.capabilities().notes;
        assert!(notes.iter().any(|note| note.what.contains("fe80::1%out")), "{notes:?}");
    });
}

/// With a text of its own in `/etc/resolv.conf`, which only the spawner reads.
fn with_resolv_conf(text: &str, action: impl FnOnce()) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    let target = std::fs::canonicalize("/etc/resolv.conf").unwrap();
    let (file, target) = (file.path().display(), target.display());
    sh(&format!("mount --bind {file} {target}"));
    action();
    sh(&format!("umount {target}"));
}

/// Lines of the router's rules with this word.
fn nft_of_router(world: &World, word: &str) -> String {
    let spawner = world.sandboxes.spawner_pid();
    sh(&format!("nsenter --net --target {spawner} nft list ruleset | grep {word} || true"))
}

/// Whether a sandbox resolves names.
fn resolves(inside: &Inside) {
    assert_eq!(called(inside, "host.example", 80), REACHED);
}

fn answered() -> [u32; 2] {
    [0, 1].map(|n: usize| ANSWERED[n].load(Ordering::Relaxed))
}

fn names_of_this_machines_own_server() {
    let _outside = Outside::start();
    name_server("127.0.0.53");
    name_server("::1");
    // Whichever way programs ask; the last one when nobody listens at the first.
    let all = [
        ("nameserver 127.0.0.53\nsearch a.example\n", 0),
        ("nameserver ::1\noptions use-vc\n", 1),
        ("nameserver 127.0.0.9\nnameserver 127.0.0.53\n", 0),
    ];
    for (text, way) in all {
        with_resolv_conf(text, || {
            let world = world(Network::Nat);
            let before = answered();
            resolves(&world.sandbox());
            assert!(answered()[way] > before[way], "{text}: {before:?}");
            assert_eq!(answered()[1 - way], before[1 - way], "{text}");
            // Another server beside it, and another spawner.
            let other = self::world(Network::Nat);
            resolves(&other.sandbox());
            let old = world.sandboxes.spawner_pid();
            sh(&format!("kill -KILL {old}"));
            wait_for("another spawner", || ![0, old].contains(&world.sandboxes.spawner_pid()));
            resolves(&world.sandbox());
        });
        wait_for("the links' end", || links().is_empty());
        assert_eq!(tables(), "");
    }
}

/// Connects to a port; prints `yes`, or `no: ` with the error.
fn connect(address: &str, port: u16) -> String {
    format!(
        "use Socket; $SIG{{ALRM}} = sub {{ print 'no: time'; exit }}; alarm 1; \
         socket(my $s, PF_INET, SOCK_STREAM, 0); \
         print connect($s, pack_sockaddr_in({port}, inet_aton('{address}'))) ? 'yes' : 'no: '.($!+0)"
    )
}

fn asking_for_names_opens_nothing_else() {
    let outside = Outside::start();
    name_server("127.0.0.53");
    // A service of this machine beside its name server, on every address and on loopback.
    let _services = [TcpListener::bind("0.0.0.0:9000"), TcpListener::bind("127.0.0.53:9001")];
    with_resolv_conf("nameserver 127.0.0.53\n", || {
        let world = world(Network::Nat);
        let inside = world.sandbox();
        resolves(&inside);
        let server = inside.bash("sed -n 's/^nameserver //p' /etc/resolv.conf").ok();
        let server = server.trim();
        let connects = |address: &str, port| inside.run(perl(&connect(address, port))).ok();
        assert_eq!(connects(server, 53), "yes", "the control run");
        for port in [54, 9000, 9001] {
            assert!(connects(server, port).starts_with("no"), "{port}");
        }
        // Not the gateway, nor this machine's end of the link, nor the name server itself.
        let gateway = inside.bash("awk '$2 == \"00000000\" {print $3}' /proc/net/route").ok();
        let gateway = u32::from_str_radix(gateway.trim(), 16).unwrap().swap_bytes();
        let gateway = Ipv4Addr::from(gateway).to_string();
        let mut addresses = own_addresses();
        addresses.extend([gateway, "127.0.0.53".to_owned()]);
        for address in &addresses {
            for port in [53, 9000, 9001] {
                let answer = connects(address, port);
                assert!(answer.starts_with("no"), "{address}:{port}: {answer}");
            }
        }
        // Nobody but sandboxes asks there: neither this machine nor the outside.
        let router = router_address();
        sh(&format!("ip route add {server} via {router}"));
        let by_host = crate::world::outside(&perl(&connect(server, 53))).ok();
        assert!(by_host.starts_with("no"), "{by_host}");
        let pid = outside.0.id();
        sh(&format!("nsenter --net --target {pid} ip route add default via {HOST}"));
        let args = ["--net", "--target", &pid.to_string()];
        let by_outside = wrapped("/usr/bin/nsenter", &args, &perl(&connect(server, 53))).ok();
        assert!(by_outside.starts_with("no"), "{by_outside}");
        // Without its rules the router is open, but there is nothing more to be reached.
        let spawner = world.sandboxes.spawner_pid();
        sh(&format!("nsenter --net --target {spawner} nft delete table inet router"));
        assert_eq!(connects(server, 9000), "no: 111");
    });
}

fn who_floods_with_queries_does_not_keep_others_from_names() {
    let _outside = Outside::start();
    name_server("127.0.0.53");
    with_resolv_conf("nameserver 127.0.0.53\n", || {
        let world = world(Network::Nat);
        let (flood, inside) = (world.sandbox(), world.sandbox());
        // Queries, and connections that say nothing.
        let script = "use Socket; my ($ip) = `cat /etc/resolv.conf` =~ /nameserver (\\S+)/; \
             my $to = pack_sockaddr_in(53, inet_aton($ip)); \
             my $query = pack('n6 C a1 C n2', 7, 256, 1, 0, 0, 0, 1, 'x', 0, 1, 1); \
             socket(my $s, PF_INET, SOCK_DGRAM, 0); connect($s, $to) or die $!; \
             my @open = map { socket(my $t, PF_INET, SOCK_STREAM, 0); connect($t, $to); $t } 1..20; \
             for (my $n = 0;; $n++) { send($s, $query, 0); \
             syswrite(STDOUT, qq(floods\n)) if $n == 5000 }";
        flood.start(perl(script));
        flood.output_until("floods");
        let (start, before) = (Instant::now(), answered());
        for _ in 0..3 {
            resolves(&inside);
        }
        // Of the flood so much is heard as the router lets through.
        let most = (start.elapsed().as_secs() + 1) * 1024 + 256;
        assert!(u64::from(answered()[0] - before[0]) <= most, "{:?} {most}", answered());
        // Control: without its rules all of it is.
        let spawner = world.sandboxes.spawner_pid();
        sh(&format!("nsenter --net --target {spawner} nft delete table inet router"));
        let (start, before) = (Instant::now(), answered());
        wait_for("more than that", || {
            let most = (start.elapsed().as_secs() + 1) * 1024 + 256;
            u64::from(answered()[0] - before[0]) > most
        });
    });
}

/// `doctor` says who is asked.
fn a_probe_names_the_servers() {
    let _outside = Outside::start();
    with_resolv_conf("nameserver 127.0.0.53\nnameserver ::1\n", || {
        let (mut config, _dir) = crate::world::config();
        config.network = Network::Nat;
        let reports = probe(config);
        let of = |step: Step| reports.iter().find(|r| r.name == step.name()).unwrap();
        let (link, rules) = (of(Step::NetworkLink), of(Step::NetworkRules));
        assert!(link.explanation.contains("(127.0.0.53, ::1)"), "{link:?}");
        let outcomes = (link.outcome, rules.outcome);
        assert_eq!(outcomes, (StepOutcome::Holds, StepOutcome::Holds), "{rules:?}");
    });
}
