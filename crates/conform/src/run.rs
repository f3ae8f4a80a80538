//! Runs cases, several at a time, each against a bootstrap of its own.

use crate::case::{Case, Place};
use crate::cases::Steady;
use crate::guest::{Ground, Plan, TMP_BYTES, chain};
use crate::host::Host;
use crate::report::{CaseResult, Report, Verdict};
use crate::subject::Subject;
use crate::trial::{Stop, Trial};
use lambfold_sandbox::{Config, Rootfs, Sandboxes, StartError};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Where the Runtime API usually is in a sandbox, and where it is once.
const USUAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 100, 1), 9001);
const OTHER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9017);
/// In front of a handler that is not there.
const MISSING: &str = "lambfold-conform-missing";

/// Whether the bootstrap runs in a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// In a sandbox where that is possible, else as [`Isolation::None`] does; the report says so.
    Auto,
    /// In a sandbox, or not at all.
    Namespace,
    /// As a process of this machine, with this user's rights and without limits.
    None,
}

/// How cases are run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the runtime gets as `_HANDLER`.
    pub handler: String,
    /// Variables of the function.
    pub env: Vec<(String, String)>,
    /// Longest wait for anything that should come at once.
    pub patience: Duration,
    /// How long `next` is left without an answer in the case that asks for that.
    pub idle: Duration,
    /// Events in the cases that look for growth.
    pub events: usize,
    /// Cases at a time.
    pub jobs: usize,
    /// Whether the bootstrap runs in a sandbox.
    pub isolation: Isolation,
    /// The root file system of sandboxes; `None`: the host's.
    pub rootfs: Option<PathBuf>,
    /// Cases that are known to fail, each with the reason.
    pub except: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            handler: "function.handler".to_owned(),
            env: Vec::new(),
            patience: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            events: 10_000,
            jobs: 4,
            isolation: Isolation::Auto,
            rootfs: None,
            except: BTreeMap::new(),
        }
    }
}

/// Why nothing could be run.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// No sandbox can be made here.
    #[error("the bootstrap cannot be isolated here; `lambfold doctor` tries every step")]
    Sandbox(#[from] StartError),
    /// There is no room for what sandboxes need.
    #[error("could not make a temporary folder")]
    Temporary(#[source] std::io::Error),
    /// Layers are only there inside a sandbox.
    #[error("layers appear under /opt, which needs a sandbox")]
    LayersNeedSandbox,
}

/// What the cases of one run share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) steady: Mutex<Option<Result<Steady, Stop>>>,
}

/// A place to run cases in.
#[derive(Debug)]
pub struct Kit {
    ground: Ground,
    settings: Settings,
    /// What is lesser here than it could be, each a sentence.
    pub notes: Vec<String>,
}

impl Kit {
    /// Prepares sandboxes, or does without them where the settings say so.
    ///
    /// # Errors
    /// When there is no sandbox to be had and the settings ask for one.
    pub fn new(settings: Settings) -> Result<Self, KitError> {
        let mut notes = Vec::new();
        let ground = match (settings.isolation, sandboxes(&settings)) {
            (Isolation::None, _) => Ground::Machine,
            (_, Ok(ground)) => ground,
            (Isolation::Namespace, Err(error)) => return Err(error),
            (Isolation::Auto, Err(error)) => {
                notes.push(format!(
                    "there is no sandbox to be had here ({}): the bootstrap runs as a process of \
                     this machine, with your rights and without limits",
                    chain(&error)
                ));
                Ground::Machine
            }
        };
        if settings.isolation == Isolation::None {
            notes.push(
                "as asked, the bootstrap runs as a process of this machine, with your rights and \
                 without limits"
                    .to_owned(),
            );
        }
        Ok(Self { ground, settings, notes })
    }

    /// Runs cases against a subject; `each` is called as each is over, in any order.
    ///
    /// The first case is the start. Where it fails, the others do not apply.
    ///
    /// # Errors
    /// When the subject has layers and there is no sandbox.
    pub fn run(
        &self,
        subject: &Subject,
        cases: &[&'static Case],
        mut each: impl FnMut(&CaseResult),
    ) -> Result<Report, KitError> {
        if subject.opt.is_some() && matches!(self.ground, Ground::Machine) {
            return Err(KitError::LayersNeedSandbox);
        }
        let shared = Shared::default();
        let all = Case::all();
        let start = all[0];
        let mut begun = self.one(subject, start, &shared);
        if begun.verdict == Verdict::Fail {
            for finding in &subject.findings {
                begun.detail.push_str("; ");
                begun.detail.push_str(&finding.to_string());
            }
        }
        let starts = begun.verdict != Verdict::Fail;
        let mut results = BTreeMap::new();
        let order = |case: &Case| all.iter().position(|other| other.id == case.id);
        let mut queue = VecDeque::new();
        for case in cases {
            if case.id == start.id {
                each(&begun);
                results.insert(order(case), begun.clone());
            } else if starts {
                queue.push_back(*case);
            } else {
                let why = "the bootstrap does not start, see start".to_owned();
                let result = CaseResult::new(case, Verdict::NotApplicable, why, Duration::ZERO);
                each(&result);
                results.insert(order(case), result);
            }
        }
        // What takes longest begins first, so that it does not end last.
        queue
            .make_contiguous()
            .sort_by_key(|case| !(case.id.starts_with("steady") || case.id == "next-idle"));
        let queue = Mutex::new(queue);
        let (done, over) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.settings.jobs.max(1) {
                let (done, queue, shared) = (done.clone(), &queue, &shared);
                scope.spawn(move || {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some(case) = next else { return };
                        // The reader outlives the writers.
                        let _ = done.send((case, self.one(subject, case, shared)));
                    }
                });
            }
            drop(done);
            for (case, result) in over {
                each(&result);
                results.insert(order(case), result);
            }
        });
        Ok(Report {
            subject: subject.path.display().to_string(),
            isolated: matches!(self.ground, Ground::Sandboxes { .. }),
            notes: self.notes.clone(),
            results: results.into_values().collect(),
        })
    }

    fn one(&self, subject: &Subject, case: &'static Case, shared: &Shared) -> CaseResult {
        let begun = Instant::now();
        let (verdict, detail) = match self.attempt(subject, case, shared) {
            Ok(()) => (Verdict::Pass, String::new()),
            Err(Stop::Fail(what)) => (Verdict::Fail, what),
            Err(Stop::NotApplicable(why)) => (Verdict::NotApplicable, why),
            Err(Stop::Broken(what)) => (Verdict::Fail, format!("the kit could not ask: {what}")),
        };
        let mut result = CaseResult::new(case, verdict, detail, begun.elapsed());
        if let Some(reason) = self.settings.except.get(case.id) {
            result = result.excepted(reason);
        }
        result
    }

    fn attempt(&self, subject: &Subject, case: &'static Case, shared: &Shared) -> Result<(), Stop> {
        let plan = Plan {
            task: &subject.task,
            opt: subject.opt.as_deref(),
            address: if case.place == Place::OtherAddress { OTHER } else { USUAL },
            env: self.environment(case),
        };
        let (guest, listeners) = self.ground.start(plan).map_err(Stop::Broken)?;
        (case.run)(&mut Trial::new(&self.settings, shared, Host::new(listeners), guest))
    }

    fn environment(&self, case: &Case) -> Vec<(String, String)> {
        let handler = &self.settings.handler;
        let handler = match (case.place, handler.split_once('.')) {
            (Place::MissingHandler, Some((_, rest))) => format!("{MISSING}.{rest}"),
            (Place::MissingHandler, None) => MISSING.to_owned(),
            _ => handler.clone(),
        };
        let usual = [
            ("_HANDLER", &*handler),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "ASIALAMBFOLDNOACCESS"),
            ("AWS_SECRET_ACCESS_KEY", "lambfoldNoAccess/lambfoldNoAccess/000000"),
            ("AWS_SESSION_TOKEN", "bGFtYmZvbGQ6IHRoZXNlIGtleXMgb3BlbiBub3RoaW5n"),
            ("AWS_LAMBDA_FUNCTION_NAME", "conform"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/conform"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "conform"),
        ];
        let mut env: Vec<(String, String)> =
            usual.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let of_case =
            case.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        for (name, value) in self.settings.env.iter().cloned().chain(of_case) {
            env.retain(|(given, _)| *given != name);
            env.push((name, value));
        }
        env
    }
}

fn sandboxes(settings: &Settings) -> Result<Ground, KitError> {
    if settings.isolation == Isolation::None {
        return Ok(Ground::Machine);
    }
    let work = tempfile::tempdir().map_err(KitError::Temporary)?;
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(work.path(), open).map_err(KitError::Temporary)?;
    let mut config = Config::new(format!("conform-{}", uuid::Uuid::new_v4().simple()), work.path());
    if let Some(rootfs) = &settings.rootfs {
        config.rootfs = Rootfs::Dir(rootfs.clone());
    }
    config.tmp_ready_bytes = vec![TMP_BYTES];
    let sandboxes = Sandboxes::start(config)?;
    Ok(Ground::Sandboxes { sandboxes, next: AtomicU64::new(0), _work: work })
}
