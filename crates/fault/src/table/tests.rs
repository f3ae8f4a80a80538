#![allow(clippy::unwrap_used)]

use super::*;
use lambfold_types::{
    AccountId, Architecture, Digest, LogFormat, LoggingConfig, ManualClock, Region, RuntimeId,
};

const START_MS: u64 = 1_700_000_000_000;

fn scope(region: &str) -> Scope {
    Scope {
        account: AccountId::parse("000000000000").unwrap(),
        region: Region::parse(region).unwrap(),
    }
}

fn version(name: &str, version: Version) -> FunctionVersion {
    FunctionVersion {
        scope: scope("us-east-1"),
        name: FunctionName::parse(name).unwrap(),
        version,
        revision: "r".to_owned(),
        runtime: RuntimeId::ProvidedAl2023,
        architecture: Architecture::X86_64,
        handler: "h".to_owned(),
        memory_mib: 128,
        timeout_s: 3,
        ephemeral_storage_mib: 512,
        variables: Default::default(),
        code: Digest::parse(&"0".repeat(64)).unwrap(),
        layers: Vec::new(),
        logging: LoggingConfig {
            group: format!("/aws/lambda/{name}"),
            format: LogFormat::Text,
            application_level: None,
            system_level: None,
        },
        rootfs: None,
    }
}

struct World {
    clock: Arc<ManualClock>,
    told: Arc<Mutex<Vec<String>>>,
    faults: Faults,
}

fn world() -> World {
    let clock = Arc::new(ManualClock::at(START_MS));
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = Arc::clone(&told);
    let faults = Faults::new(clock.clone(), move |note| {
        notes.lock().unwrap().push(match note {
            Note::On(fault) => format!("on {fault}"),
            Note::Off(fault, why) => format!("off {fault}: {}", why.reason()),
            Note::Effect { fault, what } => format!("{}: {what}", fault.target.function),
        });
    });
    World { clock, told, faults }
}

impl World {
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

fn wish(kind: Kind, seconds: u64) -> Wish {
    Wish::new(kind, Duration::from_secs(seconds)).unwrap()
}

#[test]
fn a_fault_acts_on_its_target_alone_and_ends_by_itself() {
    let world = world();
    let (mine, other) = (version("f", Version::Latest), version("g", Version::Latest));
    let elsewhere = FunctionVersion { scope: scope("eu-west-1"), ..mine.clone() };
    assert!(!world.faults.any());
    assert_eq!(world.faults.strikes(&mine, Kind::Throttle), None);
    let fault = world.faults.set(Target::new(&mine, false), wish(Kind::Throttle, 60));
    assert_eq!((fault.until_ms, fault.effects), (START_MS + 60_000, 0));
    assert!(world.faults.any());
    assert!(world.faults.strikes(&mine, Kind::Throttle).is_some());
    assert!(world.faults.strikes(&version("f", Version::Published(3)), Kind::Throttle).is_some());
    assert_eq!(world.faults.strikes(&mine, Kind::Duplicate), None);
    assert_eq!(world.faults.strikes(&other, Kind::Throttle), None);
    assert_eq!(world.faults.strikes(&elsewhere, Kind::Throttle), None);
    world.clock.advance_ms(59_999);
    assert!(world.faults.strikes(&mine, Kind::Throttle).is_some());
    assert_eq!(world.faults.expire(), Some(Duration::from_millis(1)));
    world.clock.advance_ms(1);
    // It does not act any more, whether or not somebody has looked.
    assert_eq!(world.faults.strikes(&mine, Kind::Throttle), None);
    assert_eq!(world.faults.expire(), None);
    assert!(!world.faults.any());
    assert_eq!(world.told(), ["on throttle", "off throttle: its time is over"]);
    assert_eq!(world.faults.effects(), 3);
}

#[test]
fn a_version_can_be_meant_alone() {
    let world = world();
    let three = version("f", Version::Published(3));
    world.faults.set(Target::new(&three, true), wish(Kind::OutOfMemory, 60));
    assert!(world.faults.strikes(&three, Kind::OutOfMemory).is_some());
    assert_eq!(world.faults.strikes(&version("f", Version::Latest), Kind::OutOfMemory), None);
    assert_eq!(world.told(), ["on oom (version 3)"]);
}

#[test]
fn another_of_its_kind_replaces_it_and_clearing_names_what_was_on() {
    let world = world();
    let mine = version("f", Version::Latest);
    let target = || Target::new(&mine, false);
    let name = FunctionName::parse("f").unwrap();
    let slow = wish(Kind::SlowNext, 60);
    world.faults.set(target(), slow);
    world.faults.set(target(), slow.with_delay(Duration::from_millis(20)).unwrap());
    world.faults.set(target(), wish(Kind::Deadline, 60).with_rate(0.25).unwrap());
    world.faults.set(Target::new(&version("g", Version::Latest), false), slow);
    let kinds = |faults: &[Fault]| faults.iter().map(|fault| fault.wish.kind).collect::<Vec<_>>();
    let listed = world.faults.list(&scope("us-east-1"), Some(&name));
    assert_eq!(kinds(&listed), [Kind::SlowNext, Kind::Deadline]);
    assert_eq!(listed[0].left, Duration::from_secs(60));
    assert_eq!(world.faults.list(&scope("us-east-1"), None).len(), 3);
    assert_eq!(world.faults.list(&scope("eu-west-1"), None), []);
    let cleared = world.faults.clear(&scope("us-east-1"), &name, Some(Kind::Deadline));
    assert_eq!(kinds(&cleared), [Kind::Deadline]);
    assert_eq!(kinds(&world.faults.clear(&scope("us-east-1"), &name, None)), [Kind::SlowNext]);
    assert_eq!(world.faults.clear(&scope("us-east-1"), &name, None), []);
    assert_eq!(world.faults.count(), 1);
    assert_eq!(
        world.told(),
        [
            "on slow-next (5000 ms late)",
            "off slow-next (5000 ms late): replaced by another one",
            "on slow-next (20 ms late)",
            "on deadline (100 ms remain, rate 0.25)",
            "on slow-next (5000 ms late)",
            "off deadline (100 ms remain, rate 0.25): cleared",
            "off slow-next (20 ms late): cleared",
        ]
    );
}

#[test]
fn calls_are_disturbed_as_was_asked() {
    let world = world();
    let mine = version("f", Version::Latest);
    let at = |call| world.faults.sabotage(&mine, call).map(|(sabotage, _)| sabotage);
    world.faults.set(Target::new(&mine, false), wish(Kind::SlowNext, 60));
    assert_eq!(at(Call::Next), Some(Sabotage::Delay(Duration::from_secs(5))));
    assert_eq!(at(Call::Response), None);
    let error = wish(Kind::Api500, 60).with_call(Call::Response).unwrap();
    world.faults.set(Target::new(&mine, false), error);
    assert_eq!(at(Call::Response), Some(Sabotage::Error));
    world.faults.clear(&mine.scope, &mine.name, None);
    world.faults.set(Target::new(&mine, false), wish(Kind::ApiReset, 60));
    assert_eq!(at(Call::Next), Some(Sabotage::Reset));
    assert_eq!(at(Call::Response), None);
}

#[test]
fn a_rate_is_the_share_of_the_occasions() {
    let world = world();
    let mine = version("f", Version::Latest);
    let half = wish(Kind::Throttle, 60).with_rate(0.5).unwrap();
    world.faults.set(Target::new(&mine, false), half);
    fastrand::seed(7);
    let struck = (0..2_000).filter(|_| world.faults.strikes(&mine, Kind::Throttle).is_some());
    let struck = struck.count();
    assert!((900..1_100).contains(&struck), "{struck}");
    assert_eq!(world.faults.list(&mine.scope, None)[0].effects, struck as u64);
}

#[test]
fn an_effect_is_told_in_the_words_of_the_log() {
    let world = world();
    let mine = version("f", Version::Latest);
    world.faults.set(Target::new(&mine, false), wish(Kind::Throttle, 60));
    let strike = world.faults.strikes(&mine, Kind::Throttle).unwrap();
    world.faults.tell(&strike, "an invocation was throttled");
    let line = "f: fault on purpose, throttle: an invocation was throttled";
    assert_eq!(world.told(), ["on throttle", line]);
}
