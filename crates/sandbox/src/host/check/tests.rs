#![allow(clippy::unwrap_used)]
use super::*;
use crate::spec::{Bind, Fault};

fn spec(spec: &Spec) -> Result<(), (&'static str, String)> {
    let mut config = Config::new("owner", "/work");
    config.more_rootfs.insert("other".to_owned(), Rootfs::Host);
    super::spec(&config, spec)
}

fn good() -> Spec {
    Spec { id: "a".into(), tmp_bytes: 1, ..Spec::default() }
}

#[test]
fn names_on_both_sides_of_their_limits() {
    assert!(name(&"a".repeat(64)).is_ok());
    assert!(name(&"a".repeat(65)).is_err());
    for bad in ["", ".", "..", "a/b", "a b", "é", "a\0"] {
        assert!(name(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn specifications_on_both_sides_of_their_limits() {
    assert!(spec(&good()).is_ok());
    assert_eq!(spec(&Spec { tmp_bytes: 0, ..good() }).unwrap_err().0, "tmp_bytes");
    assert!(spec(&Spec { cpu_weight: 10_000, ..good() }).is_ok());
    assert_eq!(spec(&Spec { cpu_weight: 10_001, ..good() }).unwrap_err().0, "cpu_weight");
    assert!(spec(&Spec { hostname: "h".repeat(64), ..good() }).is_ok());
    assert_eq!(spec(&Spec { hostname: "h".repeat(65), ..good() }).unwrap_err().0, "hostname");
    assert!(spec(&Spec { cpu_quota_us: 1000, ..good() }).is_ok());
    assert_eq!(spec(&Spec { cpu_quota_us: 999, ..good() }).unwrap_err().0, "cpu_quota_us");
    assert!(spec(&Spec { rootfs: Some("other".into()), ..good() }).is_ok());
    assert_eq!(spec(&Spec { rootfs: Some("else".into()), ..good() }).unwrap_err().0, "rootfs");
    let listeners = |n| vec!["127.0.0.1:1".parse().unwrap(); n];
    assert!(spec(&Spec { listeners: listeners(16), ..good() }).is_ok());
    assert!(spec(&Spec { listeners: listeners(17), ..good() }).is_err());
}

#[test]
fn binds_go_to_known_places_once_each() {
    let bind = |source: &str, target: &str| Bind { source: source.into(), target: target.into() };
    let check = |binds| spec(&Spec { binds, ..good() });
    assert!(check(vec![bind("/a", "/var/task"), bind("/a", "/opt")]).is_ok());
    assert!(check(vec![bind("/a", "/opt"), bind("/b", "/opt")]).is_err());
    assert!(check(vec![bind("a", "/opt")]).is_err());
    assert!(check(vec![bind("/a", "/etc")]).is_err());
}

#[test]
fn faults_by_name() {
    let fault = Fault { step: Step::MountTmp, victim: Victim::Init };
    assert_eq!(parse_fault("init:mount-tmp"), Some(fault));
    assert_eq!(parse_fault("init:mount"), None);
    assert_eq!(parse_fault("guest:mount-tmp"), None);
    for step in Step::ALL {
        assert!(parse_fault(&format!("host:{step}")).is_some());
    }
}

#[test]
fn what_needs_walls_is_refused_without_them() {
    let process = || {
        let (isolation, network) = (Isolation::Process, Network::Host);
        Config { isolation, network, ..Config::new("owner", "/work") }
    };
    let refused = |config: &Config, is_root| match no_walls(config, is_root) {
        Err(StartError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert!(no_walls(&process(), false).is_ok());
    assert_eq!(refused(&process(), true), "isolation");
    for network in [Network::None, Network::Nat, Network::NatIfPossible] {
        assert_eq!(refused(&Config { network, ..process() }, false), "network");
    }
    let rootfs = Rootfs::Dir("/".into());
    assert_eq!(refused(&Config { rootfs, ..process() }, false), "rootfs");
    let more_rootfs = [("other".to_owned(), Rootfs::Host)].into();
    assert_eq!(refused(&Config { more_rootfs, ..process() }, false), "rootfs");
    let fault = Some(Fault { step: Step::Clone, victim: Victim::Init });
    assert_eq!(refused(&Config { fault, ..process() }, false), "fault");

    let refused = |spec: &Spec| super::spec(&process(), spec).unwrap_err().0;
    assert!(super::spec(&process(), &good()).is_ok());
    let binds = vec![Bind { source: "/a".into(), target: "/opt".into() }];
    assert_eq!(refused(&Spec { binds, ..good() }), "binds");
    assert_eq!(refused(&Spec { first: Some(Default::default()), ..good() }), "first");
    assert_eq!(refused(&Spec { rootfs: Some("other".into()), ..good() }), "rootfs");
}
