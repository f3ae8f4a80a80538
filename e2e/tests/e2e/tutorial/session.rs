//! A reader at a terminal: one shell for all pages, in a home folder of its own, with `lambfold` and
//! `aws` on the path and the server of the other terminal.

use super::super::harness::{lambfold, root, server, venv};
use super::compare::compare;
use super::markdown::{Place, Step};
use lambfold_testkit::TempServer;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// What the pages ask a reader to start in the first terminal.
const SERVER: &str = "lambfold serve --ephemeral";

/// Longest time for all pages, seconds: many programs are started, maybe on a busy machine.
const LIMIT_S: u32 = 1800;

/// Stands between the outputs of two blocks, with the worst exit status of the first.
const MARK: &str = "\u{1e}block";

/// The AWS CLI for commands that need a real account. It builds and validates the request as ever,
/// and sends it to where nobody listens.
const CHECKING_AWS: &str = "#!/bin/sh\n\
    export AWS_ENDPOINT_URL=http://127.0.0.1:1 AWS_MAX_ATTEMPTS=1 AWS_DEFAULT_REGION=us-east-1\n\
    export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any\n\
    said=$(\"$(dirname \"$0\")/../bin/aws\" \"$@\" 2>&1)\n\
    case $said in\n\
    *'Could not connect to the endpoint URL'*) echo checked ;;\n\
    *) echo \"$said\"; exit 1 ;;\n\
    esac\n";

pub(crate) struct Session {
    server: Option<TempServer>,
    folder: TempDir,
}

impl Session {
    pub(crate) fn start() -> Self {
        Self { server: Some(server()), ..Self::without_server() }
    }

    pub(crate) fn without_server() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["bin", "checking", "home", "blocks"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        symlink(lambfold(), folder.path().join("bin/lambfold")).unwrap();
        symlink(venv("aws"), folder.path().join("bin/aws")).unwrap();
        let checking = folder.path().join("checking/aws");
        std::fs::write(&checking, CHECKING_AWS).unwrap();
        std::fs::set_permissions(&checking, PermissionsExt::from_mode(0o755)).unwrap();
        Self { server: None, folder }
    }

    pub(crate) fn log(&self) -> String {
        self.server.as_ref().map(TempServer::log).unwrap_or_default()
    }

    /// Runs the steps in one shell; what is wrong, each with its place.
    pub(crate) fn run(&self, steps: &[Step]) -> Vec<String> {
        let mut script = "trap '__status=$?' ERR\n".to_owned();
        let mut wrong = Vec::new();
        let mut run: Vec<&Step> = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            if step.place == Place::Server {
                if step.code.trim() != SERVER {
                    wrong.push(format!("{}: not the server of this test: {SERVER}", step.at));
                }
                continue;
            }
            let file = self.folder.path().join(format!("blocks/{number}.sh"));
            std::fs::write(&file, &step.code).unwrap();
            let block = match step.place {
                Place::Aws => format!("(PATH=$__checking:$PATH; . '{}')", file.display()),
                _ => format!(". '{}'", file.display()),
            };
            script.push_str(&format!("__status=0\n{block}\nprintf '{MARK} %s\\n' \"$__status\"\n"));
            run.push(step);
        }
        let output = self.shell(&script);
        let mut rest = output.as_str();
        for step in run {
            match take_block(&mut rest) {
                Some((shown, "0")) => {
                    let compared = step.output.as_ref().map_or(Ok(()), |text| compare(text, shown));
                    wrong.extend(compared.err().map(|what| format!("{}: {what}", step.at)));
                }
                Some((shown, status)) => {
                    wrong.push(format!("{}: a command ended with {status}:\n{shown}", step.at));
                }
                None => {
                    wrong.push(format!("{}: the shell ended here:\n{rest}", step.at));
                    return wrong;
                }
            }
        }
        wrong
    }

    /// What a terminal shows while bash runs the script.
    fn shell(&self, script: &str) -> String {
        let folder = self.folder.path();
        let file = folder.join("reader.sh");
        std::fs::write(&file, script).unwrap();
        let bash = format!("timeout {LIMIT_S} bash --norc --noprofile '{}'", file.display());
        let mut command = self.client(Path::new("script"));
        // util-linux's script: a terminal, since programs print in another way to a pipe.
        command.args(["-q", "-e", "-c", &bash, "/dev/null"]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n")
    }

    fn client(&self, program: &Path) -> Command {
        let folder = self.folder.path();
        let mut command = Command::new(program);
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", folder.join("bin").display());
        command
            .env_clear()
            .env("PATH", path)
            .env("__checking", folder.join("checking"))
            .env("HOME", folder.join("home"))
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb")
            .env("NO_COLOR", "1")
            .env("AWS_PAGER", "")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .current_dir(root());
        if let Some(server) = &self.server {
            command.env("AWS_ENDPOINT_URL", server.url());
        }
        command
    }
}

/// The output of the next block and its worst exit status.
fn take_block<'a>(rest: &mut &'a str) -> Option<(&'a str, &'a str)> {
    let (shown, after) = rest.split_once(MARK)?;
    let (status, after) = after.split_once('\n')?;
    *rest = after;
    Some((shown, status.trim()))
}
