//! The runtime's own folder in /tmp: settings for PHP, and the sockets it is spoken to through.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Config;

const SETTINGS: &str = include_str!("ini.ini");
const DRIVER: &str = include_str!("driver.php");

/// What PHP itself and its caches take beside what scripts allocate, in MiB.
const OWN_MEMORY_MIB: u64 = 32;

/// The folder; removed when dropped.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    sockets: AtomicU64,
    /// What every PHP gets in its environment.
    environment: Vec<(&'static str, OsString)>,
}

impl Home {
    pub(crate) fn create(config: &Config) -> io::Result<Home> {
        // One bootstrap has one. After a reset of the environment the number may come again, and
        // then the folder of the earlier one is still there.
        let path = env::temp_dir().join(format!(".lambfold-php-{}", std::process::id()));
        let make = || DirBuilder::new().mode(0o700).create(&path);
        if let Err(error) = make() {
            if error.kind() != ErrorKind::AlreadyExists {
                return Err(error);
            }
            fs::remove_dir_all(&path)?;
            make()?;
        }
        let mut home = Home { path, sockets: AtomicU64::new(0), environment: Vec::new() };
        home.environment = home.write_settings(config)?;
        Ok(home)
    }

    fn write_settings(&self, config: &Config) -> io::Result<Vec<(&'static str, OsString)>> {
        let settings = self.path.join("ini");
        fs::create_dir(&settings)?;
        let mut text = SETTINGS.to_owned();
        if let Some(limit) = config.memory_mib.map(memory_limit_mib) {
            text.push_str(&format!(
                "; A little less than the function has: a page that takes too much is a 500, and not\n\
                 ; the end of the runtime.\nmemory_limit = {limit}M\n"
            ));
        }
        fs::write(settings.join("00-lambfold.ini"), text)?;
        fs::write(self.driver(), DRIVER)?;
        let own = config.root.join("php.ini");
        if own.is_file() {
            symlink(&own, settings.join("10-function.ini"))?;
        }
        // Later ones win. An empty one is what PHP was built with.
        let first = config.php.home.as_ref().map(|home| home.join("conf.d"));
        let mut scan = vec![
            first.unwrap_or_default(),
            PathBuf::from("/opt/php/conf.d"),
            settings,
            config.root.join("php/conf.d"),
        ];
        scan.extend(config.php.scan.as_ref().map(PathBuf::from));
        let mut text = OsString::new();
        for (index, folder) in scan.iter().enumerate() {
            if index > 0 {
                text.push(":");
            }
            text.push(folder);
        }
        let mut environment = vec![("PHP_INI_SCAN_DIR", text)];
        // Without it the php.ini of the system around would be read.
        if let (Some(home), false) = (&config.php.home, config.php.has_rc) {
            environment.push(("PHPRC", home.join("php.ini").into_os_string()));
        }
        Ok(environment)
    }

    /// The script that runs callables.
    pub(crate) fn driver(&self) -> PathBuf {
        self.path.join("driver.php")
    }

    /// A command for a PHP with the function's settings.
    pub(crate) fn command(&self, program: &Path, config: &Config) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&config.root);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    /// A socket of its own for a PHP, and where it is.
    pub(crate) fn listen(&self) -> io::Result<(UnixListener, Socket)> {
        let number = self.sockets.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{number}.sock"));
        Ok((UnixListener::bind(&path)?, Socket(path)))
    }
}

/// The path of a socket; removed when dropped. What is connected stays connected.
#[derive(Debug)]
pub(crate) struct Socket(PathBuf);

impl Socket {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The folder goes with the runtime in any case.
        let _ = fs::remove_file(&self.0);
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // In /tmp, which ends with the environment.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn memory_limit_mib(function_mib: u64) -> u64 {
    function_mib.saturating_sub((function_mib / 8).max(OWN_MEMORY_MIB)).max(OWN_MEMORY_MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_get_what_php_leaves() {
        assert_eq!(memory_limit_mib(128), 96);
        assert_eq!(memory_limit_mib(256), 224);
        assert_eq!(memory_limit_mib(1024), 896);
        assert_eq!(memory_limit_mib(10_240), 8960);
        assert_eq!(memory_limit_mib(16), 32);
    }
}
