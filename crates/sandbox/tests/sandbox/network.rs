//! What a sandbox reaches, and what it does not.

use lambfold_sandbox::Spec;

use crate::Test;
use crate::world::{World, perl, spec};

pub const TESTS: &[Test] = &[(
    "network::peers_that_write_in_small_pieces_do_not_wait",
    peers_that_write_in_small_pieces_do_not_wait,
)];

/// Twenty requests in two small writes each over one connection, answered when they are whole: how
/// many acknowledgements the kernel delayed meanwhile, which is what the second write waits for.
fn delayed_acknowledgements(address: &str) -> lambfold_sandbox::Command {
    perl(&format!(
        "use Socket; my $address = pack_sockaddr_in(7000, inet_aton('{address}')); \
         socket(my $listener, PF_INET, SOCK_STREAM, 0); \
         bind($listener, $address) && listen($listener, 1) or die qq(listen: $!); \
         sub delayed {{ open(my $f, '<', '/proc/net/netstat') or die $!; my ($names, $values) = \
         grep {{ /^TcpExt/ }} <$f>; my %all; @all{{split ' ', $names}} = split ' ', $values; \
         $all{{DelayedACKs}} }} \
         if (!fork) {{ accept(my $c, $listener); while (sysread($c, my $a, 1)) {{ \
         sysread($c, $a, 1); syswrite($c, 'x') }} exit }} \
         socket(my $c, PF_INET, SOCK_STREAM, 0); bind($c, pack_sockaddr_in(0, inet_aton('{address}'))); \
         connect($c, $address) or die qq(connect: $!); \
         my $before = delayed(); \
         for (1..20) {{ syswrite($c, 'a'); syswrite($c, 'b'); sysread($c, my $x, 1) }} \
         print delayed() - $before, qq(\\n)"
    ))
}

fn peers_that_write_in_small_pieces_do_not_wait() {
    let world = World::new();
    let listeners = ["127.0.0.1:9001", "169.254.100.1:9001"];
    let listeners = listeners.map(|a| a.parse().unwrap()).to_vec();
    let inside = world.create(Spec { listeners, ..spec() });
    let delayed = |address| -> u32 {
        inside.run(delayed_acknowledgements(address)).ok().trim().parse().unwrap()
    };
    // An address of the same interface that nobody prepared.
    let control = delayed("127.0.0.5");
    assert!(control >= 10, "the control run delayed {control} of 20");
    assert_eq!(delayed("127.0.0.1"), 0);
    assert_eq!(delayed("169.254.100.1"), 0);
}
