//! Programs in a real terminal: a tmux of the test's own, keys typed into it, its screen read.

use crate::e2e::harness::lambfold;
use lambfold_testkit::{TempServer, wait_for};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// Size of a terminal unless the test asks for another one, columns and rows.
const SIZE: (u16, u16) = (100, 30);
/// Longest wait for a screen; only a failed test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal in which one shell runs. Dropping it kills the shell, whatever runs in it, and the
/// tmux server.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// Holds tmux's socket: servers of other tests, and of who runs them, are not touched.
    folder: tempfile::TempDir,
}

impl Terminal {
    /// A terminal of 100 columns and 30 rows whose programs know `server` and find `lambfold` on
    /// their path.
    pub(crate) fn of(server: &TempServer) -> Self {
        Self::sized(server, SIZE.0, SIZE.1)
    }

    /// The like with this many columns and rows.
    pub(crate) fn sized(server: &TempServer, columns: u16, rows: u16) -> Self {
        let terminal = Self { folder: tempfile::tempdir().unwrap() };
        let programs = lambfold();
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", programs.parent().unwrap().display());
        let mut command = server.client(Path::new("tmux"));
        // A shell that reads no file of who runs the tests, in a folder of its own.
        command
            .args(terminal.options())
            .args(["new-session", "-d", "-s", "test"])
            .args(["-x", &columns.to_string(), "-y", &rows.to_string()])
            .args([
                "env",
                "-u",
                "TMUX",
                "-u",
                "TMUX_PANE",
                "PS1=$ ",
                "bash",
                "--norc",
                "--noprofile",
            ])
            .env("PATH", path)
            .env("HISTFILE", "")
            .env("LANG", "C.UTF-8")
            .env("LC_ALL", "C.UTF-8")
            .current_dir(terminal.folder.path())
            .env_remove("TMUX");
        checked(&mut command);
        terminal.wait("the shell's prompt", |screen| screen.starts_with('$'));
        terminal
    }

    fn options(&self) -> [String; 4] {
        let socket = self.folder.path().join("tmux");
        ["-f", "/dev/null", "-S", socket.to_str().unwrap()].map(str::to_owned)
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        checked(Command::new("tmux").args(self.options()).args(arguments).env_remove("TMUX"))
    }

    /// The folder in which the terminal's shell starts; empty but for tmux's socket.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Types this text, character by character, as it is.
    pub(crate) fn text(&self, text: &str) {
        self.tmux(&["send-keys", "-t", "test", "-l", "--", text]);
    }

    /// Presses keys by tmux's names: `Enter`, `C-c`, `C-d`, `Up`, `Tab`, `Escape`, …
    pub(crate) fn keys(&self, names: &[&str]) {
        let mut arguments = vec!["send-keys", "-t", "test"];
        arguments.extend_from_slice(names);
        self.tmux(&arguments);
    }

    /// Types a line and Enter.
    pub(crate) fn line(&self, line: &str) {
        self.text(line);
        self.keys(&["Enter"]);
    }

    /// Gives the terminal another size, as a user does with the mouse.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.tmux(&["resize-window", "-t", "test", "-x", &columns, "-y", &rows]);
    }

    /// What stands on the screen now: lines without the blanks at their ends, no empty lines at
    /// the end. A line that was too long for the screen is one line here.
    pub(crate) fn screen(&self) -> String {
        let output = self.tmux(&["capture-pane", "-p", "-J", "-t", "test"]);
        tidy(&String::from_utf8_lossy(&output.stdout))
    }

    /// Like [`screen`](Self::screen), with the lines that have left it at the top.
    pub(crate) fn history(&self) -> String {
        let output = self.tmux(&["capture-pane", "-p", "-J", "-S", "-", "-t", "test"]);
        tidy(&String::from_utf8_lossy(&output.stdout))
    }

    /// Waits until the screen is as `condition` wants it, and returns it. A test that waits in
    /// vain fails with the screen that it saw last.
    pub(crate) fn wait(&self, what: &str, mut condition: impl FnMut(&str) -> bool) -> String {
        let mut last = String::new();
        let found = wait_for(what, PATIENCE, || {
            last = self.screen();
            condition(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|error| panic!("{error}; the screen:\n{}", framed(&last)))
    }

    /// Waits until the screen shows this text, and returns the screen.
    pub(crate) fn wait_for_text(&self, text: &str) -> String {
        self.wait(&format!("{text:?} on the screen"), |screen| screen.contains(text))
    }

    /// Empties the screen, where the shell waits for a line.
    pub(crate) fn clear(&self) {
        self.keys(&["C-l"]);
        self.wait("an empty screen", |screen| screen == "$");
    }

    /// Runs a command line of the shell to its end and returns the status that it ended with.
    /// Leaves the screen as it is afterwards; the end of an earlier one must not stand on it.
    pub(crate) fn run(&self, line: &str) -> i32 {
        self.line(&format!("{line}; echo \"ended:$?\""));
        self.ended()
    }

    /// Waits for the end of a command that was typed with `; echo "ended:$?"` behind it.
    pub(crate) fn ended(&self) -> i32 {
        let status = |screen: &str| -> Option<i32> {
            // As a line of its own: the typed command has a quotation mark behind it.
            screen.lines().rev().find_map(|line| line.strip_prefix("ended:")?.parse().ok())
        };
        status(&self.wait("the command's end", |screen| status(screen).is_some())).unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(self.options()).arg("kill-server").output();
    }
}

fn checked(command: &mut Command) -> Output {
    let output = command.output().expect("tmux is missing: run `tools/setup test`");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    output
}

fn tidy(screen: &str) -> String {
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

fn framed(screen: &str) -> String {
    screen.lines().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "| {line}");
        text
    })
}

#[test]
fn a_command_is_typed_and_its_screen_is_read() {
    let server = crate::e2e::harness::server();
    let terminal = Terminal::of(&server);
    assert_eq!(terminal.run("lambfold invoke nobody"), 1);
    let screen = terminal.screen();
    assert!(screen.contains("Function not found: arn:aws:lambda:"), "{screen}");
    // Keys that are not text, and another size.
    terminal.clear();
    terminal.resize(60, 12);
    terminal.line("stty size");
    terminal.wait_for_text("12 60");
    // The interrupt is for cat, which has to be there.
    terminal.line("sh -c 'echo up; exec cat'");
    terminal.wait_for_text("\nup");
    terminal.keys(&["C-c"]);
    terminal.wait_for_text("^C");
    assert_eq!(terminal.run("(exit 7)"), 7);
    assert!(terminal.history().contains("stty size"));
    assert!(terminal.folder().join("tmux").exists());
}

#[test]
fn starters_events_the_kit_and_completions_at_a_terminal() {
    let server = crate::e2e::harness::server();
    let terminal = Terminal::sized(&server, 120, 40);
    assert_eq!(terminal.run("lambfold init bash hello"), 0);
    let screen = terminal.screen();
    assert!(screen.contains("wrote hello/function.sh\nnext:\nlambfold dev hello\n"), "{screen}");
    terminal.clear();
    assert_eq!(terminal.run("lambfold init bash hello"), 1);
    let screen = terminal.screen();
    assert!(screen.contains("the folder hello is not empty: it has function.sh"), "{screen}");
    terminal.clear();
    assert_eq!(terminal.run("lambfold events list | head -n 1"), 0);
    // The hint, which goes to the terminal itself, stands before or behind it.
    assert!(terminal.screen().contains("\nhello-world "), "{}", terminal.screen());
    terminal.clear();
    assert_eq!(terminal.run("lambfold events generate hello-world --set key1=Ada"), 0);
    let event = "{\n  \"key1\": \"Ada\",\n  \"key2\": \"value2\",\n  \"key3\": \"value3\"\n}";
    assert!(terminal.screen().contains(event), "{}", terminal.screen());
    terminal.clear();
    let bootstrap = crate::e2e::harness::bin("conform-lambda-runtime");
    assert_eq!(terminal.run(&format!("cp {} bootstrap", bootstrap.display())), 0);
    terminal.clear();
    assert_eq!(terminal.run("lambfold conform bootstrap --case start --case next-*"), 0);
    let screen = terminal.screen();
    assert!(screen.contains("pass  start "), "{screen}");
    assert!(screen.contains(" passed, 0 failed"), "{screen}");
    terminal.clear();
    assert_eq!(terminal.run("source <(lambfold completions bash)"), 0);
    terminal.clear();
    terminal.text("lambfold conf");
    terminal.keys(&["Tab"]);
    terminal.wait_for_text("$ lambfold conform");
}
