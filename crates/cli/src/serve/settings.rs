use crate::args::Serve;
use crate::failure::Failure;
use lambfold_sandbox::{Isolation, Network, Rootfs};
use lambfold_server::{Config, DataDir, Processors};
use lambfold_types::{AccountId, Region, limits};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Every setting of the server: its key in `lambfold.toml`, which is also its flag without the
/// dashes and, in capitals behind `LAMBFOLD_`, its environment variable.
pub(crate) const KEYS: [&str; 14] = [
    "listen",
    "data-dir",
    "ephemeral",
    "region",
    "account-id",
    "rootfs",
    "isolation",
    "network",
    "max-environments",
    "max-memory",
    "sandbox-stock",
    "cpu",
    "strict",
    "insecure",
];

/// Sandboxes that are made ahead: enough for a client that starts a few functions at once.
const SANDBOX_STOCK: &str = "4";
/// More than is used up before there is time to make others would take memory for nothing.
const SANDBOX_STOCK_MAX: usize = 64;

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    Environment,
    File(PathBuf),
}

impl Source {
    /// The setting as it is named there, for messages.
    fn name(&self, key: &str) -> String {
        match self {
            Self::Flag => format!("--{key}"),
            Self::Environment => variable(key),
            Self::File(path) => format!("{key} in {}", path.display()),
        }
    }
}

fn variable(key: &str) -> String {
    format!("LAMBFOLD_{}", key.replace('-', "_").to_ascii_uppercase())
}

/// Values as they were written, each with its source; checked by [`Settings::resolve`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, (String, Source)>,
    /// Root file systems by name: the table `[rootfs]` of a file.
    roots: BTreeMap<String, (String, Source)>,
}

impl Settings {
    pub(crate) fn from_flags(args: &Serve) -> Self {
        let values = [
            &args.listen,
            &args.data_dir,
            &args.ephemeral,
            &args.region,
            &args.account_id,
            &args.rootfs,
            &args.isolation,
            &args.network,
            &args.max_environments,
            &args.max_memory,
            &args.sandbox_stock,
            &args.cpu,
            &args.strict,
            &args.insecure,
        ];
        let given = KEYS.into_iter().zip(values);
        let given = given.filter_map(|(key, v)| Some((key, (v.clone()?, Source::Flag))));
        Self { values: given.collect(), ..Self::default() }
    }

    pub(crate) fn from_environment(
        read: impl Fn(&str) -> Option<Result<String, Failure>>,
    ) -> Result<Self, Failure> {
        let mut values = BTreeMap::new();
        for key in KEYS {
            if let Some(value) = read(&variable(key)) {
                values.insert(key, (value?, Source::Environment));
            }
        }
        Ok(Self { values, ..Self::default() })
    }

    pub(crate) fn from_file(text: &str, source: Source) -> Result<Self, Failure> {
        let place = match &source {
            Source::File(path) => path.display().to_string(),
            _ => String::new(),
        };
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            Failure::usage(format!("settings file {place} is not TOML")).cause(&error)
        })?;
        let mut values = BTreeMap::new();
        let mut roots = BTreeMap::new();
        for (name, value) in table {
            let key = KEYS.into_iter().find(|key| *key == name).ok_or_else(|| {
                Failure::usage(format!("settings file {place} has the unknown key {name:?}"))
                    .hint(format!("its keys are {}", KEYS.join(", ")))
            })?;
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Boolean(flag) => flag.to_string(),
                toml::Value::Integer(number)
                    if key == "max-environments" || key == "sandbox-stock" =>
                {
                    number.to_string()
                }
                toml::Value::Table(table) if key == "rootfs" => {
                    for (name, value) in table {
                        let toml::Value::String(text) = value else {
                            return Err(Failure::usage(format!(
                                "{name} under {} must be text: host, or a folder",
                                source.name(key)
                            )));
                        };
                        match name.as_str() {
                            "default" => drop(values.insert(key, (text, source.clone()))),
                            _ => drop(roots.insert(name, (text, source.clone()))),
                        }
                    }
                    continue;
                }
                other => {
                    let kind = other.type_str();
                    return Err(Failure::usage(format!(
                        "{} must be text or a boolean, not {kind}",
                        source.name(key)
                    )));
                }
            };
            values.insert(key, (value, source.clone()));
        }
        Ok(Self { values, roots })
    }

    /// These, and from `weaker` what is not among them.
    pub(crate) fn or(mut self, mut weaker: Self) -> Result<Self, Failure> {
        weaker.check_data()?;
        self.check_data()?;
        // Where to keep data is one decision in two settings: the stronger source makes it.
        if self.values.contains_key("data-dir") || self.values.contains_key("ephemeral") {
            weaker.values.remove("data-dir");
            weaker.values.remove("ephemeral");
        }
        for (key, value) in weaker.values {
            self.values.entry(key).or_insert(value);
        }
        for (name, value) in weaker.roots {
            self.roots.entry(name).or_insert(value);
        }
        Ok(self)
    }

    /// One source cannot ask for a folder and for none.
    fn check_data(&self) -> Result<(), Failure> {
        let (Some((_, dir)), true) = (self.values.get("data-dir"), self.flag("ephemeral")?) else {
            return Ok(());
        };
        let (_, ephemeral) = &self.values["ephemeral"];
        let (dir, ephemeral) = (dir.name("data-dir"), ephemeral.name("ephemeral"));
        Err(Failure::usage(format!("{dir} and {ephemeral} exclude each other")))
    }

    /// Checks every value and fills in the defaults.
    pub(crate) fn resolve(
        &self,
        variable: &impl Fn(&str) -> Option<OsString>,
    ) -> Result<Config, Failure> {
        let isolation = self.parse("isolation", "namespace", |text| match text {
            "namespace" => Ok(Isolation::Namespace),
            "process" => Ok(Isolation::Process),
            _ => Err("it must be namespace or process"),
        })?;
        let listen = self.parse("listen", "127.0.0.1:9000", |text| {
            text.parse::<SocketAddr>().map_err(|_| "it must look like 127.0.0.1:9000")
        })?;
        let insecure = self.flag("insecure")?;
        if !listen.ip().is_loopback() && !insecure {
            return Err(Failure::usage(format!(
                "{} would let other machines create and run functions here, and there are no credentials yet",
                self.name("listen")
            ))
            .hint("listen on 127.0.0.1, or accept the risk with --insecure"));
        }
        let network = self.optional("network", |text| match text {
            "none" => Ok(Network::None),
            "nat" => Ok(Network::Nat),
            "host" => Ok(Network::Host),
            _ => Err("it must be none, nat or host"),
        })?;
        if network == Some(Network::Host) && !insecure {
            return Err(self.open_to_functions("network", "host", "nat"));
        }
        if isolation == Isolation::Process {
            self.check_without_walls(network, insecure, lambfold_sandbox::is_root())?;
        }
        let data = match (self.flag("ephemeral")?, self.values.get("data-dir")) {
            (true, _) => DataDir::Ephemeral,
            (false, Some((dir, _))) => DataDir::Persistent(PathBuf::from(dir)),
            (false, None) => DataDir::Persistent(default_data_dir(variable)?),
        };
        let rootfs = self.parse("rootfs", "host", rootfs_of)?;
        let processors = self.parse("cpu", "weight", |text| match text {
            "weight" => Ok(Processors::Weight),
            "aws" => Ok(Processors::Quota),
            _ => Err("it must be weight or aws"),
        })?;
        let mut more_rootfs = BTreeMap::new();
        for (name, (text, source)) in &self.roots {
            let right = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
            let place = || format!("{name} under {}", source.name("rootfs"));
            if name.is_empty() || name.len() > 64 || !name.bytes().all(right) {
                return Err(Failure::usage(format!(
                    "{}: names have 1 to 64 letters, digits, dots, dashes and underscores",
                    place()
                )));
            }
            let root = rootfs_of(text).map_err(|why| {
                Failure::usage(format!("{} has the wrong value {text:?}: {why}", place()))
            })?;
            more_rootfs.insert(name.clone(), root);
        }
        Ok(Config {
            listen,
            data,
            region: self.parse("region", "us-east-1", Region::parse)?,
            account: self.parse("account-id", "000000000000", AccountId::parse)?,
            rootfs,
            isolation,
            network: match isolation {
                Isolation::Namespace => network.unwrap_or(Network::NatIfPossible),
                Isolation::Process => Network::Host,
            },
            more_rootfs,
            processors,
            max_environments: self.optional("max-environments", |text| match text.parse() {
                Ok(0) | Err(_) => Err("it must be a whole number from 1"),
                Ok(number) => Ok(number),
            })?,
            max_memory_mib: self.optional("max-memory", size_mib)?,
            sandbox_stock: self.parse("sandbox-stock", SANDBOX_STOCK, |text| {
                match text.parse() {
                    Ok(number @ 0..=SANDBOX_STOCK_MAX) => Ok(number),
                    Ok(_) | Err(_) => Err("it must be a whole number from 0 to 64"),
                }
            })?,
            spawner: crate::embedded::spawner(),
            strict: self.flag("strict")?,
            insecure,
        })
    }

    fn parse<T, E: std::fmt::Display>(
        &self,
        key: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, Failure> {
        let text = self.values.get(key).map_or(default, |(text, _)| text.as_str());
        parse(text).map_err(|why| {
            Failure::usage(format!("{} has the wrong value {text:?}: {why}", self.name(key)))
        })
    }

    fn optional<T, E: std::fmt::Display>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Failure> {
        if !self.values.contains_key(key) {
            return Ok(None);
        }
        self.parse(key, "", parse).map(Some)
    }

    fn flag(&self, key: &str) -> Result<bool, Failure> {
        self.parse(key, "false", |text| match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("it must be true or false"),
        })
    }

    /// Functions would reach the AWS API.
    fn open_to_functions(&self, key: &str, value: &str, instead: &str) -> Failure {
        Failure::usage(format!(
            "{} {value} would let functions use this server's AWS API and every other service of \
             this machine, and there are no credentials yet",
            self.name(key)
        ))
        .hint(format!("choose {instead}, or accept the risk with --insecure"))
    }

    /// What goes with functions that are plain processes.
    fn check_without_walls(
        &self,
        network: Option<Network>,
        insecure: bool,
        is_root: bool,
    ) -> Result<(), Failure> {
        let text = |key| self.values.get(key).map_or("", |(text, _)| text.as_str());
        let process = format!("{} process", self.name("isolation"));
        let needs_walls = |what: String, why: &str| {
            Err(Failure::usage(format!("{what} and {process} exclude each other: {why}"))
                .hint("leave one of them out"))
        };
        if !matches!(network, None | Some(Network::Host)) {
            let what = format!("{} {}", self.name("network"), text("network"));
            return needs_walls(what, "without walls functions are in this machine's own network");
        }
        let own_files = "without walls functions see this machine's own files";
        if !matches!(text("rootfs"), "" | "host") {
            return needs_walls(format!("{} {}", self.name("rootfs"), text("rootfs")), own_files);
        }
        if let Some((name, (_, source))) = self.roots.iter().next() {
            return needs_walls(format!("{name} under {}", source.name("rootfs")), own_files);
        }
        if text("cpu") == "aws" {
            let what = format!("{} aws", self.name("cpu"));
            return needs_walls(what, "without walls nothing limits what functions take");
        }
        if is_root {
            return Err(Failure::usage(format!(
                "{process} is refused to root: every function would be root on this machine"
            ))
            .hint("run lambfold serve as an ordinary user, or choose namespace"));
        }
        if !insecure {
            return Err(self.open_to_functions("isolation", "process", "namespace"));
        }
        Ok(())
    }

    fn name(&self, key: &str) -> String {
        self.values.get(key).map_or_else(|| format!("--{key}"), |(_, source)| source.name(key))
    }
}

fn rootfs_of(text: &str) -> Result<Rootfs, &'static str> {
    match text {
        "host" => Ok(Rootfs::Host),
        dir if Path::new(dir).is_dir() => std::path::absolute(dir)
            .map(Rootfs::Dir)
            .map_err(|_| "the folder that this runs in is gone"),
        _ => Err("it is neither host nor a folder"),
    }
}

/// `512MiB`, `4G`, …: units are binary, whatever their spelling.
fn size_mib(text: &str) -> Result<u64, &'static str> {
    const WHY: &str = "it must look like 512MiB or 4GiB, and be at least 128MiB";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| WHY)?;
    let unit_mib = match unit.trim().to_ascii_lowercase().as_str() {
        "m" | "mb" | "mib" => 1,
        "g" | "gb" | "gib" => 1 << 10,
        "t" | "tb" | "tib" => 1 << 20,
        _ => return Err(WHY),
    };
    let size = number.checked_mul(unit_mib).ok_or(WHY)?;
    if size < u64::from(*limits::MEMORY_MIB.start()) { Err(WHY) } else { Ok(size) }
}

fn default_data_dir(variable: &impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Failure> {
    if lambfold_sandbox::is_root() {
        return Ok(PathBuf::from("/var/lib/lambfold"));
    }
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").map(|home| home.join(".local/share"));
    match absolute("XDG_DATA_HOME").or_else(home) {
        Some(base) => Ok(base.join("lambfold")),
        None => Err(Failure::usage("there is no folder for data: HOME is not set")
            .hint("name one with --data-dir, or keep nothing with --ephemeral")),
    }
}

#[cfg(test)]
mod tests;
