//! Environments that do what the payload of their invocation says, and notice every wrong call.

use bytes::Bytes;
use lambfold_pool::{CreateError, Environment, EnvironmentFactory, OnAnswer, OnEnd};
use lambfold_types::{
    AccountId, Answer, Architecture, Digest, FunctionName, FunctionVersion, InitializationType,
    Invocation, InvocationKind, LogFormat, LoggingConfig, PhaseEnd, Region, RequestId, RuntimeId,
    Scope, Version,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a creation takes unless it was said otherwise.
pub(crate) const CREATION: Duration = Duration::from_millis(10);

/// What an environment does with an invocation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Act {
    /// Until the answer.
    pub(crate) run_ms: u16,
    /// From the answer to the end of the phase.
    pub(crate) tail_ms: u16,
    pub(crate) reusable: bool,
    /// Calls neither callback.
    pub(crate) lost: bool,
    /// Answers and ends before `begin` returns.
    pub(crate) inside: bool,
}

/// Answers after so many milliseconds.
pub(crate) fn act(run_ms: u32) -> Act {
    let run_ms = u16::try_from(run_ms).unwrap_or(u16::MAX);
    Act { run_ms, tail_ms: 0, reusable: true, lost: false, inside: false }
}

pub(crate) fn invocation(act: Act) -> Invocation {
    let [a, b] = act.run_ms.to_le_bytes();
    let [c, d] = act.tail_ms.to_le_bytes();
    let flags = [act.reusable, act.lost, act.inside].map(u8::from);
    let payload = [&[a, b, c, d], flags.as_slice()].concat();
    Invocation {
        request_id: RequestId::random(),
        kind: InvocationKind::Synchronous,
        invoked_function_arn: "arn".into(),
        payload: Bytes::from(payload),
        content_type: None,
        client_context: None,
        trace_id: None,
        wants_log_tail: false,
        sink: None,
    }
}

fn read(payload: &[u8]) -> Act {
    let [a, b, c, d, reusable, lost, inside] = payload.try_into().unwrap();
    Act {
        run_ms: u16::from_le_bytes([a, b]),
        tail_ms: u16::from_le_bytes([c, d]),
        reusable: reusable == 1,
        lost: lost == 1,
        inside: inside == 1,
    }
}

pub(crate) fn scope() -> Scope {
    Scope {
        account: AccountId::parse("000000000000").unwrap(),
        region: Region::parse("us-east-1").unwrap(),
    }
}

/// A published version of a function.
pub(crate) fn published(function: usize, number: u64) -> Arc<FunctionVersion> {
    Arc::new(FunctionVersion {
        version: Version::Published(number),
        revision: format!("revision-{function}-{number}"),
        ..(*version(function)).clone()
    })
}

/// `$LATEST` of a function with this MemorySize.
pub(crate) fn large(function: usize, memory_mib: u32) -> Arc<FunctionVersion> {
    Arc::new(FunctionVersion { memory_mib, ..(*version(function)).clone() })
}

pub(crate) fn version(function: usize) -> Arc<FunctionVersion> {
    Arc::new(FunctionVersion {
        scope: scope(),
        name: FunctionName::parse(&format!("f{function}")).unwrap(),
        version: Version::Latest,
        revision: format!("revision-{function}"),
        runtime: RuntimeId::ProvidedAl2023,
        architecture: Architecture::X86_64,
        handler: "h".to_owned(),
        memory_mib: 128,
        timeout_s: 3,
        ephemeral_storage_mib: 512,
        variables: BTreeMap::new(),
        code: Digest::from_bytes(&[0; 32]),
        layers: Vec::new(),
        logging: LoggingConfig {
            group: "/aws/lambda/f".to_owned(),
            format: LogFormat::Text,
            application_level: None,
            system_level: None,
        },
        rootfs: None,
    })
}

#[derive(Default)]
struct State {
    created: usize,
    delays: HashMap<usize, Duration>,
    failing: HashSet<usize>,
    panicking: HashSet<usize>,
    /// Functions whose init phase fails.
    broken: HashSet<FunctionName>,
    provisioned: HashSet<usize>,
    memory_mib: HashMap<usize, u32>,
    most_memory_mib: u32,
    /// Which function's invocations began, in order.
    begun: Vec<FunctionName>,
    alive: HashSet<usize>,
    busy: HashSet<usize>,
    retired: HashSet<usize>,
    most_alive: usize,
    violations: Vec<String>,
}

/// What happened to all environments.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<State>>);

impl World {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn factory(&self) -> Fake {
        Fake(self.clone())
    }

    /// In milliseconds, for the creations in their order.
    pub(crate) fn creation_delays(&self, delays: impl IntoIterator<Item = u64>) {
        let delays = delays.into_iter().map(Duration::from_millis);
        self.0.lock().unwrap().delays = delays.enumerate().collect();
    }

    pub(crate) fn fail_creation(&self, number: usize) {
        self.0.lock().unwrap().failing.insert(number);
    }

    pub(crate) fn panic_creation(&self, number: usize) {
        self.0.lock().unwrap().panicking.insert(number);
    }

    pub(crate) fn break_init(&self, function: usize, broken: bool) {
        let name = version(function).name.clone();
        let mut state = self.0.lock().unwrap();
        if broken {
            state.broken.insert(name);
        } else {
            state.broken.remove(&name);
        }
    }

    pub(crate) fn is_provisioned(&self, number: usize) -> bool {
        self.0.lock().unwrap().provisioned.contains(&number)
    }

    pub(crate) fn most_memory_mib(&self) -> u32 {
        self.0.lock().unwrap().most_memory_mib
    }

    /// The functions whose invocations began, in order.
    pub(crate) fn begun(&self) -> Vec<String> {
        self.0.lock().unwrap().begun.iter().map(FunctionName::to_string).collect()
    }

    pub(crate) fn created(&self) -> usize {
        self.0.lock().unwrap().created
    }

    pub(crate) fn alive(&self) -> usize {
        self.0.lock().unwrap().alive.len()
    }

    pub(crate) fn most_alive(&self) -> usize {
        self.0.lock().unwrap().most_alive
    }

    pub(crate) fn is_retired(&self, number: usize) -> bool {
        self.0.lock().unwrap().retired.contains(&number)
    }

    pub(crate) fn check(&self) {
        assert_eq!(self.0.lock().unwrap().violations, Vec::<String>::new());
    }
}

pub(crate) struct Fake(World);

pub(crate) struct FakeEnvironment {
    number: usize,
    name: FunctionName,
    world: World,
}

impl EnvironmentFactory for Fake {
    type Environment = FakeEnvironment;

    async fn create(
        &self,
        version: Arc<FunctionVersion>,
        initialization: InitializationType,
    ) -> Result<Arc<FakeEnvironment>, CreateError> {
        let (number, delay, fails, panics) = {
            let mut state = self.0.0.lock().unwrap();
            let number = state.created;
            state.created += 1;
            let delay = state.delays.get(&number).copied().unwrap_or(CREATION);
            (number, delay, state.failing.contains(&number), state.panicking.contains(&number))
        };
        tokio::time::sleep(delay).await;
        assert!(!panics, "as the test asked for");
        if fails {
            let function = version.name.to_string();
            return Err(CreateError { function, source: "as the test asked for".into() });
        }
        let mut state = self.0.0.lock().unwrap();
        state.alive.insert(number);
        state.most_alive = state.most_alive.max(state.alive.len());
        state.memory_mib.insert(number, version.memory_mib);
        state.most_memory_mib = state.most_memory_mib.max(state.memory_mib.values().sum());
        if initialization == InitializationType::ProvisionedConcurrency {
            state.provisioned.insert(number);
        }
        let name = version.name.clone();
        Ok(Arc::new(FakeEnvironment { number, name, world: self.0.clone() }))
    }
}

impl FakeEnvironment {
    fn violation(&self, what: &str) {
        let text = format!("environment {}: {what}", self.number);
        self.world.0.lock().unwrap().violations.push(text);
    }

    fn answer(&self, answer: OnAnswer) {
        answer(Answer {
            payload: Bytes::from(self.number.to_string()),
            content_type: None,
            function_error: false,
            stream_error: None,
        });
    }

    fn end(&self, ended: OnEnd, reusable: bool) {
        self.world.0.lock().unwrap().busy.remove(&self.number);
        ended(PhaseEnd { reusable, log_tail: None });
    }
}

impl Environment for FakeEnvironment {
    fn begin(&self, invocation: Invocation, answer: OnAnswer, ended: OnEnd) {
        if !self.world.0.lock().unwrap().busy.insert(self.number) {
            self.violation("two events at once");
        }
        self.world.0.lock().unwrap().begun.push(self.name.clone());
        if self.world.is_retired(self.number) {
            self.violation("begun after it was retired");
        }
        let act = read(&invocation.payload);
        if act.inside {
            self.answer(answer);
            self.end(ended, act.reusable);
            return;
        }
        let this = Self { number: self.number, name: self.name.clone(), world: self.world.clone() };
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(act.run_ms.into())).await;
            if act.lost {
                this.world.0.lock().unwrap().busy.remove(&this.number);
                return;
            }
            this.answer(answer);
            tokio::time::sleep(Duration::from_millis(act.tail_ms.into())).await;
            this.end(ended, act.reusable);
        });
    }

    fn is_initialized(&self) -> bool {
        !self.world.0.lock().unwrap().broken.contains(&self.name)
    }

    fn retire(&self) {
        let fresh = {
            let mut state = self.world.0.lock().unwrap();
            state.alive.remove(&self.number);
            state.memory_mib.remove(&self.number);
            state.retired.insert(self.number)
        };
        if !fresh {
            self.violation("retired twice");
        }
    }
}
